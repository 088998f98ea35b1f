//! All ways at one proxy: which VM a packet has to do with, and what becomes of it.
//!
//! Packets and messages in, packets and messages out, through an [`Outlet`]. It neither waits nor
//! fails: what cannot be carried is dropped, and counted by its cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bytes::Bytes;
use placement::{Epoch, Identity, VmName};

use super::admission::{Dropped, towards};
use super::inner::{Inner, Transport};
use super::message::{PacketMessage, Told};
use super::plan::{LeftInPort, OwnSite, Stand, Way};
use super::way::{Own, Post, WayCounts};
use crate::protocol::Moment;
use crate::protocol::bounds::PACKET_BYTES_MAX;

/// Where packets leave. Nothing here may wait.
pub trait Outlet {
    /// Hands a packet to the kernel beside the proxy's leg.
    fn device(&mut self, packet: &[u8]);
    /// Sends a packet to a peer's own outlet, by datagram.
    fn datagram(&mut self, peer: &Identity, packet: &[u8]);
    /// There is something for [`Ways::next_message`] to a peer.
    fn nudge(&mut self, peer: &Identity);
}

/// Why a way is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WayError {
    /// Another VM has one of its addresses.
    #[error("{address} is {other}'s, whose packets pass here too; no two vms share an address")]
    Shared {
        /// Which address.
        address: IpAddr,
        /// Whose it is.
        other: VmName,
    },
    /// Nothing is held for it.
    #[error("nothing of move {0} is held here for this vm")]
    NotHolding(Epoch),
}

/// The ways of all VMs that this proxy has to do with.
#[derive(Debug)]
pub struct Ways {
    site: OwnSite,
    /// This life's queues.
    queue: u64,
    own: BTreeMap<VmName, Own>,
    by_address: HashMap<IpAddr, VmName>,
    /// VMs with something to say, by peer.
    ready: BTreeMap<Identity, BTreeSet<VmName>>,
    dropped: [u64; Dropped::ALL.len()],
}

impl Ways {
    /// None yet. `life` is drawn at random at each start of the proxy.
    #[must_use]
    pub fn new(site: OwnSite, life: u64) -> Ways {
        Ways {
            site,
            queue: life,
            own: BTreeMap::new(),
            by_address: HashMap::new(),
            ready: BTreeMap::new(),
            dropped: [0; Dropped::ALL.len()],
        }
    }

    /// Nobody else may send in the name of these from now on.
    pub fn own_site(&mut self, site: OwnSite) {
        self.site = site;
    }

    /// The way of a VM from now on, or that there is none. What was kept for it goes where it
    /// belongs: to the VM, if it runs here now; to nobody, if it was sent ahead for a move that is
    /// over. Said again, it changes nothing.
    ///
    /// # Errors
    /// [`WayError::Shared`]; nothing has changed then.
    pub fn set(
        &mut self,
        vm: &VmName,
        way: Option<Way>,
        now: Moment,
        outlet: &mut impl Outlet,
    ) -> Result<(), WayError> {
        let addresses = way.iter().flat_map(|way| &way.addresses);
        let others = addresses.filter_map(|ip| self.by_address.get(ip).map(|other| (ip, other)));
        if let Some((address, other)) = others.into_iter().find(|(_, other)| *other != vm) {
            return Err(WayError::Shared { address: *address, other: other.clone() });
        }
        if way.is_none() && !self.own.contains_key(vm) {
            return Ok(());
        }
        let queue = self.queue;
        let own = self.own.entry(vm.clone()).or_insert_with(|| Own::new(queue));
        let mut post = Post::new(outlet, &mut self.dropped);
        let stands = own.set(way, now, &mut post);
        let notes = post.into_nudges();
        let addresses = own.addresses().clone();
        self.by_address.retain(|_, known| known != vm);
        if stands {
            self.by_address.extend(addresses.into_iter().map(|ip| (ip, vm.clone())));
        } else {
            self.own.remove(vm);
        }
        self.nudge(vm, notes, outlet);
        Ok(())
    }

    /// Takes one part of what was left in the port of a VM that is held here; it goes before all that
    /// is held. Gives how many packets the part had, now or when it came first. After the one that
    /// `is_last` nothing that is held is waited with any more.
    ///
    /// # Errors
    /// [`WayError::NotHolding`].
    pub fn leftovers(
        &mut self,
        vm: &VmName,
        left: LeftInPort,
        outlet: &mut impl Outlet,
    ) -> Result<u64, WayError> {
        let LeftInPort { epoch, part, packets, tuples, is_last } = left;
        let own = self.own.get_mut(vm).ok_or(WayError::NotHolding(epoch))?;
        let mut fit = Vec::with_capacity(packets.len());
        let mut post = Post::new(outlet, &mut self.dropped);
        for packet in packets {
            match parse(&packet) {
                Ok(inner) if own.addresses().contains(&inner.destination) => {
                    fit.push((packet, inner.transport));
                }
                // What was left there was for the VM, or for nobody at all.
                Ok(_) => post.drop(own.counts(), Dropped::NoWay, 1),
                Err(cause) => post.drop(own.counts(), cause, 1),
            }
        }
        let taken = own.leftovers(epoch, part, fit, tuples, is_last, &mut post);
        let nudges = post.into_nudges();
        self.nudge(vm, nudges, outlet);
        taken.ok_or(WayError::NotHolding(epoch))
    }

    /// A packet that the kernel sends into the tunnel.
    pub fn from_device(&mut self, packet: &[u8], outlet: &mut impl Outlet) {
        let inner = match parse(packet) {
            Ok(inner) => inner,
            Err(cause) => return self.drop(cause),
        };
        if let Some((vm, own)) = vm_of(&self.by_address, &mut self.own, inner.destination) {
            let mut post = Post::new(outlet, &mut self.dropped);
            own.towards_from_device(packet, &inner, &mut post);
            let nudges = post.into_nudges();
            let vm = (!nudges.is_empty()).then(|| vm.clone());
            if let Some(vm) = vm {
                self.nudge(&vm, nudges, outlet);
            }
        } else if let Some((_, own)) = vm_of(&self.by_address, &mut self.own, inner.source) {
            own.of_vm_from_device(packet, &inner, &mut Post::new(outlet, &mut self.dropped));
        } else if !inner.destination.is_multicast() {
            // To a group the kernel speaks by itself once the device is up: nobody is on that link.
            self.drop(Dropped::NoWay);
        }
    }

    /// A packet that a peer sent by datagram.
    pub fn from_peer(
        &mut self,
        peer: &Identity,
        packet: &[u8],
        now: Moment,
        outlet: &mut impl Outlet,
    ) {
        let inner = match parse(packet) {
            Ok(inner) => inner,
            Err(cause) => return self.drop(cause),
        };
        if self.by_address.contains_key(&inner.destination) {
            self.towards_from_peer(peer, packet, &inner, now, outlet);
            return;
        }
        let quoted = inner.quoted.map(|flow| [flow.source, flow.destination]);
        let about = quoted.iter().flatten().find(|ip| self.by_address.contains_key(*ip));
        let vm = match self.by_address.contains_key(&inner.source) {
            true => Some(inner.source),
            false => about.copied(),
        };
        match vm.and_then(|ip| vm_of(&self.by_address, &mut self.own, ip)) {
            Some((_, own)) => {
                let mut post = Post::new(outlet, &mut self.dropped);
                own.of_vm_from_peer(peer, packet, &inner, now, &mut post);
            }
            None => self.drop(Dropped::NoWay),
        }
    }

    fn towards_from_peer(
        &mut self,
        peer: &Identity,
        packet: &[u8],
        inner: &Inner,
        now: Moment,
        outlet: &mut impl Outlet,
    ) {
        let admitted = self.admits(peer, inner, now);
        let Some((vm, own)) = vm_of(&self.by_address, &mut self.own, inner.destination) else {
            return;
        };
        let mut post = Post::new(outlet, &mut self.dropped);
        match admitted {
            Ok(()) => own.towards_from_peer(peer, packet, inner, now, &mut post),
            Err(cause) => post.drop(own.counts(), cause, 1),
        }
        let nudges = post.into_nudges();
        if !nudges.is_empty() {
            let vm = vm.clone();
            self.nudge(&vm, nudges, outlet);
        }
    }

    /// Whether a peer may send this to the VM that it is for.
    fn admits(&self, peer: &Identity, inner: &Inner, now: Moment) -> Result<(), Dropped> {
        let vm = self.by_address.get(&inner.destination).ok_or(Dropped::NoWay)?;
        let own = self.own.get(vm).ok_or(Dropped::NoWay)?;
        let is_of_a_vm_here = |ip: IpAddr| {
            let other = self.by_address.get(&ip).and_then(|other| self.own.get(other));
            other.is_some_and(Own::is_here)
        };
        let talks = own.talks(now);
        let hands_on = own.hands_on(peer, now);
        towards(inner, peer, own.addresses(), talks, &self.site, hands_on, is_of_a_vm_here)
    }

    /// A message of a peer.
    pub fn arrived(
        &mut self,
        peer: &Identity,
        message: PacketMessage,
        now: Moment,
        outlet: &mut impl Outlet,
    ) {
        let PacketMessage { vm, epoch, told } = message;
        let admitted = match &told {
            Told::Held { packets, .. } | Told::Leftovers { packets, .. } => {
                let verdict = |packet: &Bytes| {
                    let inner = parse(packet)?;
                    self.admits(peer, &inner, now)?;
                    let is_for_it = self.by_address.get(&inner.destination) == Some(&vm);
                    if is_for_it { Ok(inner.transport) } else { Err(Dropped::NoWay) }
                };
                packets.iter().map(verdict).collect()
            }
            _ => Vec::new(),
        };
        let Some(own) = self.own.get_mut(&vm) else {
            return self.drop(Dropped::NoWay);
        };
        let mut post = Post::new(outlet, &mut self.dropped);
        own.told(peer, epoch, told, admitted, now, &mut post);
        let nudges = post.into_nudges();
        self.nudge(&vm, nudges, outlet);
    }

    /// When a peer last had something for a VM that is here; none where none ever had.
    #[must_use]
    pub fn heard(&self, vm: &VmName) -> Option<Moment> {
        self.own.get(vm).and_then(Own::heard)
    }

    /// Whether nothing waits here any more for a VM that runs here: what comes now is not overtaken
    /// by what came before.
    #[must_use]
    pub fn flows(&self, vm: &VmName) -> bool {
        self.own.get(vm).is_none_or(|own| own.deadline().is_none())
    }

    /// When [`Ways::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.own.values().filter_map(Own::deadline).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment, outlet: &mut impl Outlet) {
        for own in self.own.values_mut() {
            own.flow(now, &mut Post::new(outlet, &mut self.dropped));
        }
    }

    /// The next message for a peer, whose control stream has room.
    pub fn next_message(&mut self, peer: &Identity) -> Option<PacketMessage> {
        let ready = self.ready.get_mut(peer)?;
        while let Some(vm) = ready.first().cloned() {
            match self.own.get_mut(&vm).and_then(|own| own.next_told(peer)) {
                Some((epoch, told)) => return Some(PacketMessage { vm, epoch, told }),
                None => ready.remove(&vm),
            };
        }
        None
    }

    /// A peer has forgotten what it was told, or we what it told us: its new life, or ours towards it.
    pub fn forgotten_by(&mut self, peer: &Identity) {
        for (vm, own) in &mut self.own {
            if own.forgotten_by(peer) {
                self.ready.entry(peer.clone()).or_default().insert(vm.clone());
            }
        }
    }

    /// What was counted of a VM, while it has a way.
    #[must_use]
    pub fn counts(&self, vm: &VmName) -> Option<WayCounts> {
        self.own.get(vm).map(Own::counted)
    }

    /// What was dropped, of all VMs and of none, by its cause.
    #[must_use]
    pub fn dropped(&self) -> [(Dropped, u64); Dropped::ALL.len()] {
        Dropped::ALL.map(|cause| (cause, self.dropped[cause as usize]))
    }

    /// The VMs that are now at a peer's, or go there.
    #[must_use]
    pub fn vms_of(&self, peer: &Identity) -> Vec<VmName> {
        let concerns = |stand: &Stand| match stand {
            Stand::Away { to, .. } | Stand::Holding { to, .. } => to == peer,
            Stand::Staged { away, .. } => away.as_ref() == Some(peer),
            Stand::Here { .. } => false,
        };
        let of = self.own.iter().filter(|(_, own)| own.stand().is_some_and(concerns));
        of.map(|(vm, _)| vm.clone()).collect()
    }

    fn drop(&mut self, cause: Dropped) {
        self.dropped[cause as usize] += 1;
    }

    fn nudge(&mut self, vm: &VmName, peers: Vec<Identity>, outlet: &mut impl Outlet) {
        for peer in peers {
            outlet.nudge(&peer);
            self.ready.entry(peer).or_default().insert(vm.clone());
        }
    }
}

fn vm_of<'a>(
    by_address: &'a HashMap<IpAddr, VmName>,
    own: &'a mut BTreeMap<VmName, Own>,
    address: IpAddr,
) -> Option<(&'a VmName, &'a mut Own)> {
    let vm = by_address.get(&address)?;
    Some((vm, own.get_mut(vm)?))
}

fn parse(packet: &[u8]) -> Result<Inner, Dropped> {
    if packet.len() > PACKET_BYTES_MAX {
        return Err(Dropped::Unfit);
    }
    Inner::parse(packet).map_err(|_| Dropped::Unfit)
}

/// One packet that was admitted, or why it was not.
pub(super) type Verdict = Result<Transport, Dropped>;
