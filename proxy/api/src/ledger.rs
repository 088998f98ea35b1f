//! What a proxy keeps of a move's flows, until the ledger has collected it.
//!
//! The history of ended flows is bounded and forgets; the ledger must not miss one. So a proxy notes,
//! for each VM that moves, the flows it has towards that VM when the hold begins and those that begin
//! during it, keeps each of them to its end and beyond, and gives them up when the move is reclaimed.

use std::net::SocketAddr;

use placement::{Epoch, PartName};
use serde::{Deserialize, Serialize};

use crate::{Flow, FlowId, Protocol, WayBytes};

/// Most flows in one [`PinnedPage`].
pub const PINNED_PER_PAGE_MAX: usize = 1_000;

/// Payload that has passed, each way: of a connection, what the receiver has acknowledged; of a
/// session, what was given, for nobody acknowledges a datagram.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Passed {
    /// From client to server.
    pub up: u64,
    /// From server to client.
    pub down: u64,
}

impl Passed {
    /// What has passed since `mark`.
    #[must_use]
    pub fn since(self, mark: Passed) -> Passed {
        Passed { up: self.up.saturating_sub(mark.up), down: self.down.saturating_sub(mark.down) }
    }

    /// Whether something has passed both ways.
    #[must_use]
    pub fn is_both_ways(self) -> bool {
        self.up > 0 && self.down > 0
    }
}

impl Flow {
    /// What has passed so far.
    #[must_use]
    pub fn passed(&self) -> Passed {
        let passed = |way: WayBytes| match self.protocol {
            Protocol::Tcp => way.taken.saturating_sub(way.owed),
            Protocol::Udp => way.given,
        };
        Passed { up: passed(self.up), down: passed(self.down) }
    }

    /// Bytes that are owed, both ways together.
    #[must_use]
    pub fn owed_bytes(&self) -> u64 {
        self.up.owed.saturating_add(self.down.owed)
    }
}

/// A flow that was alive at a move's cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFlow {
    /// As it is now, or as it ended.
    pub flow: Flow,
    /// When it was noted: as the hold began, or as it began itself during the hold.
    pub listed_at_ms: u64,
    /// What had passed by then.
    pub passed_at_listing: Passed,
    /// What had passed when the VM ran nowhere: noted as the tap's leftovers are handed over, at a
    /// proxy that gets none as it takes the new placement. Unset before.
    pub passed_at_pivot: Option<Passed>,
    /// Longest time that bytes were owed, of the times that reach beyond the listing; a present one
    /// included.
    pub stall_us_since_listing: u64,
}

/// A new flow at a site that the VM has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Straggler {
    /// Its name.
    pub flow: FlowId,
    /// Its service.
    pub service: PartName,
    /// Who still comes here.
    pub client: SocketAddr,
    /// The VIP it came to.
    pub vip: SocketAddr,
    /// When.
    pub opened_at_ms: u64,
}

/// Some of what a proxy has noted for one move of one VM, in the order of the flows' ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedPage {
    /// Of which move.
    pub epoch: Epoch,
    /// When it was told.
    pub as_of_ms: u64,
    /// Flows alive at the cutover.
    pub flows: Vec<PinnedFlow>,
    /// New ones since then.
    pub stragglers: Vec<Straggler>,
    /// Flows that were not noted, because there were more than the proxy may keep.
    pub left_out: u64,
    /// Set where there are more: ask again from there.
    pub more_after: Option<FlowId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_since_is_never_less_than_nothing() {
        let now = Passed { up: 10, down: 3 };
        assert_eq!(now.since(Passed { up: 4, down: 3 }), Passed { up: 6, down: 0 });
        assert_eq!(now.since(Passed { up: 11, down: 0 }), Passed { up: 0, down: 3 });
        assert!(now.is_both_ways());
        assert!(!now.since(Passed { up: 0, down: 3 }).is_both_ways());
    }
}
