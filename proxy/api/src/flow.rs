//! Flows as they are told: the live ones, and those of the bounded history.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use placement::{PartName, VmName};
use serde::{Deserialize, Serialize};

/// Most flows in one [`FlowPage`], and how many there are where nobody says a number.
pub const FLOWS_PER_PAGE_MAX: usize = 1_000;

/// A flow's name for ever: never changed, never given again, unique over restarts of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlowId {
    /// When the proxy started, in microseconds since 1970.
    pub boot_us: u64,
    /// Counts the flows since then, from 1.
    pub number: u64,
}

/// A text that is no flow's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no flow's id; write it as `GET /v1/flows` shows it")]
pub struct FlowIdError(String);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.boot_us, self.number)
    }
}

impl FromStr for FlowId {
    type Err = FlowIdError;
    fn from_str(text: &str) -> Result<FlowId, FlowIdError> {
        let parsed = text.split_once('-').and_then(|(boot, number)| {
            let boot_us = u64::from_str_radix(boot, 16).ok()?;
            let number = u64::from_str_radix(number, 16).ok()?;
            let id = FlowId { boot_us, number };
            // One flow, one spelling.
            (id.to_string() == text).then_some(id)
        });
        parsed.ok_or_else(|| FlowIdError(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for FlowId {
    type Error = FlowIdError;
    fn try_from(text: String) -> Result<FlowId, FlowIdError> {
        text.parse()
    }
}

impl From<FlowId> for String {
    fn from(id: FlowId) -> String {
        id.to_string()
    }
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A flow is a connection.
    Tcp,
    /// A flow is a session: datagrams between one client and one service.
    Udp,
}

impl Protocol {
    /// Its word, in configurations, answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// One of the two peers of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who opened it.
    Client,
    /// The backend that serves it.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Where a flow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FlowState {
    /// Its backend is being connected to.
    Dialling,
    /// Bytes may pass both ways.
    Open,
    /// One peer has ended its direction; the other's goes on.
    HalfClosed {
        /// Who has ended.
        by: Side,
    },
    /// It is over.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

impl FlowState {
    /// Its word, as it is asked for in `?state=`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FlowState::Dialling => "dialling",
            FlowState::Open => "open",
            FlowState::HalfClosed { .. } => "half_closed",
            FlowState::Closed { .. } => "closed",
        }
    }
}

/// Which flows are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StateFilter {
    /// All that live.
    #[default]
    Live,
    /// Those of the bounded history.
    Closed,
    /// Both.
    All,
}

impl FromStr for StateFilter {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<StateFilter, &'static str> {
        match text {
            "live" => Ok(StateFilter::Live),
            "closed" => Ok(StateFilter::Closed),
            "all" => Ok(StateFilter::All),
            _ => Err("is no state to ask for; write live, closed or all"),
        }
    }
}

impl StateFilter {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StateFilter::Live => "live",
            StateFilter::Closed => "closed",
            StateFilter::All => "all",
        }
    }
}

/// Why a flow is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Both ended in order, the client first.
    ClientFin,
    /// The client broke it off.
    ClientRst,
    /// The client answers nothing any more: keepalive or retransmission gave up.
    ClientLost,
    /// Both ended in order, the server first.
    ServerFin,
    /// The server broke it off.
    ServerRst,
    /// The server answers nothing any more.
    ServerLost,
    /// No byte passed for as long as the service allows. So every UDP session ends that is left
    /// alone.
    IdleTimeout,
    /// No backend took the connection.
    ConnectFailed,
    /// The backend did not answer in time.
    ConnectTimeout,
    /// An operator killed it.
    Killed,
    /// The proxy ended before the flow did.
    ProxyShutdown,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [CloseReason; 11] = [
        CloseReason::ClientFin,
        CloseReason::ClientRst,
        CloseReason::ClientLost,
        CloseReason::ServerFin,
        CloseReason::ServerRst,
        CloseReason::ServerLost,
        CloseReason::IdleTimeout,
        CloseReason::ConnectFailed,
        CloseReason::ConnectTimeout,
        CloseReason::Killed,
        CloseReason::ProxyShutdown,
    ];

    /// Its word, as in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::ClientFin => "client_fin",
            CloseReason::ClientRst => "client_rst",
            CloseReason::ClientLost => "client_lost",
            CloseReason::ServerFin => "server_fin",
            CloseReason::ServerRst => "server_rst",
            CloseReason::ServerLost => "server_lost",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::ConnectFailed => "connect_failed",
            CloseReason::ConnectTimeout => "connect_timeout",
            CloseReason::Killed => "killed",
            CloseReason::ProxyShutdown => "proxy_shutdown",
        }
    }
}

/// One direction of a flow, in payload bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBytes {
    /// Taken from the sender.
    pub taken: u64,
    /// Given to the receiver's connection; never more than taken.
    pub given: u64,
    /// Owed to the receiver: taken, and not yet acknowledged by it.
    pub owed: u64,
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name.
    pub id: FlowId,
    /// Its service.
    pub service: PartName,
    /// What it speaks.
    pub protocol: Protocol,
    /// The client's address.
    pub client: SocketAddr,
    /// The VIP that the client reached.
    pub vip: SocketAddr,
    /// The backend that serves it.
    pub backend: PartName,
    /// The VM that the backend is, where the configuration says so.
    pub vm: Option<VmName>,
    /// The backend's address.
    pub server: SocketAddr,
    /// Our address towards the backend, once it is connected.
    pub source: Option<SocketAddr>,
    /// Where it is in its life.
    pub state: FlowState,
    /// From client to server.
    pub up: WayBytes,
    /// From server to client.
    pub down: WayBytes,
    /// When it began, in milliseconds since 1970.
    pub opened_at_ms: u64,
    /// When bytes last passed, either way; unset before the first.
    pub last_bytes_at_ms: Option<u64>,
    /// When it ended.
    pub closed_at_ms: Option<u64>,
    /// Since when bytes are owed without any being acknowledged; unset where nothing is owed.
    pub owed_since_ms: Option<u64>,
    /// Longest time that bytes were owed without any being acknowledged, a present one included.
    pub stall_us_max: u64,
}

/// `GET /v1/flows`: some flows, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowPage {
    /// At most as many as were asked for.
    pub flows: Vec<Flow>,
    /// Set where there are more: ask again with `after` set to it.
    pub more_after: Option<FlowId>,
}

/// Which flows a call asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowQuery {
    /// Those of one service; unset: of all.
    pub service: Option<PartName>,
    /// In which states.
    pub state: StateFilter,
    /// Only those with a later id.
    pub after: Option<FlowId>,
    /// Most flows in the answer, at most [`FLOWS_PER_PAGE_MAX`]; unset: so many.
    pub limit: Option<usize>,
}

/// A flow that was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Which.
    pub id: FlowId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_has_one_spelling() {
        let id = FlowId { boot_us: 0x65_0f3a, number: 26 };
        assert_eq!(id.to_string(), "650f3a-1a");
        assert_eq!("650f3a-1a".parse(), Ok(id));
        for text in ["", "-", "650f3a", "650F3A-1A", "650f3a-01a", "+1-1", "1-1-1", "g-1"] {
            assert!(text.parse::<FlowId>().is_err(), "{text}");
        }
    }

    #[test]
    fn reasons_are_called_in_metrics_as_in_json() {
        for reason in CloseReason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }
}
