//! Reasons: why a channel is refused, a stream reset, a connection turned away.
//!
//! They travel as codes. A reason's words are made at the end that reads it, so that no text of a
//! stranger reaches a log.

use placement::Epoch;

/// Why the far end does not open a stream. Each names what is missing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody granted this channel there.
    #[error("the far site has no grant for it; have the orchestrator grant it at both ends")]
    NoGrant,
    /// A later move of this VM is known there.
    #[error("the far site has seen epoch {seen} of this vm; this one is over")]
    Stale {
        /// The highest epoch there.
        seen: Epoch,
    },
    /// The grant's ends are not the two sites of this session.
    #[error("the grant's ends are not these two sites; grant it for the sites that it connects")]
    WrongEnds,
    /// The far site's configuration permits no such channel, or not to the address that was named.
    #[error("the far site permits no such dial; list channel and target in its permits")]
    NotPermitted,
    /// It is permitted, but nothing answers there, or the folder of its socket is open to others.
    #[error("at the far site nothing answers at the permitted target; see that it listens")]
    Unreachable,
    /// As many streams as the far site takes.
    #[error("the far site has as many streams as it takes; close some or raise streams_max")]
    Busy,
    /// The far end is about to stop.
    #[error("the far end is stopping; try again when it is back")]
    Stopping,
}

/// Why a stream ended before both directions were finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResetReason {
    /// The program at one end closed or broke its connection.
    #[error("the program at one end broke its connection")]
    Program,
    /// Its grant was revoked, or its move is over.
    #[error("its grant is no longer valid")]
    Revoked,
    /// The connection between the sites was lost for longer than streams wait.
    #[error("the connection between the sites was lost for too long")]
    Outage,
    /// The far end did not answer the open in time.
    #[error("the far end did not answer in time")]
    Unanswered,
    /// The peer has started anew and knows nothing of the stream.
    #[error("the far end has restarted")]
    PeerRestarted,
    /// The peer sent what the protocol forbids.
    #[error("the protocol was violated")]
    Violation,
    /// This or the far end is stopping in an orderly way.
    #[error("one end is stopping")]
    Stopping,
}

/// Why a connection is turned away before it carries anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Another protocol version.
    #[error(
        "the peer speaks tunnel protocol version {theirs}, not {}; run the same release at both ends",
        super::bounds::PROTOCOL_VERSION
    )]
    Version {
        /// What the peer speaks.
        theirs: u16,
    },
    /// The caller is none of the peers that this end is configured to wait for.
    #[error(
        "the called end does not expect this caller; list it there as a peer that dials, and dial from one end only"
    )]
    UnknownPeer,
    /// A bulk connection for a session that is not the standing one; control comes first.
    #[error("the session is not the standing one; control must be connected first")]
    NoSession,
    /// A later connection of the same kind has been made.
    #[error("a later connection has taken its place")]
    Stale,
    /// Too many greetings at once.
    #[error("too many connections are greeting at once")]
    Busy,
}

impl Refusal {
    pub(super) fn to_wire(self) -> (u8, u64) {
        match self {
            Refusal::NoGrant => (1, 0),
            Refusal::Stale { seen } => (2, seen.get()),
            Refusal::WrongEnds => (3, 0),
            Refusal::NotPermitted => (4, 0),
            Refusal::Unreachable => (5, 0),
            Refusal::Busy => (6, 0),
            Refusal::Stopping => (7, 0),
        }
    }

    pub(super) fn from_wire(code: u8, detail: u64) -> Option<Refusal> {
        Some(match code {
            1 => Refusal::NoGrant,
            2 => Refusal::Stale { seen: Epoch::new(detail) },
            3 => Refusal::WrongEnds,
            4 => Refusal::NotPermitted,
            5 => Refusal::Unreachable,
            6 => Refusal::Busy,
            7 => Refusal::Stopping,
            _ => return None,
        })
    }
}

impl ResetReason {
    const ALL: [ResetReason; 7] = [
        ResetReason::Program,
        ResetReason::Revoked,
        ResetReason::Outage,
        ResetReason::Unanswered,
        ResetReason::PeerRestarted,
        ResetReason::Violation,
        ResetReason::Stopping,
    ];

    pub(super) fn to_wire(self) -> u8 {
        match self {
            ResetReason::Program => 1,
            ResetReason::Revoked => 2,
            ResetReason::Outage => 3,
            ResetReason::Unanswered => 4,
            ResetReason::PeerRestarted => 5,
            ResetReason::Violation => 6,
            ResetReason::Stopping => 7,
        }
    }

    pub(super) fn from_wire(code: u8) -> Option<ResetReason> {
        ResetReason::ALL.into_iter().find(|reason| reason.to_wire() == code)
    }
}

impl Rejection {
    /// Codes are the same in every version: an old end must understand a new one's.
    pub(super) fn to_wire(self) -> u8 {
        match self {
            Rejection::Version { .. } => 1,
            Rejection::UnknownPeer => 2,
            Rejection::NoSession => 3,
            Rejection::Stale => 4,
            Rejection::Busy => 5,
        }
    }

    pub(super) fn from_wire(code: u8, theirs: u16) -> Option<Rejection> {
        Some(match code {
            1 => Rejection::Version { theirs },
            2 => Rejection::UnknownPeer,
            3 => Rejection::NoSession,
            4 => Rejection::Stale,
            5 => Rejection::Busy,
            _ => return None,
        })
    }
}
