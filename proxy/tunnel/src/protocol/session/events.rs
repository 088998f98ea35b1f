//! What a session reports, and whom it wakes.

use std::collections::BTreeSet;

use crate::protocol::bounds::BULK_LANES_MAX;
use crate::protocol::channel::Grant;
use crate::protocol::grants::Ask;
use crate::protocol::packets::PacketMessage;
use crate::protocol::refusal::{Refusal, Rejection, ResetReason};
use crate::protocol::stream::StreamViolation;
use crate::protocol::tally::StreamTally;
use crate::protocol::wire::{Lane, StreamId, WireError};

/// What happened, in order. There are at most a few for each frame received and each stream open,
/// so that a driver that takes them after each call needs no bound of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A lane carries frames.
    Up {
        /// Which.
        lane: Lane,
        /// It carried some before, and goes on where it was.
        resumed: bool,
    },
    /// A lane carries none any more, until it is dialled again.
    Down {
        /// Which.
        lane: Lane,
        /// What ended its connection.
        why: Lost,
    },
    /// The called end turned a connection away.
    Rejected {
        /// What it was for.
        lane: Lane,
        /// Why.
        rejection: Rejection,
    },
    /// A connection began with what is no greeting, and was closed.
    Unfit {
        /// What it was for.
        lane: Lane,
        /// What is wrong with it.
        violation: Violation,
    },
    /// The peer knows nothing of what was before; every stream has been reset.
    PeerRestarted,
    /// The peer broke the protocol; every stream has been reset, and the session begins anew.
    Violated(Violation),
    /// The peer tells something of a VM's packets.
    Packets(PacketMessage),
    /// The peer asks for a stream: answer with `accept` or `refuse`.
    Asked {
        /// Which.
        stream: StreamId,
        /// For what.
        ask: Ask,
    },
    /// A stream that was asked for is open.
    Opened {
        /// Which.
        stream: StreamId,
        /// Under which grant.
        grant: Grant,
    },
    /// A stream is over, and its number means nothing any more.
    Ended {
        /// Which.
        stream: StreamId,
        /// Under which grant.
        grant: Grant,
        /// How.
        ending: Ending,
        /// What it moved.
        tally: StreamTally,
    },
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both programs ended, and both have every byte.
    Complete,
    /// The far end never opened it.
    Refused(Refusal),
    /// It was cut off.
    Reset {
        /// Why.
        reason: ResetReason,
        /// At the peer's word.
        by_peer: bool,
    },
}

/// Why a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The driver said so: closed, reset, or unreachable.
    Broken,
    /// Nothing was heard for too long.
    Silent,
    /// A later connection has taken its place.
    Replaced,
    /// The session began anew.
    Restarted,
}

/// What a peer that follows the protocol never sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame where it may not be.
    #[error("a {0} where it may not be")]
    Misplaced(&'static str),
    /// A stream's bytes or acknowledgements are wrong.
    #[error(transparent)]
    Stream(#[from] StreamViolation),
    /// Numbered messages out of order, or never confirmed.
    #[error("numbered messages that do not follow each other, or wait for ever")]
    Messages,
    /// A stream number out of turn, or more streams than allowed.
    #[error("a stream that may not be opened")]
    Opening,
}

/// This connection carries nothing for the session; close it. If it was more than a greeting, an
/// event has said why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is no longer part of the session")]
pub struct Closed;

/// A stream that is over, or never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is over")]
pub struct Gone;

/// Why a stream cannot even be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer has never been reached, or has been out of reach for too long.
    #[error("the peer is out of reach; see whether its proxy runs, and the network between")]
    OutOfReach,
    /// As many streams as the peer takes, or too much that it has not confirmed.
    #[error("the peer takes no more streams now; close some or raise its streams_max")]
    Busy,
}

/// Who may have something to do since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wakes {
    /// Lanes with something to send, or a connection to close; by [`Lane::index`].
    pub lanes: [bool; 1 + BULK_LANES_MAX],
    /// Streams with bytes to read, room to write, progress, or an end.
    pub streams: BTreeSet<StreamId>,
    /// The next deadline may have come nearer.
    pub deadline: bool,
}

impl Wakes {
    pub(super) fn lane(&mut self, lane: Lane) {
        self.lanes[lane.index()] = true;
    }

    pub(super) fn stream(&mut self, stream: StreamId) {
        self.streams.insert(stream);
    }
}
