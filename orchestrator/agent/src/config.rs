//! What an agent is told: written by an operator, then checked.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::config::{
    Basics, ConfigError, Problems, Told, WrittenControl, WrittenIdentity, WrittenLog, WrittenState,
    beside, read,
};
use daemon::loaded::Configuration;
use placement::{PartName, Role};
use serde::Deserialize;
use toml::Spanned;

use crate::folders::Folders;

/// The program, unless the configuration names another.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Longest name of a network interface, in bytes.
const INTERFACE_BYTES_MAX: usize = 15;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site: Spanned<String>,
    name: Spanned<String>,
    control: WrittenControl,
    identity: WrittenIdentity,
    state: WrittenState,
    #[serde(default)]
    log: WrittenLog,
    qemu: WrittenQemu,
    folders: WrittenFolders,
    #[serde(default)]
    image: Vec<WrittenImage>,
    network: Spanned<Vec<WrittenNetwork>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenQemu {
    user: Spanned<String>,
    program: Option<Spanned<String>>,
    accelerator: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFolders {
    disks: Spanned<String>,
    sockets: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenImage {
    name: Spanned<String>,
    kernel: Spanned<String>,
    initramfs: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNetwork {
    name: Spanned<String>,
    bridge: Spanned<String>,
    proxy: Spanned<String>,
    proxy_address: Option<Spanned<String>>,
}

/// What an agent is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What every daemon is told.
    pub basics: Basics,
    /// Which agent of its site it is; its certificate must say the same.
    pub name: PartName,
    /// How QEMU is run.
    pub qemu: QemuConfig,
    /// Where disks and sockets lie.
    pub folders: Folders,
    /// What VMs boot, by name.
    pub images: Vec<Image>,
    /// What VMs are connected to, by name; at least one.
    pub networks: Vec<Network>,
}

/// How QEMU is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuConfig {
    /// As whom; never root.
    pub user: User,
    /// The program.
    pub program: PathBuf,
    /// What runs the guests' instructions.
    pub accelerator: Accelerator,
}

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// By name.
    pub name: String,
    /// By number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What runs the guests' instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU itself.
    Tcg,
}

/// What a VM boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What definitions call it.
    pub name: PartName,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initramfs: PathBuf,
}

/// What a VM's card is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What definitions call it.
    pub name: PartName,
    /// The bridge of this host.
    pub bridge: String,
    /// The proxy whose leg stands on it.
    pub proxy: PartName,
    /// Where that proxy's control server listens. Without it the agent cannot tell the proxy of a
    /// hold, and keeps no packets back on this network.
    pub proxy_address: Option<SocketAddr>,
}

impl Configuration for Config {
    const ROLE: Role = Role::Agent;

    fn read(path: &Path) -> Result<Config, ConfigError> {
        read(path, check)
    }

    fn basics(&self) -> &Basics {
        &self.basics
    }

    fn name(&self) -> Option<&PartName> {
        Some(&self.name)
    }
}

impl Config {
    /// The image of this name.
    #[must_use]
    pub fn image(&self, name: &PartName) -> Option<&Image> {
        self.images.iter().find(|image| image.name == *name)
    }

    /// The network of this name.
    #[must_use]
    pub fn network(&self, name: &PartName) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == *name)
    }
}

fn check(written: Written, problems: &mut Problems<'_>) -> Result<Config, Told> {
    let Written { site, name, control, identity, state, log, qemu, folders, image, network } =
        written;
    let basics = Basics::check(&site, &control, &identity, &state, &log, problems);
    let name = problems.parse("name", &name);
    let qemu = check_qemu(&qemu, problems);
    let disks = path("folders.disks", &folders.disks, problems);
    let sockets = path("folders.sockets", &folders.sockets, problems);
    let images = check_images(&image, problems);
    let networks = check_networks(&network, problems);
    Ok(Config {
        basics: basics?,
        name: name?,
        qemu: qemu?,
        folders: Folders { disks: disks?, sockets: sockets? },
        images: images?,
        networks: networks?,
    })
}

fn check_qemu(written: &WrittenQemu, problems: &mut Problems<'_>) -> Result<QemuConfig, Told> {
    let user = user(&written.user, problems);
    let program = match &written.program {
        Some(program) => path("qemu.program", program, problems),
        None => Ok(QEMU.into()),
    };
    let accelerator = match written.accelerator.get_ref().as_str() {
        "kvm" => Ok(Accelerator::Kvm),
        "tcg" => Ok(Accelerator::Tcg),
        _ => {
            let message = "is no accelerator; write kvm, or tcg where guests cannot run on it";
            Err(problems.at(written.accelerator.span(), "qemu.accelerator", message))
        }
    };
    Ok(QemuConfig { user: user?, program: program?, accelerator: accelerator? })
}

fn user(written: &Spanned<String>, problems: &mut Problems<'_>) -> Result<User, Told> {
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut at = |message| Err(problems.at(written.span(), "qemu.user", message));
    match find_user(&known, written.get_ref()) {
        Some(User { uid: 0, .. }) => {
            at("is root; QEMU must run as somebody who may do nothing else")
        }
        Some(user) => Ok(user),
        None => at("is no user in /etc/passwd; make one with: useradd --system NAME"),
    }
}

/// `NAME:x:UID:GID:…`
fn find_user(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut words = line.split(':');
        let found = words.next().filter(|found| *found == name)?;
        let (uid, gid) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
        Some(User { name: found.to_owned(), uid, gid })
    })
}

fn check_images(written: &[WrittenImage], problems: &mut Problems<'_>) -> Result<Vec<Image>, Told> {
    let mut images: Vec<Image> = Vec::new();
    let mut wrong = None;
    for image in written {
        let name = problems.parse::<PartName>("image.name", &image.name);
        let kernel = path("image.kernel", &image.kernel, problems);
        let initramfs = path("image.initramfs", &image.initramfs, problems);
        match (name, kernel, initramfs) {
            (Ok(name), Ok(_), Ok(_)) if images.iter().any(|known| known.name == name) => {
                wrong = Some(problems.at(image.name.span(), "image.name", TWICE));
            }
            (Ok(name), Ok(kernel), Ok(initramfs)) => images.push(Image { name, kernel, initramfs }),
            (Err(told), ..) | (_, Err(told), _) | (.., Err(told)) => wrong = Some(told),
        }
    }
    wrong.map_or(Ok(images), Err)
}

fn check_networks(
    written: &Spanned<Vec<WrittenNetwork>>,
    problems: &mut Problems<'_>,
) -> Result<Vec<Network>, Told> {
    let mut networks: Vec<Network> = Vec::new();
    let mut wrong = None;
    for network in written.get_ref() {
        let name = problems.parse::<PartName>("network.name", &network.name);
        let proxy = problems.parse::<PartName>("network.proxy", &network.proxy);
        let bridge = bridge(&network.bridge, problems);
        let address = network.proxy_address.as_ref().map(|text| proxy_address(text, problems));
        match (name, bridge, proxy, address.transpose()) {
            (Ok(name), Ok(_), Ok(_), Ok(_)) if networks.iter().any(|known| known.name == name) => {
                wrong = Some(problems.at(network.name.span(), "network.name", TWICE));
            }
            (Ok(name), Ok(bridge), Ok(proxy), Ok(proxy_address)) => {
                networks.push(Network { name, bridge, proxy, proxy_address });
            }
            (Err(told), ..) | (_, Err(told), ..) | (_, _, Err(told), _) | (.., Err(told)) => {
                wrong = Some(told);
            }
        }
    }
    if written.get_ref().is_empty() {
        let message = "is empty; add [[network]] for what VMs are connected to";
        wrong = Some(problems.at(written.span(), "network", message));
    }
    wrong.map_or(Ok(networks), Err)
}

const TWICE: &str = "stands twice; give each a name of its own";

fn bridge(written: &Spanned<String>, problems: &mut Problems<'_>) -> Result<String, Told> {
    let name = written.get_ref();
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if (1..=INTERFACE_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name.clone());
    }
    let message = "is no interface's name; write the bridge's, at most 15 bytes";
    Err(problems.at(written.span(), "network.bridge", message))
}

fn proxy_address(
    written: &Spanned<String>,
    problems: &mut Problems<'_>,
) -> Result<SocketAddr, Told> {
    written.get_ref().parse().map_err(|_| {
        let message = "is no address with a port; write 192.0.2.10:7401 or [2001:db8::10]:7401";
        problems.at(written.span(), "network.proxy_address", message)
    })
}

fn path(
    field: &str,
    written: &Spanned<String>,
    problems: &mut Problems<'_>,
) -> Result<PathBuf, Told> {
    if written.get_ref().is_empty() {
        return Err(problems.at(written.span(), field, "is empty; write a path"));
    }
    Ok(beside(problems.path(), Path::new(written.get_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"site = "a"
name = "hv1"
[control]
listen = "192.0.2.3:7402"
[identity]
certificate = "c.pem"
key = "k.pem"
authority = "ca.pem"
[state]
folder = "state"
[qemu]
user = "nobody"
accelerator = "tcg"
[folders]
disks = "/var/lib/causeway/disks"
sockets = "/run/causeway/agent"
[[image]]
name = "debian"
kernel = "/boot/vmlinuz"
initramfs = "/boot/initrd"
[[network]]
name = "app"
bridge = "br0"
proxy = "p1"
"#;

    fn parsed(text: &str) -> Result<Config, String> {
        let path = Path::new("/etc/causeway/agent.toml");
        daemon::config::parse(path, text.as_bytes(), check).map_err(|error| error.to_string())
    }

    #[test]
    fn a_sound_file_is_understood() {
        let config = parsed(SOUND).unwrap();
        assert_eq!(config.qemu.program, Path::new(QEMU));
        assert_eq!(config.network(&"app".parse().unwrap()).unwrap().bridge, "br0");
        assert_eq!(config.basics.state_folder, Path::new("/etc/causeway/state"));
        assert!(config.image(&"other".parse().unwrap()).is_none());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (from, to, named) in [
            ("\"nobody\"", "\"root\"", "agent.toml:12:8: 'qemu.user': is root"),
            ("\"nobody\"", "\"no-such-user\"", "'qemu.user': is no user"),
            ("\"tcg\"", "\"xen\"", "'qemu.accelerator'"),
            ("\"br0\"", "\"a/b\"", "'network.bridge'"),
            ("\"p1\"", "\"p1\"\nproxy_address = \"p1\"", "'network.proxy_address'"),
            ("bridge =", "brigde =", "unknown field 'brigde'"),
            ("name = \"hv1\"", "name = \"HV1\"", "'name'"),
        ] {
            let error = parsed(&SOUND.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
        let twice = format!("{SOUND}[[network]]\nname = \"app\"\nbridge = \"b\"\nproxy = \"p\"\n");
        assert!(parsed(&twice).unwrap_err().contains("stands twice"));
    }
}
