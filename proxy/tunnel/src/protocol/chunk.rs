//! A chunk: what a stream sends in its turn, compressed where it gains.

use std::fmt;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::bounds::CHUNK_BYTES_MAX;
use super::wire::Coding;

const LEVEL: i32 = 1;

/// Below this, zstd's own framing eats the gain.
const WORTH_BYTES: usize = 64;

/// A chunk that shrinks by less than a 32nd is sent as it is: the far end is spared the work.
const GAIN_SHIFT: u32 = 5;

/// A piece of a stream on its way, kept until the peer has it, so that it is resent as it was.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) coding: Coding,
    pub(super) payload: Bytes,
    pub(super) sent: bool,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// A payload that is no zstd frame, or not of the length that was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecodable;

/// The compression of one session, and its memory.
pub(super) struct Coder {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    scratch: Vec<u8>,
}

impl fmt::Debug for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coder").finish_non_exhaustive()
    }
}

impl Coder {
    pub(super) fn new() -> Coder {
        Coder {
            compressor: Compressor::new(LEVEL).expect("zstd has a level 1"),
            decompressor: Decompressor::new().expect("zstd can decompress"),
            scratch: vec![0; CHUNK_BYTES_MAX],
        }
    }

    /// The bytes as they travel.
    pub(super) fn encode(&mut self, raw: Bytes, compress: bool) -> (Coding, Bytes) {
        if !compress || raw.len() < WORTH_BYTES {
            return (Coding::Raw, raw);
        }
        let room = raw.len() - (raw.len() >> GAIN_SHIFT);
        match self.compressor.compress_to_buffer(&raw, &mut self.scratch[..room]) {
            Ok(length) => (Coding::Zstd, Bytes::copy_from_slice(&self.scratch[..length])),
            Err(_) => (Coding::Raw, raw), // It does not fit into the room, so it has not shrunk.
        }
    }

    /// The bytes as they were; never more than `length`, which the caller has bounded.
    pub(super) fn decode(
        &mut self,
        coding: Coding,
        payload: Bytes,
        length: usize,
    ) -> Result<Bytes, Undecodable> {
        if coding == Coding::Raw {
            return Ok(payload);
        }
        let mut raw = vec![0; length];
        match self.decompressor.decompress_to_buffer(&payload, raw.as_mut_slice()) {
            Ok(written) if written == length => Ok(raw.into()),
            _ => Err(Undecodable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Bytes {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_shrinks_is_compressed_and_what_does_not_is_sent_as_it_is() {
        let mut coder = Coder::new();
        let text = Bytes::from(vec![b'x'; CHUNK_BYTES_MAX]);
        let (coding, payload) = coder.encode(text.clone(), true);
        assert_eq!(coding, Coding::Zstd);
        assert!(payload.len() < 100);
        assert_eq!(coder.decode(coding, payload, text.len()), Ok(text.clone()));
        let (coding, payload) = coder.encode(text.clone(), false);
        assert_eq!((coding, payload.len()), (Coding::Raw, text.len()));
        let (coding, payload) = coder.encode(noise(CHUNK_BYTES_MAX), true);
        assert_eq!((coding, payload), (Coding::Raw, noise(CHUNK_BYTES_MAX)));
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_what_it_announced() {
        let mut coder = Coder::new();
        let bomb: Bytes = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap().into();
        assert_eq!(coder.decode(Coding::Zstd, bomb, CHUNK_BYTES_MAX), Err(Undecodable));
        assert_eq!(coder.decode(Coding::Zstd, noise(100), 200), Err(Undecodable));
        let short: Bytes = zstd::bulk::compress(&[0; 100], 1).unwrap().into();
        assert_eq!(coder.decode(Coding::Zstd, short, 101), Err(Undecodable));
    }
}
