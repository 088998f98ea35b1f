//! The handle that a proxy has of its tunnel end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use placement::{Authority, Epoch, Identity, Owner, VmName, Watermark};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::accept::accept;
use super::barrier::{self, BarrierError};
use super::channels::{answer_asks, enter};
use super::clock::{Clock, watch_the_clock};
use super::dial::Dialler;
use super::local::{Entrance, EntranceError, prepare_folder};
use super::options;
use super::packets::{
    PacketError, Packets, probe, receive_datagrams, receive_from_device, watch_deadlines,
};
use super::peer::Peer;
use super::plan::{Credentials, Reach, StartError, TunnelPlan};
use super::report::{Reporter, Status, TunnelEvent};
use crate::protocol::channel::Grant;
use crate::protocol::grants::{Ask, GrantError, Grants, Wanted};
use crate::protocol::packets::{Dropped, LeftInPort, OwnSite, Way, WayCounts};
use crate::protocol::permits::Permits;
use crate::protocol::refusal::ResetReason;
use crate::protocol::session::Side;
use crate::protocol::wire::Lane;

/// Longest wait, when stopping, for peers to hear that streams are over.
const STOP_MS_MAX: u64 = 1_000;

/// How a channel is used from this end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelOptions {
    /// The bytes are worth compressing.
    pub compress: bool,
    /// The address that is meant at the far end, which must then be the one that is permitted there.
    pub wanted: Option<Wanted>,
}

/// Why a channel is not granted here.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The grant is not taken.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// No peer of that site is configured.
    #[error("no tunnel peer stands at site {0}; list its proxy among the peers")]
    NoPeer(placement::SiteName),
    /// Its socket cannot be made.
    #[error(transparent)]
    Entrance(#[from] EntranceError),
}

/// A running tunnel end. It ends when dropped, at once; [`Tunnel::stop`] ends it in order.
pub struct Tunnel {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    own: Identity,
    entrances: PathBuf,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) reporter: Reporter,
    pub(super) peers: Vec<Arc<Peer>>,
    packets: Option<Arc<Packets>>,
    /// Locked before any peer, never after: a stream is opened or accepted only under a grant that
    /// stands at that very moment.
    site: Mutex<SiteState>,
    tasks: Mutex<JoinSet<()>>,
}

pub(super) struct SiteState {
    pub(super) grants: Grants,
    pub(super) permits: Permits,
    open: BTreeMap<Grant, (Entrance, AbortHandle)>,
    pub(super) stopping: bool,
}

impl Tunnel {
    /// Starts dialling, and accepting on `listener`. `marks` is what the proxy remembers of epochs.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The plan makes no sense, or a folder or socket cannot be used.
    pub fn start(
        plan: TunnelPlan,
        listener: Option<TcpListener>,
        marks: impl IntoIterator<Item = (VmName, Watermark)>,
    ) -> Result<Tunnel, StartError> {
        plan.check()?;
        prepare_folder(&plan.entrances)?;
        let mut grants = Grants::new(plan.own.site.clone());
        for (vm, mark) in marks {
            if grants.remember(&vm, mark).is_err() {
                tracing::warn!("more vms are remembered than a tunnel end can know");
            }
        }
        let (clock, reporter) = (Clock::start(), Reporter::new());
        let address = listener.as_ref().map(TcpListener::local_addr).transpose();
        let address = address.map_err(StartError::Listener)?;
        let packets =
            plan.packets.map(|packets| Packets::new(packets, &plan.peers, address, clock));
        let packets = packets.transpose()?.map(Arc::new);
        let mut asked = Vec::new();
        let mut peers = Vec::new();
        for (number, peer) in plan.peers.iter().enumerate() {
            let of_packets = packets.as_ref().map(|packets| (Arc::clone(packets), number));
            let side = if peer.reach == Reach::Await { Side::Called } else { Side::Caller };
            let identity = peer.identity.clone();
            let (peer, asks) =
                Peer::new(identity, side, plan.limits, of_packets, clock, reporter.clone());
            peers.push(Arc::new(peer));
            asked.push(asks);
        }
        let inner = Arc::new(Inner {
            own: plan.own,
            entrances: plan.entrances,
            credentials: plan.credentials,
            reporter,
            peers,
            packets,
            site: Mutex::new(SiteState {
                grants,
                permits: plan.permits,
                open: BTreeMap::new(),
                stopping: false,
            }),
            tasks: Mutex::new(JoinSet::new()),
        });
        for ((peer, asks), planned) in inner.peers.iter().zip(asked).zip(&plan.peers) {
            inner.spawn(watch_the_clock(Arc::clone(peer), clock));
            inner.spawn(answer_asks(Arc::clone(&inner), Arc::clone(peer), asks));
            if let Reach::Dial(address) = planned.reach {
                inner.dial_all(peer, address, plan.limits.bulk_lanes);
            }
        }
        inner.carry_packets();
        if let Some(listener) = listener {
            options::before_connecting(&listener);
            inner.spawn(accept(Arc::clone(&inner), listener));
        }
        Ok(Tunnel { inner })
    }

    /// Takes a grant. At the end where connections enter, returns the socket that hypervisors
    /// connect to from now on; at the other, none. A repetition changes nothing. Must be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// Every [`ChannelError`]; nothing has changed then, except that a grant of a later epoch may
    /// have ended earlier ones.
    pub fn grant(
        &self,
        grant: &Grant,
        owner: &Owner,
        options: &ChannelOptions,
    ) -> Result<Option<PathBuf>, ChannelError> {
        let mut site = self.inner.site();
        let other = if grant.from == self.inner.own.site { &grant.to } else { &grant.from };
        if !self.inner.peers.iter().any(|peer| peer.identity.site == *other) {
            return Err(ChannelError::NoPeer(other.clone()));
        }
        let ended = site.grants.add(grant.clone(), owner)?;
        self.inner.end_channels(&mut site, &ended);
        if grant.from != self.inner.own.site {
            return Ok(None);
        }
        if let Some((entrance, _)) = site.open.get(grant) {
            entrance.give_to_owner()?;
            return Ok(Some(entrance.path().to_owned()));
        }
        let (entrance, listener) = match Entrance::open(&self.inner.entrances, grant) {
            Ok(opened) => opened,
            Err(error) => {
                site.grants.revoke(grant);
                return Err(error.into());
            }
        };
        let path = entrance.path().to_owned();
        let ask = self.inner.ask(grant, options);
        let entering = enter(Arc::clone(&self.inner), listener, ask);
        let task = self.inner.spawn(entering);
        site.open.insert(grant.clone(), (entrance, task));
        Ok(Some(path))
    }

    /// Takes a grant back: its socket goes, its streams are reset at both ends. False if there was
    /// none.
    pub fn revoke(&self, grant: &Grant) -> bool {
        let mut site = self.inner.site();
        let was = site.grants.revoke(grant);
        self.inner.end_channels(&mut site, std::slice::from_ref(grant));
        was
    }

    /// A claim or a placement of a VM was seen: grants of earlier epochs end.
    ///
    /// # Errors
    /// It is older than what has been seen, or equal and another's.
    pub fn seen(&self, vm: &VmName, authority: &Authority) -> Result<(), GrantError> {
        let mut site = self.inner.site();
        let ended = site.grants.seen(vm, authority)?;
        self.inner.end_channels(&mut site, &ended);
        Ok(())
    }

    /// A move of a VM ended: its grants end, and none of it is taken any more.
    ///
    /// # Errors
    /// [`GrantError::Full`].
    pub fn move_ended(&self, vm: &VmName, epoch: Epoch) -> Result<(), GrantError> {
        let mut site = self.inner.site();
        let ended = site.grants.ended(vm, epoch)?;
        self.inner.end_channels(&mut site, &ended);
        Ok(())
    }

    /// Peers may reach this from now on, and nothing else. Streams that are open stay: a channel
    /// ends with its grant.
    pub fn permit(&self, permits: Permits) {
        self.inner.site().permits = permits;
    }

    /// Every grant that stands.
    #[must_use]
    pub fn grants(&self) -> Vec<Grant> {
        self.inner.site().grants.list().cloned().collect()
    }

    /// Waits until every byte that programs here had written to the channel's open connections when
    /// this was called has been taken by the socket of the program at the far end. Bytes that are
    /// still in a socket of this host count as written.
    ///
    /// It does not say that the far program has read them from its socket, acted on them, or put
    /// them on a disk, and nothing of the other direction: where that matters, the programs' own
    /// protocol must answer. It waits as long as streams do: through an outage, and if that is too
    /// long they are cut off, which ends it.
    ///
    /// # Errors
    /// A stream of the channel was cut off, now or since the grant, or there is no such grant.
    pub async fn barrier(&self, grant: &Grant) -> Result<(), BarrierError> {
        self.inner.site().grants.check(grant).map_err(|_| BarrierError::NoGrant)?;
        for mark in barrier::marks(&self.inner.peers, grant)? {
            mark.reached().await?;
        }
        Ok(())
    }

    /// The way of a VM's packets from now on, or that there is none; what was kept for it goes where
    /// it belongs. Said again, it changes nothing.
    ///
    /// # Errors
    /// See [`PacketError`]; nothing has changed then.
    pub fn set_way(&self, vm: &VmName, way: Option<Way>) -> Result<(), PacketError> {
        match &self.inner.packets {
            Some(packets) => packets.set(vm, way),
            None if way.is_none() => Ok(()),
            None => Err(PacketError::NoPackets),
        }
    }

    /// Takes one part of what was left in the port of a VM that is held here: it goes before all that
    /// is held. Gives how many packets the part had; said again, the same.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn leftovers(&self, vm: &VmName, left: LeftInPort) -> Result<u64, PacketError> {
        let packets = self.inner.packets.as_ref().ok_or(PacketError::NoPackets)?;
        packets.leftovers(vm, left)
    }

    /// Whether packets can be sent to this proxy now.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn can_carry_to(&self, peer: &Identity) -> Result<(), PacketError> {
        if self.inner.packets.is_none() {
            return Err(PacketError::NoPackets);
        }
        match self.inner.peer(peer) {
            None => Err(PacketError::NoPeer(Box::new(peer.clone()))),
            Some(known) if known.carries_packets() => Ok(()),
            Some(_) => Err(PacketError::NotConnected(peer.site.clone())),
        }
    }

    /// What was counted of a VM's packets, while it has a way.
    #[must_use]
    pub fn way_counts(&self, vm: &VmName) -> Option<WayCounts> {
        self.inner.packets.as_ref()?.counts(vm)
    }

    /// For how long no peer has had anything for a VM that is here; none where none ever had.
    #[must_use]
    pub fn quiet(&self, vm: &VmName) -> Option<Duration> {
        self.inner.packets.as_ref()?.quiet(vm)
    }

    /// Packets that were dropped, by their cause.
    #[must_use]
    pub fn dropped(&self) -> Vec<(Dropped, u64)> {
        self.inner.packets.as_ref().map(|packets| packets.dropped()).unwrap_or_default()
    }

    /// The VMs that are at a peer's, or go there.
    #[must_use]
    pub fn vms_at(&self, peer: &Identity) -> Vec<VmName> {
        self.inner.packets.as_ref().map(|packets| packets.vms_of(peer)).unwrap_or_default()
    }

    /// Nobody else may send in the name of these from now on.
    pub fn own_site(&self, site: OwnSite) {
        if let Some(packets) = &self.inner.packets {
            packets.own_site(site);
        }
    }

    /// Waits until nothing waits here any more for a VM that has come here, and the device has nothing
    /// left to read: what comes from then on is not overtaken by what came before. The wait may
    /// outlive the handle.
    pub fn settled(&self, vm: &VmName) -> impl Future<Output = ()> + Send + use<> {
        let (packets, vm) = (self.inner.packets.clone(), vm.clone());
        async move {
            if let Some(packets) = packets {
                packets.flows(&vm).await;
                packets.device_is_empty().await;
            }
        }
    }

    /// Waits until the device had nothing left to read; what it had has gone its way then. The wait
    /// may outlive the handle.
    pub fn device_is_empty(&self) -> impl Future<Output = ()> + Send + use<> {
        let packets = self.inner.packets.clone();
        async move {
            if let Some(packets) = packets {
                packets.device_is_empty().await;
            }
        }
    }

    /// The state of every peer and channel.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { peers: self.inner.peers.iter().map(|peer| peer.status()).collect() }
    }

    /// Events from now on. A listener that lags far behind is told how many it missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<TunnelEvent> {
        self.inner.reporter.subscribe()
    }

    /// Ends in order: no new streams, every open one reset at both ends, then the connections. Takes
    /// at most about a second.
    pub async fn stop(self) {
        {
            let mut site = self.inner.site();
            site.stopping = true;
            let all: Vec<Grant> = site.open.keys().cloned().collect();
            for grant in all {
                close_entrance(&mut site, &grant);
            }
            for peer in &self.inner.peers {
                peer.with(|session, now| session.reset_all(ResetReason::Stopping, now));
            }
        }
        let said = async {
            for peer in self.inner.peers.iter().filter(|peer| *peer.control.borrow()) {
                let _ = peer.said_all.subscribe().wait_for(|all| *all).await;
            }
        };
        if timeout(Duration::from_millis(STOP_MS_MAX), said).await.is_err() {
            tracing::warn!("a tunnel peer did not confirm that streams are over");
        }
        let mut tasks = std::mem::take(&mut *self.inner.tasks());
        tasks.shutdown().await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.inner.site().open.clear();
        self.inner.tasks().abort_all();
    }
}

impl Inner {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    fn carry_packets(&self) {
        let Some(packets) = &self.packets else { return };
        self.spawn(receive_from_device(Arc::clone(packets)));
        self.spawn(watch_deadlines(Arc::clone(packets)));
        for socket in 0..packets.sockets() {
            self.spawn(receive_datagrams(Arc::clone(packets), socket));
        }
        for (link, peer) in self.peers.iter().enumerate().take(packets.links()) {
            self.spawn(probe(Arc::clone(packets), link));
            let (packets, peer) = (Arc::clone(packets), Arc::clone(peer));
            self.spawn(async move {
                loop {
                    packets.nudged(link).await;
                    peer.with(|_, _| {});
                }
            });
        }
    }

    /// A peer that dials us.
    pub(super) fn peer(&self, identity: &Identity) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|peer| peer.identity == *identity)
    }

    pub(super) fn site(&self) -> MutexGuard<'_, SiteState> {
        self.site.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, grant: &Grant, options: &ChannelOptions) -> Ask {
        let ChannelOptions { compress, wanted } = options.clone();
        Ask { grant: grant.clone(), wanted, compress }
    }

    fn dial_all(&self, peer: &Arc<Peer>, address: std::net::SocketAddr, bulk_lanes: u8) {
        for lane in std::iter::once(Lane::Control).chain((0..bulk_lanes).map(Lane::Bulk)) {
            let (peer, reporter) = (Arc::clone(peer), self.reporter.clone());
            let credentials = Arc::clone(&self.credentials);
            self.spawn(Dialler { peer, lane, address, credentials, reporter }.keep());
        }
    }

    fn end_channels(&self, site: &mut SiteState, grants: &[Grant]) {
        for grant in grants {
            close_entrance(site, grant);
            for peer in &self.peers {
                peer.with(|session, now| session.reset_channel(grant, ResetReason::Revoked, now));
                peer.forget(grant);
            }
        }
    }
}

fn close_entrance(site: &mut SiteState, grant: &Grant) {
    if let Some((entrance, task)) = site.open.remove(grant) {
        task.abort();
        drop(entrance);
    }
}
