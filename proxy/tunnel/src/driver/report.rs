//! What a tunnel end tells: events as they happen, and its state when asked.

use std::net::SocketAddr;

use placement::Identity;
use tokio::sync::broadcast;

use super::counted::WireCount;
use super::packets::LinkCount;
use crate::protocol::channel::Grant;
use crate::protocol::refusal::Refusal;
use crate::protocol::session::{Ending, Lost, Violation};
use crate::protocol::tally::{SessionTally, StreamTally};

/// Events that a slow listener may lag behind before it misses some.
const EVENTS_MAX: usize = 256;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEvent {
    /// A peer's control connection is there, in a session without a past.
    Connected {
        /// Who.
        peer: Identity,
    },
    /// A peer's control connection is back, and its streams go on.
    Resumed {
        /// Who.
        peer: Identity,
    },
    /// A peer's control connection is gone; its streams wait.
    Lost {
        /// Who.
        peer: Identity,
        /// What showed it.
        why: Lost,
    },
    /// A peer has lost its memory; its streams are over.
    PeerRestarted {
        /// Who.
        peer: Identity,
    },
    /// A peer broke the protocol; its streams are over.
    Violated {
        /// Who.
        peer: Identity,
        /// How.
        violation: Violation,
    },
    /// A peer cannot be reached. Told once for each reason in a row.
    Unreachable {
        /// Who.
        peer: Identity,
        /// Why, in words.
        reason: String,
    },
    /// A caller was turned away.
    TurnedAway {
        /// From where it called.
        address: SocketAddr,
        /// Why, in words.
        reason: String,
    },
    /// A stream of a channel is open end to end.
    ChannelOpened {
        /// With whom.
        peer: Identity,
        /// Under which grant.
        grant: Grant,
    },
    /// A stream of a channel was refused, at either end.
    ChannelRefused {
        /// With whom.
        peer: Identity,
        /// Under which grant.
        grant: Grant,
        /// What is missing, at the dialling end.
        refusal: Refusal,
    },
    /// A stream of a channel is over.
    ChannelEnded {
        /// With whom.
        peer: Identity,
        /// Under which grant.
        grant: Grant,
        /// How.
        ending: Ending,
        /// What it moved.
        tally: StreamTally,
    },
}

/// A tunnel end at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Every configured peer.
    pub peers: Vec<PeerStatus>,
}

/// One peer at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub identity: Identity,
    /// Its control connection stands.
    pub is_connected: bool,
    /// Bulk connections that stand.
    pub bulk_connected: u8,
    /// The last round trip over control.
    pub rtt_us: Option<u64>,
    /// Frames moved.
    pub tally: SessionTally,
    /// Bytes handed to TCP and taken from it, by control and each bulk lane, over all connections.
    pub wire: [WireCount; 3],
    /// Datagrams of VMs' packets; none where this end carries none.
    pub datagrams: Option<LinkCount>,
    /// Packets can be sent to it now.
    pub carries_packets: bool,
    /// Every channel that has a stream, or had one and still has its grant.
    pub channels: Vec<ChannelStatus>,
}

/// One channel at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Which.
    pub grant: Grant,
    /// Streams that are not over.
    pub streams: u64,
    /// Streams that were cut off.
    pub resets: u64,
    /// What all its streams have moved.
    pub tally: StreamTally,
    /// Bytes kept until the peer has them.
    pub send_kept_bytes: u64,
    /// Bytes kept until the program here takes them.
    pub receive_kept_bytes: u64,
}

/// Where events go: to the log, and to whoever listens.
#[derive(Debug, Clone)]
pub(super) struct Reporter(broadcast::Sender<TunnelEvent>);

impl Reporter {
    pub(super) fn new() -> Reporter {
        Reporter(broadcast::Sender::new(EVENTS_MAX))
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<TunnelEvent> {
        self.0.subscribe()
    }

    pub(super) fn tell(&self, event: TunnelEvent) {
        match &event {
            TunnelEvent::Connected { peer } => tracing::info!(%peer, "tunnel connected"),
            TunnelEvent::Resumed { peer } => tracing::info!(%peer, "tunnel resumed"),
            TunnelEvent::Lost { peer, why } => {
                tracing::warn!(%peer, ?why, "tunnel lost; streams wait");
            }
            TunnelEvent::PeerRestarted { peer } => {
                tracing::warn!(%peer, "tunnel peer restarted; its streams are over");
            }
            TunnelEvent::Violated { peer, violation } => {
                tracing::error!(%peer, %violation, "tunnel peer broke the protocol");
            }
            TunnelEvent::Unreachable { peer, reason } => {
                tracing::warn!(%peer, reason, "tunnel peer cannot be reached; trying on");
            }
            TunnelEvent::TurnedAway { address, reason } => {
                tracing::warn!(%address, reason, "tunnel caller turned away");
            }
            TunnelEvent::ChannelOpened { peer, grant } => {
                tracing::info!(%peer, %grant, "channel opened");
            }
            TunnelEvent::ChannelRefused { peer, grant, refusal } => {
                tracing::warn!(%peer, %grant, %refusal, "channel refused");
            }
            TunnelEvent::ChannelEnded { peer, grant, ending, tally } => {
                let (sent_bytes, received_bytes) = (tally.sent.raw_bytes, tally.received.raw_bytes);
                tracing::info!(%peer, %grant, ?ending, sent_bytes, received_bytes, "channel ended");
            }
        }
        // An error says that nobody listens.
        let _ = self.0.send(event);
    }
}
