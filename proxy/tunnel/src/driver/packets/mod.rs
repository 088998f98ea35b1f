//! Packets of VMs, between the device beside the proxy's leg and its peers.
//!
//! The ways are behind one lock: what is decided under it has left before the next packet is looked
//! at, so that order is kept. A peer's lock may be held when it is taken, never the reverse; a link's
//! lock is the innermost.

mod leaving;
mod link;
mod tasks;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use placement::{Identity, SiteName, VmName};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use self::leaving::Leaving;
use self::link::Link;
pub use self::link::LinkCount;
pub(super) use self::tasks::{probe, receive_datagrams, receive_from_device, watch_deadlines};
use super::clock::{Clock, draw};
use super::options;
use super::plan::{PeerPlan, Reach, StartError};
use crate::protocol::Moment;
use crate::protocol::packets::keys::{KeyId, Secret};
use crate::protocol::packets::{
    Dropped, LeftInPort, OwnSite, PacketMessage, Stand, Way, WayCounts, WayError, Ways,
};

/// Between two looks at whether a VM that has come here has what was sent ahead.
const FLOWS_LOOK: Duration = Duration::from_millis(1);

/// The kernel beside the proxy's leg, as packets see it.
pub trait PacketDevice: Send + Sync + 'static {
    /// The next packet that the kernel sends here; its length. One task asks at a time.
    ///
    /// # Errors
    /// The device is gone.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Hands the kernel a packet. It takes it or drops it, and never waits.
    ///
    /// # Errors
    /// It was dropped.
    fn send(&self, packet: &[u8]) -> io::Result<()>;
}

/// What packets need, where a tunnel end carries them.
#[derive(Clone)]
pub struct PacketPlan {
    /// Where they come from and go to.
    pub device: Arc<dyn PacketDevice>,
    /// What nobody else may send in the name of.
    pub site: OwnSite,
}

/// Why a VM's packets cannot go a way.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// This end carries none.
    #[error("this tunnel end carries no packets; configure [[network]] and [tunnel]")]
    NoPackets,
    /// A proxy is no peer.
    #[error("proxy {0} is no tunnel peer; list it among the peers")]
    NoPeer(Box<Identity>),
    /// No peer of that site can be sent packets now.
    #[error("no packets pass to site {0} now; see whether both proxies run, and UDP between them")]
    NotConnected(SiteName),
    /// The way makes no sense.
    #[error(transparent)]
    Way(#[from] WayError),
}

pub(super) struct Packets {
    clock: Clock,
    device: Arc<dyn PacketDevice>,
    ways: Mutex<Ways>,
    links: Vec<Link>,
    by_identity: HashMap<Identity, usize>,
    by_key: Mutex<HashMap<KeyId, usize>>,
    sockets: Vec<UdpSocket>,
    unsent: AtomicU64,
    /// Who waits until the device has nothing left, and whoever reads from it is to look.
    emptied: Mutex<Vec<oneshot::Sender<()>>>,
    look: Notify,
    /// Something may be due by itself.
    due: Notify,
}

impl Packets {
    /// Opens sockets: beside the listener, and for each family that is dialled.
    pub(super) fn new(
        plan: PacketPlan,
        peers: &[PeerPlan],
        listen: Option<SocketAddr>,
        clock: Clock,
    ) -> Result<Packets, StartError> {
        let mut sockets = Vec::new();
        if let Some(address) = listen {
            sockets.push(open(address)?);
        }
        let mut links = Vec::new();
        for peer in peers {
            let dialled = match peer.reach {
                Reach::Dial(address) => Some(address),
                Reach::Await => None,
            };
            let is_fit = |socket: &UdpSocket| match (dialled, socket.local_addr()) {
                (Some(address), Ok(local)) => local.is_ipv4() == address.is_ipv4(),
                _ => true,
            };
            let socket = match sockets.iter().position(is_fit) {
                Some(socket) => socket,
                None => {
                    sockets.push(open(any(dialled))?);
                    sockets.len() - 1
                }
            };
            links.push(Link::new(peer.identity.clone(), dialled, socket));
        }
        let by_identity = links.iter().enumerate();
        let by_identity = by_identity.map(|(at, link)| (link.identity.clone(), at)).collect();
        Ok(Packets {
            clock,
            device: plan.device,
            ways: Mutex::new(Ways::new(plan.site, draw())),
            links,
            by_identity,
            by_key: Mutex::default(),
            sockets,
            unsent: AtomicU64::new(0),
            emptied: Mutex::default(),
            look: Notify::new(),
            due: Notify::new(),
        })
    }

    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn set(&self, vm: &VmName, way: Option<Way>) -> Result<(), PacketError> {
        for peer in way.iter().flat_map(peers_of) {
            if !self.by_identity.contains_key(peer) {
                return Err(PacketError::NoPeer(Box::new(peer.clone())));
            }
        }
        let now = self.clock.now();
        self.leaving(|ways, leaving| ways.set(vm, way, now, leaving))?;
        // A VM that runs here now may wait for what was left in its port, not for ever.
        self.due.notify_one();
        Ok(())
    }

    pub(super) fn leftovers(&self, vm: &VmName, left: LeftInPort) -> Result<u64, PacketError> {
        Ok(self.leaving(|ways, leaving| ways.leftovers(vm, left, leaving))?)
    }

    pub(super) fn counts(&self, vm: &VmName) -> Option<WayCounts> {
        self.ways().counts(vm)
    }

    /// For how long no peer has had anything for a VM that is here.
    pub(super) fn quiet(&self, vm: &VmName) -> Option<Duration> {
        let heard = self.ways().heard(vm)?;
        let us = self.clock.now().as_micros().saturating_sub(heard.as_micros());
        Some(Duration::from_micros(us))
    }

    pub(super) fn dropped(&self) -> Vec<(Dropped, u64)> {
        let unsent = self.unsent.load(Ordering::Relaxed);
        let with_unsent = |(cause, count)| match cause {
            Dropped::Unsent => (cause, count + unsent),
            _ => (cause, count),
        };
        self.ways().dropped().map(with_unsent).to_vec()
    }

    /// The VMs that are at a peer's, or go there.
    pub(super) fn vms_of(&self, peer: &Identity) -> Vec<VmName> {
        self.ways().vms_of(peer)
    }

    /// A control connection carries its lane from now on.
    pub(super) fn keyed(&self, link: usize, secret: &Secret) {
        let Some(of) = self.links.get(link) else { return };
        let ids = of.keyed(secret, self.clock.now());
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.retain(|_, known| *known != link);
        by_key.extend(ids.into_iter().map(|id| (id, link)));
        drop(by_key);
        of.probe.notify_one();
    }

    /// Whether datagrams can be sent to a peer: its keys are known, and where it is.
    pub(super) fn is_open(&self, link: usize) -> bool {
        self.links.get(link).is_some_and(Link::is_open)
    }

    pub(super) fn count(&self, link: usize) -> LinkCount {
        self.links.get(link).map(Link::count).unwrap_or_default()
    }

    pub(super) fn arrived(&self, peer: &Identity, message: PacketMessage) {
        let now = self.clock.now();
        self.leaving(|ways, leaving| ways.arrived(peer, message, now, leaving));
    }

    pub(super) fn forgotten_by(&self, link: usize) {
        let Some(link) = self.links.get(link) else { return };
        self.ways().forgotten_by(&link.identity);
        link.state().joiner.forget();
        link.nudge();
    }

    /// The next message for a peer whose control stream has room.
    pub(super) fn next_message(&self, link: usize) -> Option<PacketMessage> {
        let link = self.links.get(link)?;
        if !link.has_messages.swap(false, Ordering::AcqRel) {
            return None;
        }
        let message = self.ways().next_message(&link.identity);
        if message.is_some() {
            link.has_messages.store(true, Ordering::Release);
        }
        message
    }

    /// When something is due by itself, while anything is.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.ways().next_deadline()
    }

    pub(super) fn tick(&self) {
        let now = self.clock.now();
        self.leaving(|ways, leaving| ways.tick(now, leaving));
    }

    /// Waits until there is something to say to a peer.
    pub(super) async fn nudged(&self, link: usize) {
        match self.links.get(link) {
            Some(link) => link.feed.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn own_site(&self, site: OwnSite) {
        self.ways().own_site(site);
    }

    /// Waits until nothing waits any more for a VM that has come here: at most as long as leftovers
    /// are waited for.
    pub(super) async fn flows(&self, vm: &VmName) {
        while !self.ways().flows(vm) {
            sleep(FLOWS_LOOK).await;
            self.tick();
        }
    }

    /// Waits until the device had nothing left to read.
    pub(super) async fn device_is_empty(&self) {
        let (told, empty) = oneshot::channel();
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        self.look.notify_one();
        // An error says that nobody reads any more, so that nothing more is read either.
        let _ = empty.await;
    }

    /// Does one thing with the ways; what leaves thereby has left, or is dropped, when this returns.
    fn leaving<T>(&self, act: impl FnOnce(&mut Ways, &mut Leaving<'_>) -> T) -> T {
        let mut leaving = Leaving::of(self);
        let done = act(&mut self.ways(), &mut leaving);
        leaving.drop_waiting();
        done
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(address: SocketAddr) -> Result<UdpSocket, StartError> {
    let opened = || {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        options::for_datagrams(&socket);
        UdpSocket::from_std(socket)
    };
    opened().map_err(|source| StartError::Datagrams { address, source })
}

/// Any address of a family.
fn any(like: Option<SocketAddr>) -> SocketAddr {
    match like {
        Some(SocketAddr::V6(_)) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

fn peers_of(way: &Way) -> BTreeSet<&Identity> {
    let (own, talks): (Vec<&Identity>, _) = match &way.stand {
        Stand::Staged { from, away, talks } => {
            (std::iter::once(from).chain(away).collect(), &talks[..])
        }
        Stand::Holding { to, talks } => (vec![to], &talks[..]),
        Stand::Away { to, next } => (std::iter::once(to).chain(next).collect(), &[][..]),
        Stand::Here { talks } => (vec![], &talks[..]),
    };
    own.into_iter().chain(talks.iter().map(|place| &place.peer)).collect()
}
