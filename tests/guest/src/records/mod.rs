//! Numbered records on the guest's disk: proof that no write was lost, repeated or run twice.
//!
//! The disk is a raw device without a file system. Record n lies at start + n * [`RECORD_BYTES`] and
//! nowhere else; each is on the disk, fsynced, before the next begins. [`check`] reads an image and
//! says what is there.

pub mod check;
mod recorder;

pub use recorder::{Recorder, RecorderError, RecorderStatus};

use serde::{Deserialize, Serialize};

use crate::traffic::Token;

/// One record, a page long: what a disk writes as one.
pub const RECORD_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"CwRecord";
const CHECKED_BYTES: usize = RECORD_BYTES - 4;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Records before it.
    pub number: u64,
    /// Drawn anew by every start of the guest program: a VM that was moved keeps it, one that
    /// booted again does not.
    pub boot: Token,
    /// The guest's clock, in microseconds of the Unix epoch.
    pub time_us: u64,
}

/// What lies in a record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Zeroes: never written.
    Empty,
    /// A whole record.
    Whole(Record),
    /// Neither.
    Broken,
}

impl Record {
    /// The record as bytes; what its fields leave over is filled with what depends on them.
    #[must_use]
    pub fn encode(&self) -> Box<[u8; RECORD_BYTES]> {
        let mut bytes = Box::new([0; RECORD_BYTES]);
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot.0);
        bytes[32..40].copy_from_slice(&self.time_us.to_le_bytes());
        let mut word = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.time_us | 1;
        for byte in &mut bytes[40..CHECKED_BYTES] {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            *byte = (word >> 32) as u8;
        }
        let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

impl Place {
    /// Reads what lies in a place.
    #[must_use]
    pub fn read(bytes: &[u8; RECORD_BYTES]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Empty;
        }
        let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]);
        if bytes[..8] != MAGIC || bytes[CHECKED_BYTES..] != checksum.to_le_bytes() {
            return Self::Broken;
        }
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let boot = Token(std::array::from_fn(|i| bytes[16 + i]));
        Self::Whole(Record { number: long(8), boot, time_us: long(32) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_comes_back_and_an_altered_one_is_broken(
            number in any::<u64>(), boot in any::<[u8; 16]>(), time_us in any::<u64>(),
            at in 0..RECORD_BYTES, bit in 0_u32..8,
        ) {
            let record = Record { number, boot: Token(boot), time_us };
            let mut bytes = record.encode();
            prop_assert_eq!(Place::read(&bytes), Place::Whole(record));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Place::read(&bytes), Place::Broken);
        }
    }
}
