//! This site's end of the tunnel, as the proxy runs it: started from the configuration, granted
//! channels over the control API, told of every claim.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use daemon::identity::{Credentials, peer_identity};
use metrics::counter;
use placement::{Authority, Identity, Owner, VmName};
use proxy_api::{Tunnel as Told, TunnelChannel, TunnelDropped, TunnelPeer, TunnelWire};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tunnel::driver::{
    self, ChannelError, ChannelOptions, PacketError, PacketPlan, StartError, TunnelEvent,
    TunnelPlan,
};
use tunnel::protocol::bounds::Limits;
use tunnel::protocol::channel::Grant;
use tunnel::protocol::packets::{Dropped, LeftInPort, OwnSite, Way, WayCounts};
use tunnel::protocol::permits::Permits;

use crate::config::TunnelConfig;
use crate::epochs::{EpochError, Epochs};

/// Why the tunnel's end does not start.
#[derive(Debug, thiserror::Error)]
pub enum InterSiteError {
    /// Its address is not to be had.
    #[error("tunnel.listen {address}: cannot be used; choose an address of this host that is free")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its plan makes no sense.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why a channel is not granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No tunnel is configured.
    #[error("this proxy has no tunnel; configure [tunnel]")]
    NoTunnel,
    /// The move's epoch is not the standing claim's.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The tunnel does not take it.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// The tunnel's end, and the epochs that its grants go by.
pub struct InterSite {
    epochs: Epochs,
    /// None where none is configured, and once the proxy is ending.
    tunnel: Mutex<Option<driver::Tunnel>>,
}

impl InterSite {
    /// Starts the tunnel's end, if one is configured. Peers are dialled from now on.
    ///
    /// # Errors
    /// Its address or folder cannot be used.
    pub async fn start(
        config: Option<&TunnelConfig>,
        own: &Identity,
        credentials: Arc<ArcSwap<Credentials>>,
        epochs: Epochs,
        packets: Option<PacketPlan>,
    ) -> Result<InterSite, InterSiteError> {
        let Some(config) = config else {
            return Ok(InterSite { epochs, tunnel: Mutex::new(None) });
        };
        let listener = match config.listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| InterSiteError::Listen { address, source })?)
            }
            None => None,
        };
        let plan = TunnelPlan {
            own: own.clone(),
            peers: config.peers.clone(),
            permits: config.permits.clone(),
            entrances: config.entrances.clone(),
            limits: Limits::default(),
            credentials: Arc::new(Papers(credentials)),
            packets,
        };
        let tunnel = driver::Tunnel::start(plan, listener, epochs.marks())?;
        Ok(InterSite { epochs, tunnel: Mutex::new(Some(tunnel)) })
    }

    /// Takes a claim of a VM; channels of earlier moves end.
    ///
    /// # Errors
    /// It is over, or somebody else's, or cannot be kept.
    pub async fn claim(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> Result<placement::Watermark, EpochError> {
        let mark = self.epochs.claim(vm.clone(), authority.clone()).await?;
        if let Some(tunnel) = &*self.tunnel()
            && let Err(error) = tunnel.seen(vm, authority)
        {
            // Only a later claim, taken meanwhile, can have come before this one.
            tracing::warn!(%vm, %error, "a claim came too late for the tunnel");
        }
        Ok(mark)
    }

    /// Ends a move of a VM: its channels end, and nothing of it is taken any more.
    ///
    /// # Errors
    /// It is over, or somebody else's, or cannot be kept.
    pub async fn give_back(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> Result<placement::Watermark, EpochError> {
        let mark = self.epochs.end(vm.clone(), authority.clone()).await?;
        if let Some(tunnel) = &*self.tunnel()
            && let Err(error) = tunnel.move_ended(vm, authority.epoch)
        {
            // It knows no more VMs, so that it can have no grant of this one either.
            tracing::warn!(%vm, %error, "the end of a move is nothing that the tunnel can note");
        }
        Ok(mark)
    }

    /// Grants a channel under the standing claim; gives its socket, where connections enter here.
    ///
    /// # Errors
    /// Every [`GrantError`].
    pub fn grant(
        &self,
        grant: &Grant,
        owner: &Owner,
        compress: bool,
    ) -> Result<Option<PathBuf>, GrantError> {
        let tunnel = self.tunnel();
        let tunnel = tunnel.as_ref().ok_or(GrantError::NoTunnel)?;
        let authority = Authority { epoch: grant.epoch, owner: owner.clone() };
        self.epochs.admit(&grant.vm, &authority)?;
        let options = ChannelOptions { compress, wanted: None };
        Ok(tunnel.grant(grant, owner, &options)?)
    }

    /// Takes a grant back, under the standing claim; false if there was none.
    ///
    /// # Errors
    /// Every [`GrantError`] but the last.
    pub fn revoke(&self, grant: &Grant, owner: &Owner) -> Result<bool, GrantError> {
        let tunnel = self.tunnel();
        let tunnel = tunnel.as_ref().ok_or(GrantError::NoTunnel)?;
        let authority = Authority { epoch: grant.epoch, owner: owner.clone() };
        self.epochs.admit(&grant.vm, &authority)?;
        Ok(tunnel.revoke(grant))
    }

    /// The way of a VM's packets from now on; see [`driver::Tunnel::set_way`].
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn set_way(&self, vm: &VmName, way: Option<Way>) -> Result<(), PacketError> {
        match &*self.tunnel() {
            Some(tunnel) => tunnel.set_way(vm, way),
            None if way.is_none() => Ok(()),
            None => Err(PacketError::NoPackets),
        }
    }

    /// Takes what was left in a VM's port; see [`driver::Tunnel::leftovers`].
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn leftovers(&self, vm: &VmName, left: LeftInPort) -> Result<u64, PacketError> {
        self.tunnel().as_ref().ok_or(PacketError::NoPackets)?.leftovers(vm, left)
    }

    /// Whether packets can be sent to this proxy now.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn can_carry_to(&self, peer: &Identity) -> Result<(), PacketError> {
        self.tunnel().as_ref().ok_or(PacketError::NoPackets)?.can_carry_to(peer)
    }

    /// What was counted of a VM's packets, while it has a way.
    #[must_use]
    pub fn way_counts(&self, vm: &VmName) -> Option<WayCounts> {
        self.tunnel().as_ref()?.way_counts(vm)
    }

    /// For how long nothing has come through the tunnel for a VM that is here; none where nothing ever
    /// has.
    #[must_use]
    pub fn quiet(&self, vm: &VmName) -> Option<Duration> {
        self.tunnel().as_ref()?.quiet(vm)
    }

    /// Waits until nothing waits here any more for a VM that has come here, and what the kernel had
    /// for it in the tunnel has come out again.
    pub async fn settled(&self, vm: &VmName) {
        let settled = self.tunnel().as_ref().map(|tunnel| tunnel.settled(vm));
        if let Some(settled) = settled {
            settled.await;
        }
    }

    /// What becomes of peers, from now on; none where no tunnel is configured.
    #[must_use]
    pub fn subscribe(&self) -> Option<broadcast::Receiver<TunnelEvent>> {
        self.tunnel().as_ref().map(driver::Tunnel::subscribe)
    }

    /// The VMs that are at a peer's, or go there.
    #[must_use]
    pub fn vms_at(&self, peer: &Identity) -> Vec<VmName> {
        self.tunnel().as_ref().map(|tunnel| tunnel.vms_at(peer)).unwrap_or_default()
    }

    /// Nobody else may send in the name of these from now on.
    pub fn own_site(&self, site: OwnSite) {
        if let Some(tunnel) = &*self.tunnel() {
            tunnel.own_site(site);
        }
    }

    /// Peers may reach this from now on, and nothing else.
    pub fn permit(&self, permits: Permits) {
        if let Some(tunnel) = &*self.tunnel() {
            tunnel.permit(permits);
        }
    }

    /// Brings the metrics up to date that are counted in the tunnel.
    pub fn measure(&self) {
        let dropped = self.tunnel().as_ref().map(driver::Tunnel::dropped).unwrap_or_default();
        for (cause, packets) in dropped {
            counter!("causeway_packets_dropped_total", "cause" => cause.as_str()).absolute(packets);
        }
    }

    /// Every peer and channel; none where no tunnel is configured.
    #[must_use]
    pub fn told(&self) -> Told {
        let tunnel = self.tunnel();
        let Some(tunnel) = &*tunnel else { return Told { peers: vec![], dropped: vec![] } };
        let dropped = |(cause, packets): (Dropped, u64)| TunnelDropped {
            cause: cause.as_str().to_owned(),
            packets,
        };
        Told {
            peers: tunnel.status().peers.iter().map(peer).collect(),
            dropped: tunnel.dropped().into_iter().map(dropped).collect(),
        }
    }

    /// Ends in order: streams are reset at both ends, then the connections.
    pub async fn end(&self) {
        let tunnel = self.tunnel().take();
        if let Some(tunnel) = tunnel {
            tunnel.stop().await;
        }
    }

    fn tunnel(&self) -> MutexGuard<'_, Option<driver::Tunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for InterSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InterSite").field("epochs", &self.epochs).finish_non_exhaustive()
    }
}

fn peer(status: &driver::PeerStatus) -> TunnelPeer {
    let channel = |channel: &driver::ChannelStatus| TunnelChannel {
        vm: channel.grant.vm.clone(),
        epoch: channel.grant.epoch,
        channel: channel.grant.channel.to_string(),
        from: channel.grant.from.clone(),
        to: channel.grant.to.clone(),
        streams: channel.streams,
        resets: channel.resets,
    };
    TunnelPeer {
        identity: status.identity.clone(),
        is_connected: status.is_connected,
        bulk_connected: status.bulk_connected,
        rtt_us: status.rtt_us,
        channels: status.channels.iter().map(channel).collect(),
        carries_packets: status.carries_packets,
        wire: wire(status),
    }
}

fn wire(status: &driver::PeerStatus) -> TunnelWire {
    let datagrams = status.datagrams.unwrap_or_default();
    TunnelWire {
        tcp_sent_bytes: status.wire.iter().map(|lane| lane.sent_bytes).sum(),
        tcp_received_bytes: status.wire.iter().map(|lane| lane.received_bytes).sum(),
        datagrams_sent: datagrams.sent,
        datagrams_sent_bytes: datagrams.sent_bytes,
        datagrams_received: datagrams.received,
        datagrams_received_bytes: datagrams.received_bytes,
        datagrams_unopened: datagrams.unopened,
    }
}

/// The proxy's certificates, as they are at the moment of each handshake.
struct Papers(Arc<ArcSwap<Credentials>>);

impl driver::Credentials for Papers {
    fn client(&self, peer: &Identity) -> Arc<ClientConfig> {
        self.0.load().client_config(peer.clone())
    }

    fn server(&self) -> Arc<ServerConfig> {
        self.0.load().server_config()
    }

    fn identity(&self, chain: &[CertificateDer<'_>]) -> Result<Identity, String> {
        let own = chain.first().ok_or_else(|| "no certificate was shown".to_owned())?;
        peer_identity(own).map_err(|error| daemon::with_causes(&error))
    }
}
