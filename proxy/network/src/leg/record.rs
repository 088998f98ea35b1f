//! What a leg was before it was moved, on the disk: `down` gives it back after a crash too.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::NetworkError;
use crate::netlink::{Address, Route};

/// Changes with each start of the machine; interfaces begin anew then, and old records are void.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A leg in the network that it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) boot: String,
    pub(super) interface: String,
    pub(super) addresses: Vec<Address>,
    /// Those of its main table that nobody sets by himself with an address; the interface's number
    /// in them is void.
    pub(super) routes: Vec<Route>,
    pub(super) is_up: bool,
}

/// The boot's name.
pub(super) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT)?.trim().to_owned())
}

/// The record of this boot, if there is one.
pub(super) fn read(path: &Path, interface: &str) -> Result<Option<Record>, NetworkError> {
    let failed = |source| NetworkError::Record { path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    let is_of_now = record.boot == boot().map_err(failed)? && record.interface == interface;
    Ok(is_of_now.then_some(record))
}

/// Durable when this returns: only then may the leg be moved.
pub(super) fn write(path: &Path, record: &Record) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Record { path: path.to_owned(), source };
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed)
}

/// The leg has been given back.
pub(super) fn remove(path: &Path) -> Result<(), NetworkError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(NetworkError::Record { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
