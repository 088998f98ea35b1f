//! The direction of a stream from the peer.

use bytes::{Buf, Bytes};

use super::gather::Gather;
use crate::protocol::chunk::{Coder, Undecodable};
use crate::protocol::tally::Flow;
use crate::protocol::wire::Coding;

/// Bytes that arrived and that the peer keeps are confirmed at each such part of the window, if the
/// program here takes none.
const CONFIRM_PART: u64 = 8;

/// What a peer may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamViolation {
    /// More than the window.
    #[error("more bytes of a stream than its window allows")]
    Window,
    /// Bytes beyond those that were to come next.
    #[error("a gap in a stream")]
    Gap,
    /// Bytes beyond the end, or two ends.
    #[error("bytes of a stream after its end")]
    AfterEnd,
    /// A chunk that cannot be decompressed, or not to the length that it announced.
    #[error("a chunk that is not what it says")]
    Chunk,
    /// An acknowledgement, or an end, of what was never sent.
    #[error("an acknowledgement of what was never sent")]
    NeverSent,
}

#[derive(Debug, Default)]
pub(in crate::protocol) struct Incoming {
    kept: Gather,
    received: u64,
    delivered: u64,
    /// What `received` and `delivered` were when the peer was last told.
    told: (u64, u64),
    end: Option<u64>,
    finished: bool,
    pub(in crate::protocol) tally: Flow,
}

/// A chunk as a frame carries it.
#[derive(Debug)]
pub(in crate::protocol) struct Arrival {
    pub(in crate::protocol) offset: u64,
    pub(in crate::protocol) length: u32,
    pub(in crate::protocol) coding: Coding,
    pub(in crate::protocol) payload: Bytes,
}

impl Incoming {
    pub(in crate::protocol) fn received(&self) -> u64 {
        self.received
    }

    pub(in crate::protocol) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes kept for the program.
    pub(in crate::protocol) fn kept(&self) -> u64 {
        self.kept.len() as u64
    }

    pub(in crate::protocol) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes what is new of a chunk; all of it may be old after a reconnection.
    pub(in crate::protocol) fn take(
        &mut self,
        arrival: Arrival,
        window: u64,
        coder: &mut Coder,
    ) -> Result<(), StreamViolation> {
        let Arrival { offset, length, coding, payload } = arrival;
        let end = offset.checked_add(length.into()).ok_or(StreamViolation::Window)?;
        if offset > self.received {
            return Err(StreamViolation::Gap);
        }
        if end > self.delivered + window {
            return Err(StreamViolation::Window);
        }
        if end <= self.received {
            self.tally.again_bytes += payload.len() as u64;
            return Ok(());
        }
        if self.end.is_some() {
            return Err(StreamViolation::AfterEnd);
        }
        self.tally.payload_bytes += payload.len() as u64;
        self.tally.raw_bytes += end - self.received;
        self.tally.chunks += 1;
        let raw = coder.decode(coding, payload, length as usize);
        let mut raw = raw.map_err(|Undecodable| StreamViolation::Chunk)?;
        let known = usize::try_from(self.received - offset).expect("less than a chunk");
        raw.advance(known);
        self.kept.push(raw);
        self.received = end;
        Ok(())
    }

    pub(in crate::protocol) fn take_fin(&mut self, offset: u64) -> Result<(), StreamViolation> {
        match self.end {
            Some(end) if end != offset => Err(StreamViolation::AfterEnd),
            None if offset > self.received => Err(StreamViolation::Gap),
            None if offset < self.received => Err(StreamViolation::AfterEnd),
            _ => {
                self.end = Some(offset);
                Ok(())
            }
        }
    }

    /// The next bytes for the program.
    pub(in crate::protocol) fn front(&mut self) -> Option<Bytes> {
        self.kept.front().cloned()
    }

    /// The program has taken so many; no more than were there.
    pub(in crate::protocol) fn deliver(&mut self, count: usize) {
        let count = count.min(self.kept.len());
        self.kept.advance(count);
        self.delivered += count as u64;
    }

    /// All bytes are with the program, and the peer has ended: only that is left to be told.
    pub(in crate::protocol) fn is_at_end(&self) -> bool {
        self.end == Some(self.delivered) && !self.finished
    }

    pub(in crate::protocol) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether the peer should hear how far this has got.
    pub(in crate::protocol) fn owes_ack(&self, window: u64) -> bool {
        let (received, delivered) = self.told;
        delivered != self.delivered || self.received - received >= window / CONFIRM_PART
    }

    /// The acknowledgement.
    pub(in crate::protocol) fn ack(&mut self) -> (u64, u64) {
        self.told = (self.received, self.delivered);
        self.told
    }

    /// A new control connection: what was told before may be lost.
    pub(in crate::protocol) fn forget_told(&mut self) {
        self.told = (0, 0);
    }
}
