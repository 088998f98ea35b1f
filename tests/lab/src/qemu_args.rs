//! The command line of a QEMU whose VM can be moved: the lab's own, for moves by hand, which later
//! moves are measured against. Pure, but for [`Accelerator::probe`].

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::image::{GuestImage, INIT_UP};
use crate::world::Mac;

/// The program.
pub const QEMU: &str = "qemu-system-x86_64";

/// A versioned type: both ends of a move must mean the same machine, also with different QEMUs.
const MACHINE: &str = "pc-q35-7.2";

/// RAM of a multiple of this much is corrupted by moves under TCG in QEMU 7.2.
const EVEN_KIB: u32 = 256;

/// The memory of the lab's guests, unless a test has its reason: odd, see [`Memory::from_kib`].
pub const MEMORY_KIB: u32 = 262_016;

/// How long a guest under KVM may take to its first word before KVM counts as unusable.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);

/// What cannot be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QemuArgsError {
    /// Memory of a size that moves corrupt.
    #[error(
        "{0} KiB of memory is a multiple of {EVEN_KIB}, which moves under TCG corrupt; take 64 KiB less"
    )]
    EvenMemory(u32),
    /// A word that would be two on the kernel's command line.
    #[error("'{0}' cannot be a word of the kernel's command line; leave out blanks and quotes")]
    Word(String),
}

/// The size of a VM's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(u32);

impl Memory {
    /// So many KiB.
    ///
    /// # Errors
    /// A multiple of 256 KiB: a move under TCG that takes several passes corrupts it.
    pub fn from_kib(kib: u32) -> Result<Self, QemuArgsError> {
        if kib.is_multiple_of(EVEN_KIB) {
            Err(QemuArgsError::EvenMemory(kib))
        } else {
            Ok(Self(kib))
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(MEMORY_KIB)
    }
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU itself.
    Tcg,
}

impl Accelerator {
    /// KVM if a guest really runs on it, else TCG. Asks once for each start of this machine: the
    /// device can be opened, and even make VMs, where none runs.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn probe(image: &GuestImage) -> io::Result<Self> {
        let start = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let known = image.initramfs.with_file_name(format!("accelerator-{}", start.trim()));
        if let Ok(answer) = fs::read_to_string(&known) {
            return Ok(if answer == "kvm" { Self::Kvm } else { Self::Tcg });
        }
        let works = Path::new("/dev/kvm").exists() && a_guest_speaks(image, PROBE_TIME_MAX)?;
        // Asked again next time, if the answer cannot be kept.
        let _ = fs::write(&known, if works { "kvm" } else { "tcg" });
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }

    fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }
}

/// How a QEMU begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Boots.
    Boot,
    /// Waits to receive the VM, and then for the order to run it: never runs by itself.
    Receive,
}

/// One QEMU process: what of the VM is the same at both ends of a move, and where it touches its host.
#[derive(Debug, Clone)]
pub struct QemuProcess {
    /// The VM's name.
    pub name: String,
    /// The VM's identity.
    pub uuid: String,
    /// Its memory.
    pub memory: Memory,
    /// Its processors.
    pub processors: u8,
    /// What runs them.
    pub accelerator: Accelerator,
    /// What it boots.
    pub image: GuestImage,
    /// The guest's settings: words of the kernel's command line.
    pub words: Vec<String>,
    /// Its network card's address.
    pub mac: Mac,
    /// The host's end of that: a persistent tap, which QEMU opens by its name.
    pub tap: String,
    /// Its disk's image, raw.
    pub disk: PathBuf,
    /// Where its console is written.
    pub console: PathBuf,
    /// A monitor socket for each who needs one: each takes one client.
    pub monitors: Vec<PathBuf>,
}

impl QemuProcess {
    /// The arguments of [`QEMU`].
    ///
    /// # Errors
    /// A word that the kernel would read as several.
    pub fn arguments(&self, begin: Begin) -> Result<Vec<OsString>, QemuArgsError> {
        let mut arguments = Arguments::default();
        arguments.flag("-nodefaults").flag("-no-user-config").two("-display", "none");
        arguments.two("-name", escaped(&self.name)).two("-uuid", &self.uuid);
        arguments.two("-machine", MACHINE).two("-accel", self.accelerator.option());
        arguments.two("-cpu", "max").two("-smp", self.processors.to_string());
        arguments.two("-m", format!("{}K", self.memory.0));
        arguments.two("-kernel", &self.image.kernel).two("-initrd", &self.image.initramfs);
        arguments.two("-append", self.command_line()?);
        arguments.two("-serial", prefixed("file:", &self.console));
        for monitor in &self.monitors {
            let mut socket = prefixed("unix:", escaped(monitor));
            socket.push(",server=on,wait=off");
            arguments.two("-qmp", socket);
        }
        self.devices(&mut arguments);
        match begin {
            Begin::Boot => {}
            Begin::Receive => {
                arguments.two("-incoming", "defer").flag("-S");
            }
        }
        Ok(arguments.0)
    }

    fn command_line(&self) -> Result<String, QemuArgsError> {
        let unfit = |word: &&String| word.chars().any(|c| c.is_whitespace() || c == '"');
        if let Some(word) = self.words.iter().find(unfit) {
            return Err(QemuArgsError::Word(word.clone()));
        }
        let fixed = "console=ttyS0 quiet panic=-1";
        Ok(self.words.iter().fold(fixed.into(), |line: String, word| line + " " + word))
    }

    fn devices(&self, arguments: &mut Arguments) {
        let mut file = OsString::from("driver=file,node-name=disk0-file,discard=unmap,filename=");
        file.push(escaped(&self.disk));
        arguments.two("-blockdev", file);
        arguments.two("-blockdev", "driver=raw,node-name=disk0,file=disk0-file,discard=unmap");
        arguments.two("-device", "virtio-blk-pci,drive=disk0,bus=pcie.0,addr=3");
        let network = format!("tap,id=n0,ifname={},script=no,downscript=no,vhost=off", self.tap);
        arguments.two("-netdev", network);
        // Without a boot ROM: its memory would be one more thing to move.
        let card = format!("virtio-net-pci,netdev=n0,mac={},romfile=,bus=pcie.0,addr=2", self.mac);
        arguments.two("-device", card);
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn two(&mut self, flag: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(flag.into());
        self.0.push(value.as_ref().into());
        self
    }
}

fn prefixed(prefix: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut whole = OsString::from(prefix);
    whole.push(value);
    whole
}

/// QEMU ends an option's value at a comma, and takes two as one.
fn escaped(value: impl AsRef<OsStr>) -> OsString {
    let bytes = value.as_ref().as_bytes();
    let mut escaped = Vec::with_capacity(bytes.len());
    for byte in bytes {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    OsStr::from_bytes(&escaped).to_owned()
}

/// Whether a guest under KVM says its first word in time.
fn a_guest_speaks(image: &GuestImage, time_max: Duration) -> io::Result<bool> {
    let child = Command::new(QEMU)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", MACHINE, "-accel", "kvm", "-cpu", "max", "-m"])
        .arg(format!("{MEMORY_KIB}K"))
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1", "-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut child = Ended(child);
    let Some(console) = child.0.stdout.take() else { return Ok(false) };
    let (sender, spoken) = sync_channel(1);
    let reader = std::thread::spawn(move || {
        let mut lines = BufReader::new(console).lines().map_while(Result::ok);
        // Nobody waits for it any more once the time is over.
        let _ = sender.send(lines.any(|line| line.contains(INIT_UP)));
    });
    let works = spoken.recv_timeout(time_max).unwrap_or(false);
    drop(child);
    // The console has ended with its QEMU.
    let _ = reader.join();
    Ok(works)
}

/// A child that does not outlive its handle.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> QemuProcess {
        QemuProcess {
            name: "web".into(),
            uuid: "3d3f0b0e-0000-4000-8000-000000000001".into(),
            memory: Memory::default(),
            processors: 1,
            accelerator: Accelerator::Tcg,
            image: GuestImage { kernel: "/t/vmlinuz".into(), initramfs: "/t/i.cpio".into() },
            words: vec!["causeway.port=7".into()],
            mac: Mac([2, 0, 0, 0, 0, 0x1f]),
            tap: "tap0".into(),
            disk: "/t/a,b.img".into(),
            console: "/t/console".into(),
            monitors: vec!["/t/work".into(), "/t/wat,ch".into()],
        }
    }

    fn line(begin: Begin) -> String {
        let arguments = process().arguments(begin).unwrap();
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn the_machine_is_pinned_and_the_guest_gets_its_words() {
        let line = line(Begin::Boot);
        assert!(line.contains("-machine pc-q35-7.2 -accel tcg,thread=multi"), "{line}");
        assert!(line.contains("-append console=ttyS0 quiet panic=-1 causeway.port=7"), "{line}");
        assert!(line.contains("-m 262016K") && !line.contains("-incoming"), "{line}");
    }

    #[test]
    fn a_target_differs_in_nothing_but_that_it_waits() {
        let (boots, receives) = (line(Begin::Boot), line(Begin::Receive));
        assert_eq!(receives, format!("{boots} -incoming defer -S"));
    }

    #[test]
    fn a_comma_in_a_path_stays_part_of_it() {
        let line = line(Begin::Boot);
        assert!(line.contains("filename=/t/a,,b.img"), "{line}");
        assert!(line.contains("-qmp unix:/t/wat,,ch,server=on,wait=off"), "{line}");
    }

    #[test]
    fn the_tap_is_opened_by_name_and_no_script_touches_it() {
        let line = line(Begin::Boot);
        assert!(line.contains("tap,id=n0,ifname=tap0,script=no,downscript=no"), "{line}");
    }

    #[test]
    fn memory_that_moves_corrupt_is_refused() {
        assert_eq!(Memory::from_kib(262_144), Err(QemuArgsError::EvenMemory(262_144)));
        assert!(Memory::from_kib(MEMORY_KIB).is_ok() && Memory::from_kib(524_160).is_ok());
    }

    #[test]
    fn a_word_that_would_be_two_is_refused() {
        let words = vec!["causeway.port=7 init=/bin/sh".into()];
        let refused = QemuProcess { words, ..process() }.arguments(Begin::Boot);
        assert!(matches!(refused, Err(QemuArgsError::Word(_))));
    }
}
