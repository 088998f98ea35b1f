//! A folder that appears whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::PkiError;

/// Certificates are for everybody, keys for their owner.
pub(crate) const PUBLIC: u32 = 0o644;
pub(super) const SECRET: u32 = 0o600;
pub(crate) const FOLDER: u32 = 0o700;

/// One file of a folder to come.
pub(crate) struct Entry<'a> {
    /// Its path in the folder; at most one folder deep.
    pub(crate) path: &'a str,
    pub(crate) mode: u32,
    pub(crate) content: String,
}

/// Makes the folder `path` (0700) with these files in it, all on disk; gives their paths.
pub(super) fn create(path: &Path, entries: &[Entry<'_>]) -> Result<Vec<PathBuf>, PkiError> {
    let made = begin(path)?;
    let system = |source| PkiError::System { path: path.to_owned(), action: "filled", source };
    fill(made.path(), entries).map_err(system)?;
    finish(made, path)?;
    Ok(entries.iter().map(|entry| path.join(entry.path)).collect())
}

/// Makes a folder (0700) beside `path`, to be filled and then handed to [`finish`].
pub(crate) fn begin(path: &Path) -> Result<TempDir, PkiError> {
    let outer = outer(path);
    if !outer.is_dir() {
        return Err(PkiError::Nowhere { path: path.to_owned(), outer: outer.to_owned() });
    }
    let system = |source| PkiError::System { path: path.to_owned(), action: "made", source };
    tempfile::Builder::new()
        .prefix(".causeway-new-")
        .permissions(Permissions::from_mode(FOLDER))
        .tempdir_in(outer)
        .map_err(system)
}

/// Gives a folder that is whole its name: so it is there whole, and what was under that name already
/// makes the renaming fail, unless it was an empty folder.
pub(crate) fn finish(made: TempDir, path: &Path) -> Result<(), PkiError> {
    take_name(made, path)?;
    sync_outer(path)
}

/// Brings names in the folder that `path` stands in to disk.
pub(crate) fn sync_outer(path: &Path) -> Result<(), PkiError> {
    let system = |source| PkiError::System { path: path.to_owned(), action: "synced", source };
    File::open(outer(path)).and_then(|outer| outer.sync_all()).map_err(system)
}

fn outer(path: &Path) -> &Path {
    match path.parent() {
        Some(outer) if !outer.as_os_str().is_empty() => outer,
        _ => Path::new("."),
    }
}

/// Writes files into a folder, all of them to disk.
pub(crate) fn fill(folder: &Path, entries: &[Entry<'_>]) -> io::Result<()> {
    for entry in entries {
        let path = folder.join(entry.path);
        let inner = path.parent().unwrap_or(folder);
        if inner != folder && !inner.is_dir() {
            fs::create_dir(inner)?;
            fs::set_permissions(inner, Permissions::from_mode(FOLDER))?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.create_new(true).write(true).mode(entry.mode).open(&path)?;
        // Whatever the umask takes away from a certificate, whoever runs a daemon must get back.
        file.set_permissions(Permissions::from_mode(entry.mode))?;
        file.write_all(entry.content.as_bytes())?;
        file.sync_all()?;
        File::open(inner)?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

fn take_name(made: TempDir, path: &Path) -> Result<(), PkiError> {
    match fs::rename(made.path(), path) {
        Ok(()) => {
            // It has another name now, and nothing is to be removed under the old one.
            let _ = made.keep();
            Ok(())
        }
        Err(source) => match source.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                Err(PkiError::Exists { path: path.to_owned() })
            }
            _ => Err(PkiError::System { path: path.to_owned(), action: "put in place", source }),
        },
    }
}
