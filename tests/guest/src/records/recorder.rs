//! The thread that appends records to the disk. A thread of its own: an fsync that waits for a disk
//! being mirrored must not look like a stalled connection.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Place, RECORD_BYTES, Record};
use crate::clock;
use crate::dial::Dial;
use crate::traffic::Token;

/// Highest rate: each record waits for the disk.
const PER_SECOND_MAX: u32 = 1000;

/// Why there is no recorder.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The disk cannot be opened or read.
    #[error(
        "cannot use {path} as the disk for records; give a readable and writable device or file"
    )]
    Disk {
        /// Which disk.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for the recorder")]
    Thread(#[source] io::Error),
}

/// What the recorder has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderStatus {
    /// The boot id in its records.
    pub boot: Token,
    /// Records found on the disk at the start.
    pub found: u64,
    /// A piece of a record lay after them, and was overwritten.
    pub torn: bool,
    /// Records on the disk and fsynced, those found included.
    pub synced: u64,
    /// Records that the disk has room for.
    pub room: u64,
    /// Records to be written in each second.
    pub per_second: u32,
    /// No more will be written: the disk is full.
    pub full: bool,
    /// No more will be written: what the disk said.
    pub error: Option<String>,
}

/// The thread and the way to it.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    per_second: Dial<u32>,
    status: Mutex<RecorderStatus>,
}

impl Recorder {
    /// Finds the last whole record on the disk, and starts the thread that goes on after it.
    ///
    /// # Errors
    /// The disk cannot be used.
    pub fn start(
        path: &Path,
        start_offset: u64,
        per_second: u32,
        boot: Token,
    ) -> Result<Self, RecorderError> {
        let unusable = |source| RecorderError::Disk { path: path.to_owned(), source };
        let mut disk = OpenOptions::new().read(true).write(true).open(path).map_err(unusable)?;
        let length = disk.seek(SeekFrom::End(0)).map_err(unusable)?;
        let room = length.saturating_sub(start_offset) / RECORD_BYTES as u64;
        let (found, torn) = find_end(&disk, start_offset, room).map_err(unusable)?;
        let per_second = per_second.min(PER_SECOND_MAX);
        let status = RecorderStatus {
            boot,
            found,
            torn,
            synced: found,
            room,
            per_second,
            full: false,
            error: None,
        };
        let shared =
            Arc::new(Shared { per_second: Dial::new(per_second), status: Mutex::new(status) });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || keep_recording(&disk, start_offset, &theirs))
            .map_err(RecorderError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sets the rate, at most 1,000; 0 pauses.
    pub fn set_rate(&self, per_second: u32) {
        let per_second = per_second.min(PER_SECOND_MAX);
        self.shared.status().per_second = per_second;
        self.shared.per_second.set(per_second);
    }

    /// What the recorder has done so far.
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        self.shared.status().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.per_second.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on the console.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, RecorderStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many whole records lie in order from the start, and whether a piece of one follows.
fn find_end(disk: &File, start_offset: u64, room: u64) -> io::Result<(u64, bool)> {
    let mut bytes = [0; RECORD_BYTES];
    for place in 0..room {
        disk.read_exact_at(&mut bytes, start_offset + place * RECORD_BYTES as u64)?;
        match Place::read(&bytes) {
            Place::Whole(record) if record.number == place => {}
            found => return Ok((place, found != Place::Empty)),
        }
    }
    Ok((room, false))
}

fn keep_recording(disk: &File, start_offset: u64, shared: &Shared) {
    let mut due = Instant::now();
    let Some(mut per_second) = shared.per_second.get() else { return };
    loop {
        let able = {
            let status = shared.status();
            !status.full && status.error.is_none()
        };
        let until = if per_second == 0 || !able {
            None
        } else {
            append(disk, start_offset, shared);
            // A disk slower than the rate sets the pace: no burst makes up for it.
            due = (due + Duration::from_secs(1) / per_second).max(Instant::now());
            Some(due)
        };
        match shared.per_second.wait(per_second, until) {
            None => return,
            Some(wanted) => {
                if wanted != per_second {
                    due = Instant::now();
                }
                per_second = wanted;
            }
        }
    }
}

fn append(disk: &File, start_offset: u64, shared: &Shared) {
    let (number, room, boot) = {
        let status = shared.status();
        (status.synced, status.room, status.boot)
    };
    if number == room {
        println!("causeway-guest: the disk is full after {number} records");
        shared.status().full = true;
        return;
    }
    let record = Record { number, boot, time_us: clock::unix_us() };
    let at = start_offset + number * RECORD_BYTES as u64;
    match disk.write_all_at(&record.encode()[..], at).and_then(|()| disk.sync_data()) {
        Ok(()) => shared.status().synced = number + 1,
        Err(error) => {
            println!("causeway-guest: record {number} could not be written: {error}");
            shared.status().error = Some(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{CheckError, check_image};
    use super::*;

    /// Longest wait for records that are due within milliseconds.
    const WAIT_MAX: Duration = Duration::from_secs(20);
    const START: u64 = 8192;

    fn disk(folder: &Path, places: u64) -> PathBuf {
        let path = folder.join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(START + places * RECORD_BYTES as u64).unwrap();
        path
    }

    fn wait(recorder: &Recorder, what: impl Fn(&RecorderStatus) -> bool) -> RecorderStatus {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let status = recorder.status();
            if what(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{status:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_second_start_goes_on_where_the_first_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = disk(folder.path(), 1000);
        for boot in [1, 2] {
            let recorder = Recorder::start(&path, START, 1000, Token([boot; 16])).unwrap();
            wait(&recorder, |status| status.synced >= status.found + 3);
        }
        let summary = check_image(&path, START).unwrap();
        assert_eq!(summary.runs.len(), 2, "{summary}");
        assert!(summary.records >= 6, "{summary}");
    }

    #[test]
    fn a_torn_record_is_overwritten_and_a_full_disk_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = disk(folder.path(), 4);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"CwRec", START).unwrap();
        let recorder = Recorder::start(&path, START, 1000, Token([1; 16])).unwrap();
        let status = wait(&recorder, |status| status.full);
        assert_eq!((status.torn, status.synced, status.room), (true, 4, 4));
        assert_eq!(check_image(&path, START).unwrap().records, 4);
    }

    #[test]
    fn no_record_is_written_at_rate_0() {
        let folder = tempfile::tempdir().unwrap();
        let path = disk(folder.path(), 10);
        let recorder = Recorder::start(&path, START, 0, Token([1; 16])).unwrap();
        recorder.set_rate(1000);
        wait(&recorder, |status| status.synced >= 1);
        recorder.set_rate(0);
        assert_eq!(recorder.status().per_second, 0);
    }

    #[test]
    fn a_missing_disk_is_named() {
        let error = Recorder::start(Path::new("/nonexistent/disk"), 0, 1, Token([0; 16]));
        assert!(error.unwrap_err().to_string().contains("/nonexistent/disk"));
        let error = check_image(Path::new("/nonexistent/disk"), 0).unwrap_err();
        assert!(matches!(error, CheckError::Open { .. }));
    }
}
