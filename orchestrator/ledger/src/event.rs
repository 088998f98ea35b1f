//! What the ledger is fed: what each party saw, stamped with that party's own clock.
//!
//! Clocks of two sites differ, so no decision compares times of two parties. What had passed at the
//! pivot is therefore told by the proxy that counted it, and not found by comparing its time with
//! the orchestrator's.

use std::net::SocketAddr;

use placement::{PartName, SiteName};
use proxy_api::{CloseReason, FlowId, FlowState, Passed, PinnedFlow, Protocol, Straggler};
use serde::{Deserialize, Serialize};

/// A proxy, by the site it serves and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProxyKey {
    /// Its site.
    pub site: SiteName,
    /// Its name there.
    pub name: PartName,
}

/// A flow, over all proxies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// The proxy that carries it.
    pub proxy: ProxyKey,
    /// Its id there.
    pub id: FlowId,
}

/// A flow alive at the cutover, as its proxy listed it at the hold. One that begins during the hold
/// is listed too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowListed {
    /// Which.
    pub flow: FlowKey,
    /// When it was listed.
    pub at_ms: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its service.
    pub service: PartName,
    /// The client's address.
    pub client: SocketAddr,
    /// The VIP that the client reached.
    pub vip: SocketAddr,
    /// The backend that serves it.
    pub backend: PartName,
    /// The backend's address.
    pub server: SocketAddr,
    /// The proxy's address towards the backend.
    pub source: Option<SocketAddr>,
    /// When it began.
    pub opened_at_ms: u64,
    /// What had passed when it was listed.
    pub passed: Passed,
}

/// A flow that was seen alive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowSeen {
    /// Which.
    pub flow: FlowKey,
    /// When.
    pub at_ms: u64,
    /// What has passed since it began.
    pub passed: Passed,
    /// Of it, what passed after the pivot; unset where it was seen before.
    pub after_pivot: Option<Passed>,
    /// What is owed, both ways together.
    pub owed_bytes: u64,
    /// Since when.
    pub owed_since_ms: Option<u64>,
    /// Longest time that bytes were owed since the listing, a present one included.
    pub stall_us_max: u64,
}

/// A flow that is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowEnded {
    /// Which.
    pub flow: FlowKey,
    /// When it ended.
    pub at_ms: u64,
    /// Why.
    pub reason: CloseReason,
    /// What had passed since it began.
    pub passed: Passed,
    /// Of it, what passed after the pivot; unset where it ended before.
    pub after_pivot: Option<Passed>,
    /// What was owed as it ended, and now never will be given.
    pub owed_bytes: u64,
    /// Longest time that bytes were owed since the listing.
    pub stall_us_max: u64,
}

/// One end of the move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmEnd {
    /// Where the VM came from.
    Source,
    /// Where it went.
    Target,
}

/// A connection of the VM's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// What it speaks.
    pub protocol: Protocol,
    /// The VM's address.
    pub vm: SocketAddr,
    /// Its peer's.
    pub peer: SocketAddr,
}

/// A side flow, as the watch at the VM's port saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SideFlowSeen {
    /// Which.
    pub tuple: Tuple,
    /// At which port of the VM.
    pub end: VmEnd,
    /// First packet there, no earlier than the watch's own begin; unset where the watch does not
    /// tell.
    pub first_at_ms: Option<u64>,
    /// Last packet there, likewise.
    pub last_at_ms: Option<u64>,
}

/// A new connection that arrived at a site after the VM had left it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StragglerSeen {
    /// Its flow.
    pub flow: FlowKey,
    /// When it came.
    pub at_ms: u64,
    /// Who.
    pub client: SocketAddr,
    /// To which VIP.
    pub vip: SocketAddr,
    /// For which service.
    pub service: PartName,
}

/// What somebody saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Event {
    /// The orchestrator: the target accepted.
    Pivot {
        /// When.
        at_ms: u64,
    },
    /// A proxy has told all that it noted, as of one moment: each flow of its that still lives was
    /// seen then or later, each other one has ended.
    Collected {
        /// Which proxy.
        proxy: ProxyKey,
        /// When.
        at_ms: u64,
    },
    /// A proxy, at the hold.
    Listed(FlowListed),
    /// A proxy, at any time.
    Seen(FlowSeen),
    /// A proxy, once.
    Ended(FlowEnded),
    /// The watch at the VM's port.
    SideFlow(SideFlowSeen),
    /// A proxy, after the pivot.
    Straggler(StragglerSeen),
}

impl Event {
    /// What a proxy has told of one flow: how it was listed, and how it is or ended. Where a proxy
    /// is asked again and again, feed what it told last: each event that is fed twice counts as an
    /// oddity.
    #[must_use]
    pub fn told(proxy: &ProxyKey, as_of_ms: u64, pinned: &PinnedFlow) -> [Event; 2] {
        let told = &pinned.flow;
        let flow = FlowKey { proxy: proxy.clone(), id: told.id };
        let listed = FlowListed {
            flow: flow.clone(),
            at_ms: pinned.listed_at_ms,
            protocol: told.protocol,
            service: told.service.clone(),
            client: told.client,
            vip: told.vip,
            backend: told.backend.clone(),
            server: told.server,
            source: told.source,
            opened_at_ms: told.opened_at_ms,
            passed: pinned.passed_at_listing,
        };
        let passed = told.passed();
        let after_pivot = pinned.passed_at_pivot.map(|mark| passed.since(mark));
        let (owed_bytes, stall_us_max) = (told.owed_bytes(), pinned.stall_us_since_listing);
        let now = match told.state {
            FlowState::Closed { reason } => Event::Ended(FlowEnded {
                flow,
                at_ms: told.closed_at_ms.unwrap_or(as_of_ms),
                reason,
                passed,
                after_pivot,
                owed_bytes,
                stall_us_max,
            }),
            FlowState::Dialling | FlowState::Open | FlowState::HalfClosed { .. } => {
                Event::Seen(FlowSeen {
                    flow,
                    at_ms: as_of_ms,
                    passed,
                    after_pivot,
                    owed_bytes,
                    owed_since_ms: told.owed_since_ms,
                    stall_us_max,
                })
            }
        };
        [Event::Listed(listed), now]
    }

    /// A straggler, as a proxy has told it.
    #[must_use]
    pub fn straggler(proxy: &ProxyKey, told: &Straggler) -> Event {
        Event::Straggler(StragglerSeen {
            flow: FlowKey { proxy: proxy.clone(), id: told.flow },
            at_ms: told.opened_at_ms,
            client: told.client,
            vip: told.vip,
            service: told.service.clone(),
        })
    }
}
