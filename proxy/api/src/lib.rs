//! The proxy's control API: what is said, and a client that says it.
//!
//! Types and paths here are the contract between a proxy and whoever steers it. The client speaks
//! over a stream that its caller has opened and secured, and spawns nothing: the caller polls the
//! connection beside the call, and decides how long to wait.

mod client;
mod flow;
mod ledger;
mod mac;
mod port;
mod service;
mod tunnel;
mod vm;

use placement::Identity;
use serde::{Deserialize, Serialize};

pub use client::Client;
pub use exchange::{CallError, Connection, Refusal, RefusalBody};
pub use flow::{
    CloseReason, FLOWS_PER_PAGE_MAX, Flow, FlowId, FlowIdError, FlowPage, FlowQuery, FlowState,
    Killed, Protocol, Side, StateFilter, WayBytes,
};
pub use ledger::{PINNED_PER_PAGE_MAX, Passed, PinnedFlow, PinnedPage, Straggler};
pub use mac::{Mac, NoMac};
pub use port::{
    AtPort, Conversation, Diverted, Leftovers, LeftoversError, LeftoversHead, LeftoversTaken, Leg,
    Networks, PART_CONVERSATIONS_MAX, PART_PACKET_BYTES_MAX, PARTS_MAX, Released, StandsIn,
};
pub use service::{Backend, BackendAddress, Drained, Health, RefusedFor, Service, Services};
pub use tunnel::{
    ChannelGranted, ChannelRevoked, Claim, Claimed, GrantChannel, Tunnel, TunnelChannel,
    TunnelDropped, TunnelPeer, TunnelWire,
};
pub use vm::{
    AtHome, Card, Elsewhere, Home, Neighbour, OfMove, Place, Places, Reclaim, Reclaimed, Redirect,
    Stage, VM_ADDRESSES_MAX, VM_CONVERSATIONS_MAX, VM_PEERS_MAX, VM_PLACES_MAX, Vm, VmWay, Vms,
    WayKind, WayPackets,
};

/// Where each call goes; the server's table and the client read them here.
pub mod path {
    /// `GET`, viewer and up: [`Status`](super::Status).
    pub const STATUS: &str = "/v1/status";
    /// `POST`, operator and orchestrator: [`Reloaded`](super::Reloaded).
    pub const RELOAD: &str = "/v1/reload";
    /// `GET`, viewer and up: text for Prometheus.
    pub const METRICS: &str = "/metrics";
    /// `GET`, viewer and up: [`Services`](super::Services).
    pub const SERVICES: &str = "/v1/services";
    /// `POST`, operator and orchestrator: [`Drained`](super::Drained). No new flows; those that
    /// live go on.
    pub const SERVICE_DRAIN: &str = "/v1/services/{service}/drain";
    /// `POST`, operator and orchestrator: [`Drained`](super::Drained). The end of a drain.
    pub const SERVICE_RESUME: &str = "/v1/services/{service}/resume";
    /// `POST`, operator and orchestrator: [`Drained`](super::Drained). As for a service.
    pub const BACKEND_DRAIN: &str = "/v1/services/{service}/backends/{backend}/drain";
    /// `POST`, operator and orchestrator: [`Drained`](super::Drained). The end of a drain.
    pub const BACKEND_RESUME: &str = "/v1/services/{service}/backends/{backend}/resume";
    /// `GET`, viewer and up: [`FlowPage`](super::FlowPage). `?service=`, `?state=` (live, closed,
    /// all), `?after=` (an id), `?limit=`.
    pub const FLOWS: &str = "/v1/flows";
    /// `GET`, viewer and up: [`Flow`](super::Flow), live or of the history.
    pub const FLOW: &str = "/v1/flows/{flow}";
    /// `POST`, operator and orchestrator: [`Killed`](super::Killed). Both peers see a RST.
    pub const FLOW_KILL: &str = "/v1/flows/{flow}/kill";
    /// `POST` of a [`Claim`](super::Claim), orchestrator: [`Claimed`](super::Claimed).
    pub const VM_CLAIM: &str = "/v1/vms/{vm}/claim";
    /// `POST` of an [`OfMove`](super::OfMove), orchestrator: [`Claimed`](super::Claimed). The move is
    /// over: its channels end, and nothing of it is taken any more.
    pub const VM_GIVE_BACK: &str = "/v1/vms/{vm}/give-back";
    /// `POST` of a [`Stage`](super::Stage), orchestrator, at both ends, and where the VM was before:
    /// [`Vm`](super::Vm).
    pub const VM_STAGE: &str = "/v1/vms/{vm}/stage";
    /// `POST` of an [`OfMove`](super::OfMove), orchestrator: [`Vm`](super::Vm). The undo of a stage.
    pub const VM_UNSTAGE: &str = "/v1/vms/{vm}/unstage";
    /// `POST` of a [`Redirect`](super::Redirect), orchestrator, at every proxy: [`Vm`](super::Vm).
    pub const VM_REDIRECT: &str = "/v1/vms/{vm}/redirect";
    /// `POST` of a [`Reclaim`](super::Reclaim), orchestrator: [`Reclaimed`](super::Reclaimed). Refused
    /// while flows live, unless forced.
    pub const VM_RECLAIM: &str = "/v1/vms/{vm}/reclaim";
    /// `POST` of a [`Home`](super::Home), orchestrator, where the VM runs: [`AtHome`](super::AtHome).
    /// Refused in a move, and while something comes through the tunnel for it, unless forced.
    pub const VM_HOME: &str = "/v1/vms/{vm}/home";
    /// `GET`, viewer and up: [`Places`](super::Places).
    pub const VM_ELSEWHERE: &str = "/v1/vms/{vm}/elsewhere";
    /// `GET`, viewer and up: [`Vms`](super::Vms).
    pub const VMS: &str = "/v1/vms";
    /// `GET`, viewer and up: [`Vm`](super::Vm).
    pub const VM: &str = "/v1/vms/{vm}";
    /// `GET`, viewer and up: [`PinnedPage`](super::PinnedPage). `?after=` (a flow's id).
    pub const VM_CUTOVER: &str = "/v1/vms/{vm}/cutover/{epoch}";
    /// `POST` of a [`GrantChannel`](super::GrantChannel), orchestrator:
    /// [`ChannelGranted`](super::ChannelGranted).
    pub const CHANNEL_GRANT: &str = "/v1/vms/{vm}/channels/{channel}/grant";
    /// `POST` of a [`GrantChannel`](super::GrantChannel), orchestrator, and the agent of this site
    /// that the claim names: [`ChannelRevoked`](super::ChannelRevoked).
    pub const CHANNEL_REVOKE: &str = "/v1/vms/{vm}/channels/{channel}/revoke";
    /// `POST` of an [`AtPort`](super::AtPort), the agent of this site that the claim names:
    /// [`Diverted`](super::Diverted). The begin of a hold; where flows of another site are pinned
    /// here, that site's end keeps back first.
    pub const VM_DIVERT: &str = "/v1/vms/{vm}/divert";
    /// `POST` of an [`AtPort`](super::AtPort), the same agent: [`StandsIn`](super::StandsIn). Once
    /// the port was turned round.
    pub const VM_STAND_IN: &str = "/v1/vms/{vm}/stand-in";
    /// `POST` of [`Leftovers`](super::Leftovers), the same agent:
    /// [`LeftoversTaken`](super::LeftoversTaken).
    pub const VM_LEFTOVERS: &str = "/v1/vms/{vm}/leftovers";
    /// `POST` of an [`AtPort`](super::AtPort), the same agent: [`Released`](super::Released). Where
    /// the VM runs, as that agent knows.
    pub const VM_RELEASE: &str = "/v1/vms/{vm}/release";
    /// `GET`, viewer and up, and agents: [`Networks`](super::Networks).
    pub const NETWORKS: &str = "/v1/networks";
    /// `GET`, viewer and up: [`Tunnel`](super::Tunnel).
    pub const TUNNEL: &str = "/v1/tunnel";
}

/// How a proxy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who it is, by its certificate.
    pub identity: Identity,
    /// Its version.
    pub version: String,
    /// How long it has run.
    pub uptime_s: u64,
    /// Which configuration it runs on: 1 from the start, one more with each reload that was taken.
    pub generation: u64,
    /// Until when its certificate is valid, in seconds since 1970.
    pub certificate_valid_until_s: u64,
}

/// A reload that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that runs now.
    pub generation: u64,
}
