//! Services as they are told: who serves them, how they are, and how many flows they have.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use placement::{PartName, VmName};
use serde::{Deserialize, Serialize};

use crate::Protocol;

/// What the checks have found out about one address of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nobody checks it; it counts as up.
    Unchecked,
    /// No check has ended yet; it counts as up. The first that ends decides at once.
    Unknown,
    /// It takes connections.
    Up,
    /// It does not.
    Down,
}

impl Health {
    /// Whether flows may go there.
    #[must_use]
    pub fn is_usable(self) -> bool {
        self != Health::Down
    }
}

/// Why a client was turned away before it had a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedFor {
    /// The service has as many flows as it may have.
    ServiceLimit,
    /// The proxy has as many flows as it may have.
    ProxyLimit,
    /// The service drains: it takes no new flows.
    Draining,
    /// No backend may be used: all are down or drain.
    NoBackend,
    /// The system would not give a socket.
    System,
}

impl RefusedFor {
    /// All of them.
    pub const ALL: [RefusedFor; 5] = [
        RefusedFor::ServiceLimit,
        RefusedFor::ProxyLimit,
        RefusedFor::Draining,
        RefusedFor::NoBackend,
        RefusedFor::System,
    ];

    /// Its word, as in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RefusedFor::ServiceLimit => "service_limit",
            RefusedFor::ProxyLimit => "proxy_limit",
            RefusedFor::Draining => "draining",
            RefusedFor::NoBackend => "no_backend",
            RefusedFor::System => "system",
        }
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: PartName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its VIPs.
    pub listen: Vec<SocketAddr>,
    /// Whether it takes no new flows.
    pub draining: bool,
    /// Flows that live.
    pub flows_active: u64,
    /// Flows since the proxy's start.
    pub flows_opened: u64,
    /// Clients turned away since then, by reason; without those that nobody was.
    pub refused: BTreeMap<RefusedFor, u64>,
    /// Who serves it.
    pub backends: Vec<Backend>,
}

/// One backend of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: PartName,
    /// The VM that it is, where the configuration says so.
    pub vm: Option<VmName>,
    /// Whether it gets no new flows.
    pub draining: bool,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<BackendAddress>,
}

/// One address of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendAddress {
    /// Address and port.
    pub address: SocketAddr,
    /// How it is.
    pub health: Health,
    /// Flows that live.
    pub flows_active: u64,
}

/// `GET /v1/services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// In the order of the configuration.
    pub services: Vec<Service>,
}

/// The answer to a drain, or to the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Whether it drains now.
    pub draining: bool,
    /// Flows that still live there.
    pub flows_active: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_called_in_metrics_as_in_json() {
        for reason in RefusedFor::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }
}
