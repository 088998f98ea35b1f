//! `[[service]]`: what clients reach, and who serves them.
//!
//! ```toml
//! [[service]]
//! name = "web"
//! protocol = "tcp"                       # or "udp"
//! listen = ["192.0.2.1:80", "[2001:db8::1]:80"]     # VIPs of this host
//! source = ["10.0.0.2", "fd10::2"]       # optional: dial from here, one address of each family
//! connect_timeout_ms = 5000              # TCP
//! idle_timeout_ms = 60000                # TCP: unset, never; UDP: unset, 60000
//! flows_max = 50000
//! when_all_down = "refuse"               # or "try_all"
//!
//! [service.health]                       # optional: a TCP connection to each backend address
//! interval_ms = 2000
//! timeout_ms = 1000
//! rise = 2
//! fall = 3
//! port = 8080                            # TCP: unset, the backend's own; UDP: must be set
//!
//! [[service.backend]]
//! name = "web-1"
//! address = ["10.0.0.11:80", "[fd10::11]:80"]       # at most one of each family
//! vm = "web-1"                           # optional: the VM that it is
//! ```
//!
//! A flow stays in its family: a client that reached an IPv4 VIP is served by the IPv4 addresses
//! of the backends, IPv6 alike. A VIP whose family no backend has, and a backend address whose
//! family no VIP has, are refused.

mod check;
mod written;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use placement::{PartName, VmName};
use proxy_api::Protocol;
use serde::Deserialize;

pub(super) use check::{bounded, check_all};
pub(super) use written::WrittenService;

/// Most services of a proxy.
pub const SERVICES_MAX: usize = 1_024;
/// Most VIPs of a service, and most backends.
pub const PER_SERVICE_MAX: usize = 256;

/// What happens to new flows when no backend of a VIP's family is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllDown {
    /// They are refused: a client learns at once that it must look elsewhere.
    #[default]
    Refuse,
    /// They are sent to the backends in turn as if all were up: the checks may be wrong.
    TryAll,
}

/// One thing of each family, or of one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// Of IPv4.
    pub v4: Option<T>,
    /// Of IPv6.
    pub v6: Option<T>,
}

impl<T> Default for PerFamily<T> {
    fn default() -> PerFamily<T> {
        PerFamily { v4: None, v6: None }
    }
}

impl<T> PerFamily<T> {
    /// What there is for the family of `address`.
    #[must_use]
    pub fn of(&self, address: &SocketAddr) -> Option<&T> {
        if address.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    /// What there is, IPv4 first.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        self.v4.iter().chain(&self.v6)
    }
}

/// A service that can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its name.
    pub name: PartName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it listens; at least one, none of another service of the protocol.
    pub vips: Vec<SocketAddr>,
    /// Where it dials from; unset: the system's choice.
    pub source: PerFamily<IpAddr>,
    /// How long a backend may take to answer a connection.
    pub connect_timeout: Duration,
    /// How long a flow may be silent; unset: for ever.
    pub idle_timeout: Option<Duration>,
    /// Most flows at a time.
    pub flows_max: u64,
    /// What happens when no backend is up.
    pub when_all_down: WhenAllDown,
    /// How its backends are checked; unset: not at all.
    pub health: Option<HealthConfig>,
    /// Who serves it; at least one for each VIP's family.
    pub backends: Vec<BackendConfig>,
}

/// How backends are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// From one check to the next.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// So many good ones in a row, and a backend that is down is up.
    pub rise: u32,
    /// So many bad ones in a row, and a backend that is up is down.
    pub fall: u32,
    /// Where they connect to; unset: the backend's own port.
    pub port: Option<u16>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// Its name.
    pub name: PartName,
    /// The VM that it is.
    pub vm: Option<VmName>,
    /// Its addresses; at least one.
    pub addresses: PerFamily<SocketAddr>,
}
