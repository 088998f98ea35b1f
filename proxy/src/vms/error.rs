//! Why a call about a VM is not carried out.

use daemon::state::StateError;
use network::NetworkError;
use placement::{Identity, VmName};
use tokio::task::JoinError;
use tunnel::driver::PacketError;

use super::record::NotNow;
use crate::epochs::EpochError;

/// Why a call about a VM is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Its epoch is over, or somebody else's, or was never claimed.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// It is not for the VM as it stands here.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// The port is another agent's.
    #[error("{caller} is not the agent that the standing claim of {vm} names at this proxy")]
    NotTheAgent {
        /// Whose port.
        vm: VmName,
        /// Who called.
        caller: Box<Identity>,
    },
    /// Packets cannot follow a VM.
    #[error("packets cannot follow {vm}")]
    NoPacketPath {
        /// Which VM.
        vm: VmName,
        /// What is missing.
        #[source]
        source: PacketError,
    },
    /// There is no leg.
    #[error("this proxy has no leg; configure a [[network]] and restart it")]
    NoLeg,
    /// Flows towards it live here.
    #[error("{count} flows towards {vm} live here, among them {some}")]
    FlowsLive {
        /// Which VM.
        vm: VmName,
        /// How many.
        count: usize,
        /// The first of them.
        some: String,
    },
    /// Somebody elsewhere talks to it.
    #[error("packets for {vm} still come through the tunnel")]
    StillComes {
        /// Which VM.
        vm: VmName,
    },
    /// The kernel.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The proxy is ending.
    #[error("the proxy is ending")]
    Ending(#[source] JoinError),
}
