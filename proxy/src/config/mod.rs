//! The proxy's configuration: `written` as in the file, `Config` as it can be run on.
//!
//! ```toml
//! [limits]                       # optional, and so is each field
//! flows_max = 200000             # of all services together
//! shutdown_drain_ms = 1000       # how long a stop waits for flows to end by themselves
//! ```
//!
//! [`ServiceConfig`] is what `[[service]]` comes to, [`NetworkConfig`] what `[[network]]` does,
//! [`TunnelConfig`] what `[tunnel]` does. A service manager must grant a stop more than
//! `shutdown_drain_ms` (systemd: `TimeoutStopSec`).

mod network;
mod service;
mod tunnel;

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use daemon::config::{
    self, Basics, ConfigError, Problems, Told, WrittenControl, WrittenIdentity, WrittenLog,
    WrittenState,
};
use daemon::loaded::Configuration;
use placement::Role;
use serde::Deserialize;
use toml::Spanned;

use self::network::WrittenNetwork;
pub use self::network::{NETWORKS_MAX, NetworkConfig};
pub use self::service::{
    BackendConfig, HealthConfig, PER_SERVICE_MAX, PerFamily, SERVICES_MAX, ServiceConfig,
    WhenAllDown,
};
use self::service::{WrittenService, bounded};
use self::tunnel::WrittenTunnel;
pub use self::tunnel::{PEERS_MAX, PERMITS_MAX, TunnelConfig};

const FLOWS_MAX_DEFAULT: u64 = 200_000;
const FLOWS_MAX: RangeInclusive<u64> = 1..=10_000_000;
const SHUTDOWN_DRAIN_MS_DEFAULT: u64 = 1_000;
const SHUTDOWN_DRAIN_MS: RangeInclusive<u64> = 0..=3_600_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site: Spanned<String>,
    control: WrittenControl,
    identity: WrittenIdentity,
    state: WrittenState,
    #[serde(default)]
    log: WrittenLog,
    #[serde(default)]
    limits: WrittenLimits,
    #[serde(default)]
    service: Vec<WrittenService>,
    #[serde(default)]
    network: Vec<WrittenNetwork>,
    tunnel: Option<WrittenTunnel>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    flows_max: Option<Spanned<u64>>,
    shutdown_drain_ms: Option<Spanned<u64>>,
}

/// What a proxy is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What every daemon is told.
    pub basics: Basics,
    /// What holds for all services together.
    pub limits: Limits,
    /// What it serves; none is allowed.
    pub services: Vec<ServiceConfig>,
    /// Where its leg is, if it has one.
    pub network: Option<NetworkConfig>,
    /// Its end of the tunnel, if it has one.
    pub tunnel: Option<TunnelConfig>,
}

/// Bounds over all services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most flows at a time.
    pub flows_max: u64,
    /// How long a stop waits for flows to end by themselves, before it breaks them off.
    pub shutdown_drain: Duration,
}

impl Configuration for Config {
    const ROLE: Role = Role::Proxy;

    fn read(path: &Path) -> Result<Config, ConfigError> {
        config::read(path, check)
    }

    fn basics(&self) -> &Basics {
        &self.basics
    }
}

fn check(written: Written, problems: &mut Problems<'_>) -> Result<Config, Told> {
    let Written { site, control, identity, state, log, limits, service, network, tunnel } = written;
    let basics = Basics::check(&site, &control, &identity, &state, &log, problems);
    let limits = check_limits(&limits, problems);
    let services = service::check_all(&service, problems);
    let network = network::check(&network, problems);
    let tunnel = tunnel.as_ref().map(|tunnel| tunnel::check(tunnel, problems)).transpose();
    Ok(Config {
        basics: basics?,
        limits: limits?,
        services: services?,
        network: network?,
        tunnel: tunnel?,
    })
}

fn check_limits(written: &WrittenLimits, problems: &mut Problems<'_>) -> Result<Limits, Told> {
    let WrittenLimits { flows_max, shutdown_drain_ms } = written;
    let flows_max = bounded("limits.flows_max", flows_max.as_ref(), &FLOWS_MAX, problems);
    let field = "limits.shutdown_drain_ms";
    let drain_ms = bounded(field, shutdown_drain_ms.as_ref(), &SHUTDOWN_DRAIN_MS, problems);
    Ok(Limits {
        flows_max: flows_max?.unwrap_or(FLOWS_MAX_DEFAULT),
        shutdown_drain: Duration::from_millis(drain_ms?.unwrap_or(SHUTDOWN_DRAIN_MS_DEFAULT)),
    })
}

#[cfg(test)]
mod tests;
