//! One real VM at a time on the whole machine: two under emulation on two cores would each be too slow
//! for what the other's test waits for.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// Longest wait for others' VMs: a whole run of the tests beside this one.
pub const WAIT_MAX: Duration = Duration::from_secs(30 * 60);

const PATH: &str = "/run/lock/causeway-real-vm.lock";

/// Between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(100);

/// Why the lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum VmLockError {
    /// Somebody else has held it all the time.
    #[error("another test runs a real VM (process {holder}, which holds {path}); let it end first")]
    Held {
        /// Who, by its own word.
        holder: String,
        /// The lock.
        path: PathBuf,
    },
    /// The lock's file cannot be used.
    #[error("cannot use {path} as a lock; run as root")]
    Unusable {
        /// The lock.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The right to run a real VM. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct VmLock {
    _file: File,
}

impl VmLock {
    /// Waits at most `wait` for the right.
    ///
    /// # Errors
    /// Who has it, or why nobody can.
    pub fn take(wait: Duration) -> Result<Self, VmLockError> {
        Self::take_at(PATH.into(), wait)
    }

    fn take_at(path: PathBuf, wait: Duration) -> Result<Self, VmLockError> {
        match hold(&path, wait) {
            Ok(Some(file)) => Ok(Self { _file: file }),
            Ok(None) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.is_empty() { "unknown".into() } else { holder };
                Err(VmLockError::Held { holder, path })
            }
            Err(source) => Err(VmLockError::Unusable { path, source }),
        }
    }
}

fn hold(path: &Path, wait: Duration) -> io::Result<Option<File>> {
    let mut file = open(path)?;
    let until = Instant::now() + wait;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() >= until => return Ok(None),
            Err(Errno::WOULDBLOCK) => thread::sleep(TRY_INTERVAL),
            Err(error) => return Err(error.into()),
        }
    }
    // For whoever waits: who it is that they wait for.
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    write!(file, "{}", std::process::id())?;
    Ok(Some(file))
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // The folder is everybody's: not through a link that somebody else has put there.
    let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(nofollow)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_the_next_is_told_who_and_gets_it_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = VmLock::take_at(path.clone(), Duration::ZERO).unwrap();
        let held = VmLock::take_at(path.clone(), Duration::ZERO).unwrap_err().to_string();
        assert!(held.contains(&format!("process {}", std::process::id())), "{held}");
        let waiting = {
            let path = path.clone();
            thread::spawn(move || VmLock::take_at(path, WAIT_MAX))
        };
        drop(first);
        waiting.join().unwrap().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let linked = VmLock::take_at(link, Duration::ZERO);
        assert!(matches!(linked, Err(VmLockError::Unusable { .. })));
    }
}
