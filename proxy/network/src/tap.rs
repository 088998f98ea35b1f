//! The tap that a VM's network card ends on.
//!
//! It is not persistent: it lives as long as a process has it open. QEMU inherits the descriptor, so
//! that the port outlives the agent and is gone, without anybody's doing, when QEMU is. It is opened
//! without `IFF_VNET_HDR`, so that what is left in it after a stop are whole frames.

use std::io;
use std::os::fd::OwnedFd;

use crate::netlink::Netlink;
use crate::{Mac, VmTag, clone_device};

/// Frames that may wait for the VM: what arrives while it is stopped must not be dropped before it
/// can be read and shipped.
pub const QUEUE_LENGTH: u32 = 10_000;

/// The kernel puts a free number in: names of VMs are longer than those of interfaces may be.
const PATTERN: &str = "cwtap%d";

/// Why there is no port for the VM.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel gives no tap.
    #[error("no tap can be made; the agent needs /dev/net/tun and CAP_NET_ADMIN")]
    Make(#[source] io::Error),
    /// No such bridge.
    #[error("bridge {bridge} cannot be found; make it, or name another in the agent's network")]
    NoBridge {
        /// Its name.
        bridge: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The tap cannot be put there.
    #[error("{tap} cannot be made a port of {bridge}; is that a bridge?")]
    Join {
        /// The tap.
        tap: String,
        /// The bridge.
        bridge: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The bridge does not take an entry.
    #[error("the bridge of {tap} does not take the VM's MAC; is the interface still there?")]
    Pin {
        /// The tap.
        tap: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A tap that stands on its bridge, up. It goes with its last descriptor.
#[derive(Debug)]
pub struct OpenTap {
    descriptor: OwnedFd,
    name: String,
}

impl OpenTap {
    /// Makes one on `bridge` for a card of this VM, by a name that no other VM's tap ever has: a kernel
    /// keeps packet rules beyond the interface that they are for, and has them act on the next one of
    /// the same name. `alias` tells people whose it is.
    ///
    /// # Errors
    /// See [`TapError`]; nothing is left then.
    pub fn of(vm: &VmTag, bridge: &str, alias: &str) -> Result<OpenTap, TapError> {
        OpenTap::called(&format!("cwt{:08x}%d", vm.number()), bridge, alias)
    }

    /// Makes one on `bridge`, by any name; `alias` tells people whose it is.
    ///
    /// # Errors
    /// See [`TapError`]; nothing is left then.
    pub fn on(bridge: &str, alias: &str) -> Result<OpenTap, TapError> {
        OpenTap::called(PATTERN, bridge, alias)
    }

    fn called(pattern: &str, bridge: &str, alias: &str) -> Result<OpenTap, TapError> {
        let netlink = Netlink::open().map_err(TapError::Make)?;
        let no_bridge = |source| TapError::NoBridge { bridge: bridge.to_owned(), source };
        let bridge_index = netlink.index(bridge).map_err(no_bridge)?;
        let (descriptor, name) = clone_device::open_tap(pattern).map_err(TapError::Make)?;
        let join = || {
            let index = netlink.index(&name)?;
            netlink.name_for_people(index, alias)?;
            netlink.set_queue_length(index, QUEUE_LENGTH)?;
            netlink.silence(index)?;
            netlink.join(index, bridge_index)?;
            netlink.set_up(index)
        };
        join().map_err(|source| TapError::Join {
            tap: name.clone(),
            bridge: bridge.to_owned(),
            source,
        })?;
        Ok(OpenTap { descriptor, name })
    }

    /// Its name, as the kernel chose it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor, for the process that is to own it.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

/// Has the bridge that `tap` is on send frames for `mac` there. The first frame that the VM sends
/// confirms or corrects it.
///
/// # Errors
/// [`TapError::Pin`].
pub fn pin(tap: &str, mac: impl Into<Mac>) -> Result<(), TapError> {
    let mac = mac.into();
    let pinned = Netlink::open().and_then(|netlink| netlink.pin(netlink.index(tap)?, mac));
    pinned.map_err(|source| TapError::Pin { tap: tap.to_owned(), source })
}
