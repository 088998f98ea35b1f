//! What a daemon must remember over restarts and power cuts: one small file each.
//!
//! A file is replaced, never changed: written beside under another name, synced, renamed, and the
//! folder synced. Whoever reads it finds the old content or the new, whole. A checksum tells
//! everything else (a broken disk, a hand), and such a file is refused rather than half believed.
//!
//! ```text
//! causeway-state VERSION CRC32 LENGTH\n
//! JSON
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest content of a state file, unless said otherwise: these are records, not stores.
pub const STATE_BYTES_MAX: usize = 1024 * 1024;

const HEADER_BYTES_MAX: u64 = 64;
const MAGIC: &str = "causeway-state";
const LOCK: &str = ".lock";

/// Why a state file or its folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
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
    /// Others may look into the folder, or change what is in it.
    #[error("{}: this state folder is open to others (mode {mode:04o}); run: chmod 700 {}", path.display(), path.display())]
    FolderOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has the folder.
    #[error("{}: another process uses this state folder; stop it, or give each its own folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The file is not what was saved.
    #[error(
        "{}: is corrupt ({why}); restore it from a backup, or move it away if what it records is known to be obsolete",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What shows it.
        why: String,
    },
    /// A sound file, written by another version of the program.
    #[error("{}: has version {found}, and this program reads version {known}; run the version that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The version that can be read.
        known: u32,
    },
    /// The value is too large, or cannot be written as JSON.
    #[error("{}: this state cannot be saved ({why}); report it, with the log", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// A folder of state files that this process alone uses, until it and its files are dropped.
#[derive(Debug)]
pub struct StateFolder {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Opens the folder, and makes it (0700) where it is missing.
    ///
    /// # Errors
    /// It cannot be used, is open to others, or another process uses it.
    pub fn open(path: &Path) -> Result<StateFolder, StateError> {
        let system =
            |action| move |source| StateError::System { path: path.to_owned(), action, source };
        let outer = path.parent().filter(|outer| !outer.as_os_str().is_empty());
        let outer = outer.unwrap_or(Path::new("."));
        // What lies above is not ours alone: others' folders may lie there too.
        let made = DirBuilder::new().recursive(true).mode(0o755).create(outer);
        made.map_err(system("reached"))?;
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(system("made"))?;
        // Or a power cut could take the new folder, and all that is in it, with it.
        let outer = File::open(outer).map_err(system("synced"))?;
        outer.sync_all().map_err(system("synced"))?;
        let metadata = fs::metadata(path).map_err(system("looked at"))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StateError::FolderOpen { path: path.to_owned(), mode });
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(path.join(LOCK)).map_err(system("locked"))?;
        match lock.try_lock() {
            Ok(()) => {
                Ok(StateFolder { held: Arc::new(Held { path: path.to_owned(), _lock: lock }) })
            }
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(system("locked")(source)),
        }
    }

    /// The file `name` in the folder, whose content is a `T` of this version.
    #[must_use]
    pub fn file<T: Serialize + DeserializeOwned>(&self, name: &str, version: u32) -> StateFile<T> {
        StateFile {
            folder: Arc::clone(&self.held),
            name: name.to_owned(),
            version,
            bytes_max: STATE_BYTES_MAX,
            of: PhantomData,
        }
    }
}

/// One file that holds one `T`.
#[derive(Debug)]
pub struct StateFile<T> {
    folder: Arc<Held>,
    name: String,
    version: u32,
    bytes_max: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> StateFile<T> {
    /// The same file, whose content may have so many bytes: for what is collected, not remembered.
    #[must_use]
    pub fn up_to(self, bytes_max: usize) -> StateFile<T> {
        StateFile { bytes_max, ..self }
    }

    /// What was saved last; `None` where nothing ever was.
    ///
    /// # Errors
    /// Unreadable, corrupt, or of another version.
    pub fn load(&self) -> Result<Option<T>, StateError> {
        let path = self.path();
        let unreadable = |source| StateError::System { path: path.clone(), action: "read", source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unreadable(source)),
        };
        let mut bytes = Vec::new();
        let limit = self.bytes_max as u64 + HEADER_BYTES_MAX + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        self.decode(&bytes).map(Some)
    }

    /// Replaces what was saved by `value`. When this returns, a power cut does not undo it. After
    /// an error the file holds the old value or the new one, whole.
    ///
    /// # Errors
    /// The value cannot be written, or the disk cannot take it.
    pub fn save(&mut self, value: &T) -> Result<(), StateError> {
        let bytes = self.encode(value)?;
        self.write_beside(&bytes)?;
        self.put_in_place()?;
        self.sync_folder()
    }

    fn path(&self) -> PathBuf {
        self.folder.path.join(&self.name)
    }

    fn path_beside(&self) -> PathBuf {
        self.folder.path.join(format!(".{}.new", self.name))
    }

    fn encode(&self, value: &T) -> Result<Vec<u8>, StateError> {
        let unfit = |why| StateError::Unfit { path: self.path(), why };
        let content = serde_json::to_vec(value).map_err(|error| unfit(error.to_string()))?;
        if content.len() > self.bytes_max {
            let (bytes, most) = (content.len(), self.bytes_max);
            return Err(unfit(format!("{bytes} bytes, at most {most}")));
        }
        let (version, length) = (self.version, content.len());
        let checksum = checksum(version, &content);
        let mut bytes = format!("{MAGIC} {version} {checksum:08x} {length}\n").into_bytes();
        bytes.extend_from_slice(&content);
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, StateError> {
        let corrupt = |why: &str| StateError::Corrupt { path: self.path(), why: why.to_owned() };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (header, content) = end
            .and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)))
            .ok_or_else(|| corrupt("no header"))?;
        let header = std::str::from_utf8(header).map_err(|_| corrupt("no header"))?;
        let words: Vec<&str> = header.split(' ').collect();
        let [MAGIC, version, sum, length] = words[..] else {
            return Err(corrupt("no header"));
        };
        let version: u32 = version.parse().map_err(|_| corrupt("no version"))?;
        if length != content.len().to_string() {
            return Err(corrupt("cut short or grown"));
        }
        if sum != format!("{:08x}", checksum(version, content)) {
            return Err(corrupt("checksum differs"));
        }
        if version != self.version {
            let (path, known) = (self.path(), self.version);
            return Err(StateError::Version { path, found: version, known });
        }
        serde_json::from_slice(content).map_err(|error| corrupt(&error.to_string()))
    }

    fn write_beside(&self, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path_beside();
        let write = || {
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| StateError::System {
            path: path.clone(),
            action: "written",
            source,
        })
    }

    fn put_in_place(&self) -> Result<(), StateError> {
        let path = self.path();
        fs::rename(self.path_beside(), &path).map_err(|source| StateError::System {
            path,
            action: "replaced",
            source,
        })
    }

    fn sync_folder(&self) -> Result<(), StateError> {
        let path = self.folder.path.clone();
        File::open(&path)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| StateError::System { path, action: "synced", source })
    }
}

/// Over version and content: neither can change alone.
fn checksum(version: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
