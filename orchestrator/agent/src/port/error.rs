//! Why a port did not do as asked.

use std::io;

use daemon::state::StateError;
use network::NetworkError;
use placement::PartName;
use proxy_api::LeftoversError;

use crate::own_proxy::ProxyError;

/// Why a port did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Nobody would keep packets back.
    #[error(
        "network '{0}' names no proxy that keeps packets back; add its proxy_address, or order stop without a hold"
    )]
    NoProxy(PartName),
    /// The proxy does not stand there.
    #[error("the proxy of network '{0}' has no leg on it; add the [[network]] to the proxy")]
    NoLeg(PartName),
    /// No claim stands, under which the proxy could be asked.
    #[error("no claim of the VM stands; claim it first")]
    NoClaim,
    /// A network of the definition is not configured.
    #[error("network '{0}' is not configured here; add a [[network]] of that name to the agent")]
    NoNetwork(PartName),
    /// The kernel.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The proxy.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
    /// What stands cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was left cannot be said.
    #[error(transparent)]
    Leftovers(#[from] LeftoversError),
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending(#[source] tokio::task::JoinError),
    /// The process's taps.
    #[error("QEMU's taps cannot be told")]
    Taps(#[source] io::Error),
}

impl From<ProxyError> for PortError {
    fn from(error: ProxyError) -> PortError {
        PortError::Proxy(Box::new(error))
    }
}
