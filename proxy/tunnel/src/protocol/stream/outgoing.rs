//! The direction of a stream towards the peer.
//!
//! Bytes wait raw until their stream's turn comes, are then cut into a chunk and kept, as they were
//! sent, until the peer has them. After a reconnection the chunks that it lacks go again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::gather::Gather;
use crate::protocol::bounds::CHUNK_BYTES_MAX;
use crate::protocol::chunk::{Chunk, Coder};
use crate::protocol::tally::Flow;

/// Most chunks under way. A program that writes a byte at a time does not make one of each.
pub(super) const CHUNKS_MAX: usize = 4_096;

/// The peer says that it has what was never sent, or has less than it said before it resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) struct Impossible;

/// What a stream sends in its turn.
#[derive(Debug)]
pub(in crate::protocol) enum Piece {
    Chunk(Chunk),
    Fin { offset: u64 },
}

#[derive(Debug, Default)]
pub(in crate::protocol) struct Outgoing {
    waiting: Gather,
    chunks: VecDeque<Chunk>,
    /// Of `chunks`, those that this connection has carried.
    carried: usize,
    /// End of the last chunk.
    cut: u64,
    received: u64,
    delivered: u64,
    fin: Fin,
    pub(in crate::protocol) tally: Flow,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    /// The program may write more.
    #[default]
    Open,
    /// It has ended.
    Wanted,
    /// This connection has carried it.
    Carried,
    /// The peer's program knows.
    Finished,
}

impl Outgoing {
    /// Bytes that the program has written.
    pub(in crate::protocol) fn written(&self) -> u64 {
        self.cut + self.waiting.len() as u64
    }

    /// Bytes kept.
    pub(in crate::protocol) fn kept(&self) -> u64 {
        self.written() - self.received
    }

    pub(in crate::protocol) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(in crate::protocol) fn is_finished(&self) -> bool {
        self.fin == Fin::Finished
    }

    /// The program's end of this direction has come.
    pub(in crate::protocol) fn is_ended(&self) -> bool {
        self.fin != Fin::Open
    }

    pub(in crate::protocol) fn write(&mut self, bytes: Bytes) {
        self.waiting.push(bytes);
    }

    pub(in crate::protocol) fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Wanted;
        }
    }

    /// Whether there is something to send, given the peer's window.
    pub(in crate::protocol) fn is_ready(&self, window: u64) -> bool {
        if self.carried < self.chunks.len() {
            return true;
        }
        match self.waiting.len() {
            0 => self.fin == Fin::Wanted,
            _ => self.next_length(window).is_some(),
        }
    }

    /// The next piece.
    pub(in crate::protocol) fn next(
        &mut self,
        window: u64,
        compress: bool,
        coder: &mut Coder,
    ) -> Option<Piece> {
        if let Some(chunk) = self.chunks.get_mut(self.carried) {
            self.carried += 1;
            if chunk.sent {
                self.tally.again_bytes += chunk.payload.len() as u64;
            }
            chunk.sent = true;
            return Some(Piece::Chunk(chunk.clone()));
        }
        if self.waiting.len() == 0 {
            let wanted = self.fin == Fin::Wanted;
            return wanted.then(|| {
                self.fin = Fin::Carried;
                Piece::Fin { offset: self.cut }
            });
        }
        let length = self.next_length(window)?;
        let (coding, payload) = coder.encode(self.waiting.take(length), compress);
        let chunk = Chunk { offset: self.cut, length, coding, payload, sent: true };
        self.tally.raw_bytes += length as u64;
        self.tally.payload_bytes += chunk.payload.len() as u64;
        self.tally.chunks += 1;
        self.cut += length as u64;
        self.carried += 1;
        self.chunks.push_back(chunk.clone());
        Some(Piece::Chunk(chunk))
    }

    /// The peer has got so far.
    pub(in crate::protocol) fn acked(
        &mut self,
        received: u64,
        delivered: u64,
    ) -> Result<(), Impossible> {
        if received > self.cut || delivered > received {
            return Err(Impossible);
        }
        self.received = self.received.max(received);
        self.delivered = self.delivered.max(delivered);
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= self.received) {
            self.chunks.pop_front();
            self.carried = self.carried.saturating_sub(1);
        }
        Ok(())
    }

    /// A new connection carries nothing yet, and the peer has `received`, or what it last said.
    pub(in crate::protocol) fn rewind(&mut self, received: Option<u64>) -> Result<(), Impossible> {
        if let Some(received) = received {
            self.acked(received, self.delivered.min(received))?;
        }
        self.carried = 0;
        if self.fin == Fin::Carried {
            self.fin = Fin::Wanted;
        }
        Ok(())
    }

    /// The peer's program has everything, and knows that it is everything.
    pub(in crate::protocol) fn finished(&mut self) -> Result<(), Impossible> {
        if self.fin != Fin::Carried && self.fin != Fin::Wanted || self.waiting.len() > 0 {
            return Err(Impossible);
        }
        self.acked(self.cut, self.cut)?;
        self.fin = Fin::Finished;
        Ok(())
    }

    /// How long the next chunk may be. It waits for a window that takes a whole one, rather than go
    /// out in crumbs; the window is at least a chunk, so that it opens so far sooner or later.
    fn next_length(&self, window: u64) -> Option<usize> {
        let length = self.waiting.len().min(CHUNK_BYTES_MAX);
        let room = (self.delivered + window).saturating_sub(self.cut);
        (self.chunks.len() < CHUNKS_MAX && length as u64 <= room).then_some(length)
    }
}
