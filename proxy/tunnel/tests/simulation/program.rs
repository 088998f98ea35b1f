//! The programs at the ends of streams: they write known bytes, and check every byte that they read.

use bytes::Bytes;
use tunnel::protocol::session::Ending;

use crate::dice::mix;

/// What is to pass over one stream.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Bytes that opener and other end write.
    pub(crate) lengths: [u64; 2],
    pub(crate) noise: bool,
    pub(crate) permitted: bool,
    /// The opener resets when it has read so many.
    pub(crate) reset_after: Option<u64>,
    pub(crate) outcome: [Outcome; 2],
}

/// What became of one end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) read: u64,
    pub(crate) read_end: bool,
    pub(crate) ending: Option<Ending>,
}

/// One end of a running stream.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) script: usize,
    /// 0: the opener.
    pub(crate) end: usize,
    pub(crate) written: u64,
    pub(crate) ended: bool,
    pub(crate) scheduled: bool,
}

impl Script {
    /// Bytes that `end` writes, from `offset` on.
    pub(crate) fn bytes(&self, key: usize, end: usize, offset: u64, length: usize) -> Bytes {
        (offset..offset + length as u64).map(|at| self.byte(key, end, at)).collect()
    }

    pub(crate) fn check(&self, key: usize, end: usize, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            assert_eq!(*byte, self.byte(key, 1 - end, at), "script {key}, byte {at} to end {end}");
        }
    }

    fn byte(&self, key: usize, end: usize, at: u64) -> u8 {
        let key = (key * 2 + end) as u64;
        let (block, shift) = if self.noise { (at / 8, at % 8 * 8) } else { (at / 800, at % 3) };
        (mix(block ^ key << 40) >> shift) as u8
    }
}
