//! Where a VM's files lie on its host. Every name carries what made the process or the leftover, so
//! that a restarted agent knows whose each is, and touches no other.
//!
//! ```text
//! DISKS/VM.EPOCH.OWNER/disk0, disk1…   written by QEMU's user, in a folder that is root's
//! DISKS/VM.EPOCH.OWNER/console, qemu.log
//! DISKS/VM.EPOCH.OWNER/reserved        while the disks are a target's that never ran
//! DISKS/VM.moved-EPOCH                 what a move left
//! SOCKETS/VM.EPOCH.work, .emergency, .watch   monitors of the process made in that epoch
//! SOCKETS/VM.EPOCH.disk, .memory       that move's channels: at the target QEMU listens here, at
//!                                      the source the proxy, whose tunnel.entrances this folder is
//! ```

mod process;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use placement::{Epoch, Release, VmName};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

use crate::config::User;
pub use process::{Kind, ProcessFolder};

/// Longest path of a unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why files are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused.
    #[error("{}: cannot be {action}; check that the disk has room and who owns the folder", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What was being done to it.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The sockets' folder may be entered by others.
    #[error("{}: others may enter this folder of sockets (mode {mode:04o}); run: chmod 700 {}", path.display(), path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The sockets' folder is neither ours nor QEMU's.
    #[error("{}: this folder of sockets belongs to user {uid}; give agent and proxy one of their own as folders.sockets and tunnel.entrances", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// QEMU's user does not get to a folder.
    #[error("{}: QEMU's user cannot get through this folder (mode {mode:04o}); run: chmod o+x {}", path.display(), path.display())]
    Unreachable {
        /// What lies in the way.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A socket could not have this name.
    #[error("{}: is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path; choose a shorter folders.sockets", .0.display())]
    LongPath(PathBuf),
    /// A seat's disk is gone.
    #[error("{}: the VM's disk is missing; restore it from a backup", .0.display())]
    NoDisk(PathBuf),
}

/// A VM's monitors, each for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitor {
    /// The agent's own.
    Work,
    /// The agent's, for when the first is stuck.
    Emergency,
    /// Anybody else's who may enter the folder.
    Watch,
}

/// What a move's channels carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The mirrors of all disks.
    Disk,
    /// Memory and device state.
    Memory,
}

/// The two folders of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Of disks.
    pub disks: PathBuf,
    /// Of sockets, 0700.
    pub sockets: PathBuf,
}

impl Folders {
    /// Makes both where they are missing, and gives the sockets' to QEMU's user, whoever made it:
    /// the proxy may have been first.
    ///
    /// # Errors
    /// They cannot be made, or the sockets' is open to others, or is another's.
    pub fn open(&self, user: &User) -> Result<(), FolderError> {
        make_folder(&self.disks, 0o711)?;
        let sockets = &self.sockets;
        if !sockets.exists() {
            make_folder(sockets, 0o700)?;
        }
        let metadata = fs::metadata(sockets).map_err(failed(sockets, "looked at"))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FolderError::Open { path: sockets.clone(), mode });
        }
        let uid = metadata.uid();
        if uid != user.uid && uid != geteuid().as_raw() {
            return Err(FolderError::Foreign { path: sockets.clone(), uid });
        }
        if (uid, metadata.gid()) != (user.uid, user.gid) {
            let owned = chown(sockets, Some(user.uid), Some(user.gid));
            owned.map_err(failed(sockets, "given to QEMU's user"))?;
        }
        is_reached(&self.disks, user)?;
        is_reached(sockets, user)
    }

    /// The files of the process that `made_by` made.
    #[must_use]
    pub fn of(&self, vm: &VmName, made_by: &Release) -> ProcessFolder {
        let name = process_name(vm, made_by);
        ProcessFolder { path: self.disks.join(name) }
    }

    /// What a move left.
    #[must_use]
    pub fn leftover(&self, vm: &VmName, left_by: &Release) -> ProcessFolder {
        ProcessFolder { path: self.disks.join(format!("{vm}.moved-{}", left_by.epoch)) }
    }

    /// A monitor of the process made in `epoch`.
    ///
    /// # Errors
    /// Its path is too long.
    pub fn monitor(
        &self,
        vm: &VmName,
        epoch: Epoch,
        monitor: Monitor,
    ) -> Result<PathBuf, FolderError> {
        let what = match monitor {
            Monitor::Work => "work",
            Monitor::Emergency => "emergency",
            Monitor::Watch => "watch",
        };
        self.socket(vm, epoch, what)
    }

    /// One end of a channel of the move `epoch`.
    ///
    /// # Errors
    /// Its path is too long.
    pub fn channel(
        &self,
        vm: &VmName,
        epoch: Epoch,
        channel: Channel,
    ) -> Result<PathBuf, FolderError> {
        let what = match channel {
            Channel::Disk => "disk",
            Channel::Memory => "memory",
        };
        self.socket(vm, epoch, what)
    }

    /// Removes the sockets of a process that has ended; those of the move it was made for too. One
    /// that somebody listens on is another's, and stays.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_sockets(&self, vm: &VmName, epoch: Epoch) -> Result<(), FolderError> {
        for what in ["work", "emergency", "watch", "disk", "memory"] {
            let path = self.socket(vm, epoch, what)?;
            if !is_listened_on(&path) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn socket(&self, vm: &VmName, epoch: Epoch, what: &str) -> Result<PathBuf, FolderError> {
        let path = self.sockets.join(format!("{vm}.{epoch}.{what}"));
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(FolderError::LongPath(path));
        }
        Ok(path)
    }
}

/// What a process of `vm` is called: in its folder and in QEMU's `-name`. Names of VMs have no dot.
#[must_use]
pub fn process_name(vm: &VmName, made_by: &Release) -> String {
    format!("{vm}.{}.{}", made_by.epoch, made_by.owner)
}

/// The release in a process's name, if it is one of `vm`.
#[must_use]
pub fn made_by(vm: &VmName, name: &str) -> Option<Release> {
    let rest = name.strip_prefix(vm.as_str())?.strip_prefix('.')?;
    let (epoch, owner) = rest.split_once('.')?;
    let release = Release { epoch: Epoch::new(epoch.parse().ok()?), owner: owner.parse().ok()? };
    (process_name(vm, &release) == name).then_some(release)
}

fn failed<'p>(path: &'p Path, action: &'static str) -> impl FnOnce(io::Error) -> FolderError + 'p {
    move |source| FolderError::System { path: path.to_owned(), action, source }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), FolderError> {
    // QEMU's user must get through what lies above.
    if let Some(above) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)
            .map_err(failed(above, "made"))?;
    }
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed(path, "made"))?;
    // Whatever the process's own mask took away.
    let wanted = Permissions::from_mode(mode);
    fs::set_permissions(path, wanted).map_err(failed(path, "given its mode"))
}

/// Whether `user` gets as far as what lies above `path`; else its QEMU would fail with less to say.
fn is_reached(path: &Path, user: &User) -> Result<(), FolderError> {
    let path = fs::canonicalize(path).map_err(failed(path, "looked at"))?;
    for above in path.ancestors().skip(1) {
        let metadata = fs::metadata(above).map_err(failed(above, "looked at"))?;
        let mode = metadata.permissions().mode() & 0o7777;
        let may_enter = match (metadata.uid() == user.uid, metadata.gid() == user.gid) {
            (true, _) => mode & 0o100,
            (false, true) => mode & 0o010,
            (false, false) => mode & 0o001,
        };
        if may_enter == 0 {
            return Err(FolderError::Unreachable { path: above.to_owned(), mode });
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "removed")(error))
        }
        _ => Ok(()),
    }
}

/// Asks without waiting: somebody whose backlog is full listens too.
fn is_listened_on(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let tried = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    !matches!(tried, Err(Errno::CONNREFUSED | Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(epoch: u64) -> Release {
        let owner = "serve.00000000000000ab".parse().unwrap();
        Release { epoch: Epoch::new(epoch), owner }
    }

    #[test]
    fn a_process_is_known_again_by_its_name_and_no_other_vms_is() {
        let vm: VmName = "web".parse().unwrap();
        let name = process_name(&vm, &release(7));
        assert_eq!(name, "web.7.serve.00000000000000ab");
        assert_eq!(made_by(&vm, &name), Some(release(7)));
        for other in ["web.07.serve.00000000000000ab", "web.moved-7", "web2.7.serve.00", "web", ""]
        {
            assert_eq!(made_by(&vm, other), None, "{other}");
        }
        assert_eq!(made_by(&"we".parse().unwrap(), &name), None);
    }

    #[test]
    fn the_folder_of_sockets_becomes_qemus_whoever_made_it_and_no_third_ones() {
        let outer = tempfile::tempdir().unwrap();
        fs::set_permissions(outer.path(), Permissions::from_mode(0o711)).unwrap();
        let user = User { name: "nobody".to_owned(), uid: 65_534, gid: 65_534 };
        let folders = Folders { disks: outer.path().join("d"), sockets: outer.path().join("s") };
        make_folder(&folders.sockets, 0o700).unwrap();
        for _ in 0..2 {
            folders.open(&user).unwrap();
            let seen = fs::metadata(&folders.sockets).unwrap();
            assert_eq!((seen.uid(), seen.gid()), (user.uid, user.gid));
        }
        fs::set_permissions(outer.path(), Permissions::from_mode(0o700)).unwrap();
        let error = folders.open(&user).unwrap_err();
        assert!(matches!(error, FolderError::Unreachable { .. }), "{error}");
        chown(&folders.sockets, Some(7), Some(7)).unwrap();
        let error = folders.open(&user).unwrap_err();
        assert!(matches!(error, FolderError::Foreign { uid: 7, .. }), "{error}");
        chown(&folders.sockets, Some(0), Some(0)).unwrap();
        fs::set_permissions(&folders.sockets, Permissions::from_mode(0o750)).unwrap();
        let error = folders.open(&user).unwrap_err();
        assert!(matches!(error, FolderError::Open { .. }), "{error}");
    }

    #[test]
    fn a_socket_that_somebody_listens_on_stays() {
        let outer = tempfile::tempdir().unwrap();
        let folders = Folders { disks: outer.path().join("d"), sockets: outer.path().to_owned() };
        let vm: VmName = "web".parse().unwrap();
        let listen = |what| {
            let path = folders.socket(&vm, Epoch::new(2), what).unwrap();
            (std::os::unix::net::UnixListener::bind(&path).unwrap(), path)
        };
        let ((alive, kept), (dead, gone)) = (listen("disk"), listen("memory"));
        drop(dead);
        folders.remove_sockets(&vm, Epoch::new(2)).unwrap();
        assert_eq!((kept.exists(), gone.exists()), (true, false));
        drop(alive);
    }

    #[test]
    fn a_socket_whose_path_would_be_cut_is_refused() {
        let folders = Folders { disks: "/d".into(), sockets: "/s".repeat(40).into() };
        let vm: VmName = "w".repeat(63).parse().unwrap();
        let error = folders.monitor(&vm, Epoch::FIRST, Monitor::Work).unwrap_err();
        assert!(matches!(error, FolderError::LongPath(_)));
    }
}
