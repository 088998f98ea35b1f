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
//!                                      the source whoever carries them
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use orchestrator_api::VmDefinition;
use placement::{Epoch, Release, VmName};

use crate::config::User;

/// Longest path of a unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// So much of QEMU's log goes into an error.
const COMPLAINT_BYTES_MAX: usize = 400;

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
    /// Makes both where they are missing.
    ///
    /// # Errors
    /// They cannot be made, or the sockets' is open to others.
    pub fn open(&self, user: &User) -> Result<(), FolderError> {
        make_folder(&self.disks, 0o711)?;
        let sockets = &self.sockets;
        if !sockets.exists() {
            make_folder(sockets, 0o700)?;
            let owned = chown(sockets, Some(user.uid), Some(user.gid));
            owned.map_err(failed(sockets, "given to QEMU's user"))?;
        }
        let metadata = fs::metadata(sockets).map_err(failed(sockets, "looked at"))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FolderError::Open { path: sockets.clone(), mode });
        }
        Ok(())
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

    /// Removes the sockets of a process that has ended; those of the move it was made for too.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_sockets(&self, vm: &VmName, epoch: Epoch) -> Result<(), FolderError> {
        for what in ["work", "emergency", "watch", "disk", "memory"] {
            remove_file(&self.socket(vm, epoch, what)?)?;
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

/// One process's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFolder {
    path: PathBuf,
}

impl ProcessFolder {
    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A disk's image, raw.
    #[must_use]
    pub fn disk(&self, index: usize) -> PathBuf {
        self.path.join(format!("disk{index}"))
    }

    /// What the guest says.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.path.join("console")
    }

    /// Makes folder and empty disks, whole or not at all. Disks that are there already stay.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn make(
        &self,
        definition: &VmDefinition,
        user: &User,
        kind: Kind,
    ) -> Result<(), FolderError> {
        if self.path.exists() {
            return Ok(());
        }
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let new = ProcessFolder { path: new.into() };
        new.remove()?;
        make_folder(&new.path, 0o711)?;
        for (index, disk) in definition.disks.iter().enumerate() {
            let path = new.disk(index);
            let file = new_file(&path, user)?;
            file.set_len(disk.bytes).map_err(failed(&path, "made so large"))?;
            file.sync_all().map_err(failed(&path, "synced"))?;
        }
        new_file(&new.console(), user)?;
        if kind == Kind::Target {
            let mark = new.mark();
            File::create(&mark).map_err(failed(&mark, "made"))?;
        }
        fs::rename(&new.path, &self.path).map_err(failed(&self.path, "put in place"))?;
        sync_above(&self.path)
    }

    /// Whether every disk of the definition is there.
    ///
    /// # Errors
    /// One is not.
    pub fn check(&self, definition: &VmDefinition) -> Result<(), FolderError> {
        let mut disks = (0..definition.disks.len()).map(|index| self.disk(index));
        disks.find(|disk| !disk.is_file()).map_or(Ok(()), |disk| Err(FolderError::NoDisk(disk)))
    }

    /// Where QEMU itself complains.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn log(&self) -> Result<File, FolderError> {
        let path = self.path.join("qemu.log");
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        options.open(&path).map_err(failed(&path, "opened"))
    }

    /// The last that QEMU complained of.
    #[must_use]
    pub fn complaint(&self) -> String {
        let text = fs::read(self.path.join("qemu.log")).unwrap_or_default();
        let from = text.len().saturating_sub(COMPLAINT_BYTES_MAX);
        String::from_utf8_lossy(text.get(from..).unwrap_or_default()).trim().to_owned()
    }

    /// Whether the disks are a target's that never ran.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.mark().exists()
    }

    /// From here on the disks are the VM's own. Before it runs on them.
    ///
    /// # Errors
    /// The mark cannot be removed.
    pub fn keep(&self) -> Result<(), FolderError> {
        let mark = self.mark();
        if mark.exists() {
            remove_file(&mark)?;
            sync_above(&mark)?;
        }
        Ok(())
    }

    /// Renames it, unless that was done.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn move_to(&self, to: &ProcessFolder) -> Result<(), FolderError> {
        if !self.path.exists() && to.path.exists() {
            return Ok(());
        }
        fs::rename(&self.path, &to.path).map_err(failed(&self.path, "set aside"))?;
        sync_above(&to.path)
    }

    /// Deletes it, if it is there.
    ///
    /// # Errors
    /// Something in it cannot be deleted.
    pub fn remove(&self) -> Result<(), FolderError> {
        match fs::remove_dir_all(&self.path) {
            Ok(()) => sync_above(&self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(failed(&self.path, "deleted")(source)),
        }
    }

    fn mark(&self) -> PathBuf {
        self.path.join("reserved")
    }
}

/// Whose disks they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A VM's that is to run on them.
    Own,
    /// A target's, to be filled.
    Target,
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

fn new_file(path: &Path, user: &User) -> Result<File, FolderError> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    let file = options.open(path).map_err(failed(path, "made"))?;
    let owned = chown(path, Some(user.uid), Some(user.gid));
    owned.map_err(failed(path, "given to QEMU's user"))?;
    Ok(file)
}

fn remove_file(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "removed")(error))
        }
        _ => Ok(()),
    }
}

fn sync_above(path: &Path) -> Result<(), FolderError> {
    let above = path.parent().unwrap_or(Path::new("/"));
    File::open(above).and_then(|folder| folder.sync_all()).map_err(failed(above, "synced"))
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
    fn a_socket_whose_path_would_be_cut_is_refused() {
        let folders = Folders { disks: "/d".into(), sockets: "/s".repeat(40).into() };
        let vm: VmName = "w".repeat(63).parse().unwrap();
        let error = folders.monitor(&vm, Epoch::FIRST, Monitor::Work).unwrap_err();
        assert!(matches!(error, FolderError::LongPath(_)));
    }
}
