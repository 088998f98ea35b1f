//! Flows at every proxy, as operators see and kill them.

use std::net::SocketAddr;

use placement::{PartName, VmName};
use serde::{Deserialize, Serialize};

use super::{FlowAt, UnaskedProxy};

/// The live flows of one proxy, or some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsPart {
    /// In the order of their ids.
    pub flows: Vec<FlowView>,
    /// The proxy, if it could not be asked.
    pub unasked: Option<UnaskedProxy>,
    /// Set where there are more, or more proxies: ask again from there.
    pub more_from: Option<String>,
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowView {
    /// Its name, and who carries it.
    #[serde(flatten)]
    pub at: FlowAt,
    /// Its service.
    pub service: PartName,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Who opened it.
    pub client: SocketAddr,
    /// The VIP that was reached.
    pub vip: SocketAddr,
    /// The backend that serves it.
    pub backend: PartName,
    /// The VM that this is, where the proxy knows.
    pub vm: Option<VmName>,
    /// Where it is in its life.
    pub state: String,
    /// Given to the server.
    pub up_bytes: u64,
    /// Given to the client.
    pub down_bytes: u64,
    /// Owed to either of them.
    pub owed_bytes: u64,
    /// When it began, by the proxy's clock.
    pub opened_at_unix_ms: u64,
    /// When bytes last passed.
    pub last_bytes_at_unix_ms: Option<u64>,
}

/// A flow that was killed: both of its peers saw a RST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowKilled {
    /// Which, and who carried it.
    #[serde(flatten)]
    pub at: FlowAt,
}
