//! One process's files: disks that are made whole or not at all, kept under a mark while they are a
//! target's that never ran, and set aside or deleted by name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use orchestrator_api::VmDefinition;

use super::{FolderError, failed, make_folder, remove_file};
use crate::config::User;

/// So much of QEMU's log goes into an error.
const COMPLAINT_BYTES_MAX: usize = 400;

/// One process's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFolder {
    pub(super) path: PathBuf,
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

fn new_file(path: &Path, user: &User) -> Result<File, FolderError> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    let file = options.open(path).map_err(failed(path, "made"))?;
    let owned = chown(path, Some(user.uid), Some(user.gid));
    owned.map_err(failed(path, "given to QEMU's user"))?;
    Ok(file)
}

fn sync_above(path: &Path) -> Result<(), FolderError> {
    let above = path.parent().unwrap_or(Path::new("/"));
    File::open(above).and_then(|folder| folder.sync_all()).map_err(failed(above, "synced"))
}
