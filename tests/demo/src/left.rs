//! What stays when the demo is over: the reports, and the programs' logs where something failed, in a
//! folder of the caller's, also under sudo.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lab::world::World;
use rustix::fs::{Gid, Uid, fchown};

use crate::error::DemoError;

/// Cargo marks the folder that it builds into, whatever its name.
const CARGOS_MARK: &str = "CACHEDIR.TAG";
const FOLDER: &str = "demo";

/// Where reports are left.
pub(crate) struct Left {
    folder: PathBuf,
    caller: Option<(Uid, Gid)>,
}

impl Left {
    /// In this folder; in cargo's target folder, if none is named.
    pub(crate) fn in_folder(named: Option<&Path>) -> Result<Left, DemoError> {
        let folder = named.map_or_else(beside_programs, |named| Ok(named.to_owned()))?;
        let left = Left { folder, caller: caller() };
        let is_new = !left.folder.exists();
        let failed = |cause| DemoError::File { what: "make", path: left.folder.clone(), cause };
        fs::create_dir_all(&left.folder).map_err(failed)?;
        if is_new {
            File::open(&left.folder).and_then(|folder| left.give(&folder)).map_err(failed)?;
        }
        Ok(left)
    }

    /// Leaves a file, in the place of one of the same name.
    pub(crate) fn leave(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DemoError> {
        let path = self.folder.join(name);
        let mut new = path.clone();
        new.as_mut_os_string().push(".new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            self.give(&file)?;
            fs::rename(&new, &path)
        };
        write().map_err(|cause| DemoError::File { what: "write", path: path.clone(), cause })?;
        Ok(path)
    }

    /// Removes a file that an earlier demo has left.
    pub(crate) fn remove(&self, name: &str) -> Result<(), DemoError> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(DemoError::File { what: "remove", path, cause })
            }
            _ => Ok(()),
        }
    }

    /// Leaves what all programs of the world have written to their logs.
    pub(crate) fn leave_logs(&self, world: &World) -> Result<(), DemoError> {
        for place in world.places() {
            for (name, text) in place.logs()? {
                let name = format!("{}.{name}.log", place.name());
                self.leave(&name, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Where.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn give(&self, file: &File) -> io::Result<()> {
        if let Some((user, group)) = self.caller {
            fchown(file, Some(user), Some(group))?;
        }
        Ok(())
    }
}

/// Who has called sudo, if somebody did.
fn caller() -> Option<(Uid, Gid)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    Some((Uid::from_raw(number("SUDO_UID")?), Gid::from_raw(number("SUDO_GID")?)))
}

fn beside_programs() -> Result<PathBuf, DemoError> {
    let program = std::env::current_exe().map_err(|cause| DemoError::File {
        what: "find",
        path: "/proc/self/exe".into(),
        cause,
    })?;
    let target = program.ancestors().find(|folder| folder.join(CARGOS_MARK).is_file());
    let folder = target.or(program.parent()).unwrap_or(Path::new("."));
    Ok(folder.join(FOLDER))
}
