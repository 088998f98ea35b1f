//! The proxy's leg on the application subnet, and the network in which backends are reached.
//!
//! Where `[[network]]` names a leg, it stands in a namespace of ours, beside a TUN whose other end is
//! the tunnel. It is set up before anything is served, stays over crash, restart and upgrade, and is
//! given back by [`down`] alone.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use network::leg::{self, LegPlan, TUN};
use network::namespace::Inside;
use network::{Namespace, NetworkError};
use placement::PartName;
use proxy_api::Mac;

use crate::config::{Config, NetworkConfig};

/// Where sockets to backends are opened: beside the leg, or in the host's own network.
#[derive(Debug, Clone, Default)]
pub struct Ground(Option<Arc<Namespace>>);

impl Ground {
    /// Has `open` open its sockets there. It must not wait for anything.
    ///
    /// # Errors
    /// As `open` says, or the kernel does not let us in.
    pub fn open<T>(&self, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _inside = self.stay().map_err(io::Error::other)?;
        open()
    }

    /// Has the calling thread open all its sockets there, as long as the value lives.
    ///
    /// # Errors
    /// The kernel does not let us in.
    pub fn stay(&self) -> Result<Option<Inside<'_>>, NetworkError> {
        self.0.as_deref().map(Namespace::enter).transpose()
    }
}

/// A leg that is up.
#[derive(Debug)]
pub struct Leg {
    name: PartName,
    interface: String,
    gateways: Vec<IpAddr>,
    leg: leg::Leg,
    ground: Ground,
}

impl Leg {
    /// Brings the leg up that `network` names; `state_folder` keeps what it was before. Also gives
    /// the TUN's descriptor. Blocks on the kernel.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn up(
        network: &NetworkConfig,
        state_folder: &Path,
    ) -> Result<(Leg, OwnedFd), NetworkError> {
        let plan = plan(network, state_folder);
        let (leg, tun) = leg::Leg::up(&plan)?;
        let namespace = Namespace::find(&plan.namespace)?;
        let ground = Ground(namespace.map(Arc::new));
        let (name, interface) = (network.name.clone(), plan.interface);
        let gateways = network.gateways.iter().chain(&network.link_local).copied().collect();
        tracing::info!(network = %name, interface, namespace = plan.namespace, "leg is up");
        Ok((Leg { name, interface, gateways, leg, ground }, tun))
    }

    /// Where backends are reached.
    #[must_use]
    pub fn ground(&self) -> Ground {
        self.ground.clone()
    }

    /// Its addresses, with the lengths of their subnets' prefixes.
    #[must_use]
    pub fn subnets(&self) -> Vec<(IpAddr, u8)> {
        self.leg.subnets()
    }

    /// The kernel's side of it.
    pub(crate) fn kernel(&mut self) -> &mut leg::Leg {
        &mut self.leg
    }

    /// Who looks for its neighbours.
    pub(crate) fn finder(&self) -> Option<Finder> {
        let (namespace, interface) = (self.ground.0.clone()?, self.interface.clone());
        Some(Finder { namespace, interface })
    }

    /// The leg, as it is told.
    #[must_use]
    pub fn told(&self) -> proxy_api::Leg {
        proxy_api::Leg {
            network: self.name.clone(),
            mac: Mac(self.leg.mac().0),
            addresses: self.leg.addresses(),
            gateways: self.gateways.clone(),
            namespace: self.leg.namespace().name().to_owned(),
            interface: self.interface.clone(),
            tun: TUN.to_owned(),
        }
    }
}

/// Looks who else is on a leg's network, beside whatever the leg is told meanwhile.
#[derive(Debug)]
pub(crate) struct Finder {
    namespace: Arc<Namespace>,
    interface: String,
}

impl Finder {
    /// Those of `addresses` that are there. Blocks, at most for some seconds.
    pub(crate) fn find(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Vec<leg::Found>, NetworkError> {
        leg::find(&self.namespace, &self.interface, addresses)
    }
}

/// Gives the leg back to the network that it came from, with its addresses, and takes everything of
/// ours away. Nothing to do is no error. The state folder must be ours alone meanwhile.
///
/// # Errors
/// See [`NetworkError`]; asking again goes on.
pub fn down(config: &Config) -> Result<(), NetworkError> {
    match &config.network {
        Some(network) => leg::down(&plan(network, &config.basics.state_folder)),
        None => Ok(()),
    }
}

fn plan(network: &NetworkConfig, state_folder: &Path) -> LegPlan {
    LegPlan {
        namespace: network.namespace.clone(),
        interface: network.leg.clone(),
        gateways: network.gateways.clone(),
        record: state_folder.join(format!("leg.{}", network.name)),
    }
}
