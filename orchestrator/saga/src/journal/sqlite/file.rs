//! The file itself: its owner's alone, from its first byte on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::super::JournalError;
use super::system;

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Makes the file if there is none, and refuses one that is open to others. SQLite gives the files
/// that it makes beside it the same rights.
pub(super) fn prepare(path: &Path) -> Result<(), JournalError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path);
    match made {
        Ok(_) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path),
        Err(error) => Err(system(path, "making it", error)),
    }
}

fn check(path: &Path) -> Result<(), JournalError> {
    let metadata = fs::metadata(path).map_err(|error| system(path, "reading its rights", error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    let why = if !metadata.is_file() {
        "is not a file; give the path of a file".to_owned()
    } else if mode & OTHERS != 0 {
        format!("is open to others (mode {mode:04o}); run: chmod 600 {}", path.display())
    } else {
        return Ok(());
    };
    Err(JournalError::Unusable { journal: path.display().to_string(), why })
}

/// A new file is there after a power cut only when its folder has been synced.
fn sync_folder(path: &Path) -> Result<(), JournalError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| system(path, "syncing its folder", error))
}
