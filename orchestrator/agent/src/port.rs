//! What is done at the VM's own port when a move reaches it.
//!
//! [`BridgePort`] does what exists today: it tells the bridge where the VM is. It keeps no packets
//! back: a hold is refused, and since nothing is ever held there is nothing to release. Holding at
//! the port, and the local proxy's release, come with the packet path.

use network::TapError;
use orchestrator_api::Mac;
use placement::{Epoch, VmName};

/// Why a port did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// This version keeps no packets back.
    #[error("this agent cannot keep the VM's packets back yet; order stop without a hold")]
    CannotHold,
    /// The bridge does not take the VM.
    #[error(transparent)]
    Tap(#[from] TapError),
}

/// The VM's port on its host.
pub trait Port: Send {
    /// Keeps packets for the VM back from here on.
    ///
    /// # Errors
    /// It cannot, and keeps none.
    fn hold(&mut self, vm: &VmName, epoch: Epoch) -> Result<(), PortError>;

    /// Has the bridge send the VM's frames to these ports.
    ///
    /// # Errors
    /// The bridge does not take it.
    fn pin(&mut self, vm: &VmName, ports: &[(String, Mac)]) -> Result<(), PortError>;

    /// Lets what was kept back follow.
    ///
    /// # Errors
    /// It stays where it is.
    fn release_queue(&mut self, vm: &VmName, epoch: Epoch) -> Result<(), PortError>;
}

/// A port that is a tap on a bridge, and no more.
#[derive(Debug, Default)]
pub struct BridgePort;

impl Port for BridgePort {
    fn hold(&mut self, _vm: &VmName, _epoch: Epoch) -> Result<(), PortError> {
        Err(PortError::CannotHold)
    }

    fn pin(&mut self, _vm: &VmName, ports: &[(String, Mac)]) -> Result<(), PortError> {
        for (tap, mac) in ports {
            network::pin(tap, mac.bytes())?;
        }
        Ok(())
    }

    fn release_queue(&mut self, _vm: &VmName, _epoch: Epoch) -> Result<(), PortError> {
        Ok(())
    }
}
