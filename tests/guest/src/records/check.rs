//! Reads the records of a disk image, and says whether they are what one guest wrote.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Place, RECORD_BYTES, Record};
use crate::traffic::Token;

const READ_BYTES: usize = 1 << 20;

/// Records that one start of the guest program wrote, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRun {
    /// Which start.
    pub boot: Token,
    /// Its first record's number.
    pub first: u64,
    /// How many.
    pub records: u64,
}

/// Records without hole or repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub records: u64,
    /// Who wrote them, in order. A boot that comes twice is an old state that ran again.
    pub runs: Vec<BootRun>,
    /// After the last record lies a piece of one. A copy of a disk that is being written may end so;
    /// the disk of a guest that was stopped between two records does not.
    pub torn_tail: bool,
    /// Longest time from one record of a run to the next, by the guest's own clock.
    pub gap_us_max: u64,
}

/// What is wrong with the records.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no such image, or it is not ours to read.
    #[error("cannot open the disk image {path}; check that it exists and is readable")]
    Open {
        /// Which image.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The image cannot be read to its end.
    #[error("the disk image cannot be read to its end; is its disk in order?")]
    Read(#[source] io::Error),
    /// Places were left out: a write was lost.
    #[error("records {first} to {last} are missing, and record {next} is there: writes were lost")]
    Hole {
        /// The first missing one.
        first: u64,
        /// The last missing one.
        last: u64,
        /// The one after the hole.
        next: u64,
    },
    /// A record lies in another one's place.
    #[error("the place of record {place} holds record {found}: a write went astray")]
    Misplaced {
        /// Whose place it is.
        place: u64,
        /// Whose record is there.
        found: u64,
    },
    /// A place holds no whole record, and later ones do.
    #[error("record {place} is broken, and record {next} is whole: its write was lost or altered")]
    Broken {
        /// The broken one.
        place: u64,
        /// The whole one after it.
        next: u64,
    },
}

impl Summary {
    /// Whether one start of the guest wrote all of them: the VM never booted again.
    #[must_use]
    pub fn is_one_boot(&self) -> bool {
        self.runs.len() == 1
    }

    fn add(&mut self, record: &Record, last: Option<&Record>) {
        match (self.runs.last_mut(), last) {
            (Some(run), Some(last)) if run.boot == record.boot => {
                run.records += 1;
                let gap_us = record.time_us.saturating_sub(last.time_us);
                self.gap_us_max = self.gap_us_max.max(gap_us);
            }
            _ => self.runs.push(BootRun { boot: record.boot, first: record.number, records: 1 }),
        }
        self.records += 1;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, no hole, no repeat, ", self.records)?;
        match &self.runs[..] {
            [] => write!(f, "no boot")?,
            [run] => write!(f, "one boot id {}", run.boot)?,
            runs => {
                let ids: Vec<String> = runs.iter().map(|run| run.boot.to_string()).collect();
                write!(f, "{} boots: {}", runs.len(), ids.join(" "))?;
            }
        }
        if self.torn_tail { write!(f, ", a torn one at the end") } else { Ok(()) }
    }
}

/// Checks the records of the image at `path`, the first of which lies at `start_offset`.
///
/// # Errors
/// What is wrong with them, or that the image cannot be read.
pub fn check_image(path: &Path, start_offset: u64) -> Result<Summary, CheckError> {
    let opened = File::open(path);
    let mut file = opened.map_err(|source| CheckError::Open { path: path.into(), source })?;
    file.seek(SeekFrom::Start(start_offset)).map_err(CheckError::Read)?;
    check(BufReader::with_capacity(READ_BYTES, file))
}

/// Checks the records that `image` begins with, and that nothing comes after them.
///
/// # Errors
/// What is wrong with them, or that the image cannot be read.
pub fn check(mut image: impl Read) -> Result<Summary, CheckError> {
    let mut summary = Summary::default();
    let mut last: Option<Record> = None;
    // The first place that holds no record; nothing may come after it.
    let mut gap: Option<(u64, Place)> = None;
    let mut bytes = [0; RECORD_BYTES];
    for place in 0.. {
        match image.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(CheckError::Read(error)),
        }
        match (Place::read(&bytes), gap) {
            (Place::Whole(record), None) if record.number == place => {
                summary.add(&record, last.as_ref());
                last = Some(record);
            }
            (Place::Whole(record), None) => {
                return Err(CheckError::Misplaced { place, found: record.number });
            }
            (Place::Whole(_), Some((first, Place::Broken))) => {
                return Err(CheckError::Broken { place: first, next: place });
            }
            (Place::Whole(_), Some((first, _))) => {
                return Err(CheckError::Hole { first, last: place - 1, next: place });
            }
            (found, None) => gap = Some((place, found)),
            (Place::Broken, Some((first, _))) => {
                return Err(CheckError::Hole { first, last: place - 1, next: place });
            }
            (Place::Empty, Some(_)) => {}
        }
    }
    summary.torn_tail = matches!(gap, Some((_, Place::Broken)));
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 12;

    fn record(number: u64, boot: u8) -> Record {
        Record { number, boot: Token([boot; 16]), time_us: 1000 * number }
    }

    fn image(records: &[(usize, Record)]) -> Vec<u8> {
        let mut bytes = vec![0; PLACES * RECORD_BYTES];
        for (place, record) in records {
            let at = place * RECORD_BYTES;
            bytes[at..at + RECORD_BYTES].copy_from_slice(&record.encode()[..]);
        }
        bytes
    }

    fn in_order(count: u64, boot: u8) -> Vec<(usize, Record)> {
        (0..count).map(|number| (number as usize, record(number, boot))).collect()
    }

    #[test]
    fn records_in_order_pass_and_an_empty_disk_holds_none() {
        let summary = check(&image(&in_order(5, 1))[..]).unwrap();
        assert!(summary.is_one_boot() && !summary.torn_tail);
        assert_eq!((summary.records, summary.gap_us_max), (5, 1000));
        assert_eq!(check(&image(&[])[..]).unwrap().records, 0);
        assert_eq!(check(&image(&in_order(PLACES as u64, 1))[..]).unwrap().records, 12);
    }

    #[test]
    fn a_second_boot_shows() {
        let mut records = in_order(3, 1);
        records.extend([(3, record(3, 2)), (4, record(4, 2))]);
        let summary = check(&image(&records)[..]).unwrap();
        let runs: Vec<(u64, u64)> =
            summary.runs.iter().map(|run| (run.first, run.records)).collect();
        assert_eq!((runs, summary.is_one_boot()), (vec![(0, 3), (3, 2)], false));
    }

    #[test]
    fn a_hole_is_named() {
        let mut records = in_order(8, 1);
        records.drain(3..5);
        let error = check(&image(&records)[..]).unwrap_err();
        assert!(matches!(error, CheckError::Hole { first: 3, last: 4, next: 5 }), "{error}");
    }

    #[test]
    fn a_repeat_is_named() {
        let mut records = in_order(8, 1);
        records[5].1 = record(4, 1);
        let error = check(&image(&records)[..]).unwrap_err();
        assert!(matches!(error, CheckError::Misplaced { place: 5, found: 4 }), "{error}");
    }

    #[test]
    fn a_broken_record_is_named_unless_it_is_the_last() {
        let mut bytes = image(&in_order(8, 1));
        bytes[5 * RECORD_BYTES + 99] ^= 1;
        let error = check(&bytes[..]).unwrap_err();
        assert!(matches!(error, CheckError::Broken { place: 5, next: 6 }), "{error}");
        let mut bytes = image(&in_order(6, 1));
        bytes[5 * RECORD_BYTES + 99] ^= 1;
        let summary = check(&bytes[..]).unwrap();
        assert_eq!((summary.records, summary.torn_tail), (5, true));
    }

    #[test]
    fn a_piece_far_behind_the_end_is_a_hole() {
        let mut bytes = image(&in_order(3, 1));
        bytes[9 * RECORD_BYTES] = 1;
        assert!(matches!(check(&bytes[..]), Err(CheckError::Hole { first: 3, last: 8, next: 9 })));
    }
}
