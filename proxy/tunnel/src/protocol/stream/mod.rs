//! One stream: what a program's connection is while it crosses the tunnel.
//!
//! ```text
//! opener   Asking ---------- Opened --> Open --+-- both directions finished --> gone
//!             '- Refused, unanswered -> gone   '-- reset, from either end ----> gone
//! other    Asked --- accept ----------> Open --'
//!             '- refuse --------------> gone
//! ```

mod gather;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use super::grants::Ask;
use super::moment::Moment;
use super::tally::StreamTally;

pub use incoming::StreamViolation;
pub(super) use incoming::{Arrival, Incoming};
pub(super) use outgoing::{Impossible, Outgoing, Piece};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer has been asked.
    Asking,
    /// The peer has asked; nothing is sent before this end has answered.
    Asked,
    /// Bytes pass.
    Open,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ask: Ask,
    pub(super) phase: Phase,
    pub(super) begun: Moment,
    /// Which bulk connection carries it, in both directions.
    pub(super) bulk: u8,
    /// Both ends agree to compress.
    pub(super) compress: bool,
    pub(super) out: Outgoing,
    pub(super) inc: Incoming,
}

impl Stream {
    pub(super) fn new(ask: Ask, phase: Phase, bulk: u8, begun: Moment) -> Stream {
        let (out, inc) = (Outgoing::default(), Incoming::default());
        Stream { ask, phase, begun, bulk, compress: false, out, inc }
    }

    /// Whether its turn would send something.
    pub(super) fn is_ready(&self, window: u64) -> bool {
        self.phase == Phase::Open && self.out.is_ready(window)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.out.is_finished() && self.inc.is_finished()
    }

    pub(super) fn tally(&self) -> StreamTally {
        StreamTally {
            sent: self.out.tally,
            received: self.inc.tally,
            delivered_bytes: self.inc.delivered(),
            confirmed_bytes: self.out.delivered(),
        }
    }
}
