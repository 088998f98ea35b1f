//! One VM's way: what becomes of a packet, and of what was kept when the way changes.
//!
//! ```text
//! where it leaves:    Here -> Holding -> (its release is confirmed) -> Away
//!                            \-> Here: what was kept is the VM's, the other end is told
//! where it arrives:   Staged -> Here: leftovers, what was held, what waited here meanwhile
//!                            \-> nothing: what was sent ahead is void
//! ```

mod told;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;
use placement::{Epoch, Identity};

use super::admission::{Dropped, HandsOn, is_of_vm};
use super::incoming::Incoming;
use super::inner::{Inner, Transport};
use super::kept::Kept;
use super::message::Told;
use super::outgoing::Outgoing;
use super::plan::{Stand, Talks, Tuple, Way};
use super::ways::Outlet;
use crate::protocol::Moment;
use crate::protocol::bounds::RELAY_MS_MAX;

/// What was counted on a way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Kept back for a move: here, or sent ahead to here.
    pub held: u64,
    /// Bytes of those that are kept now.
    pub held_bytes_now: u64,
    /// Of what was kept, given to the VM here.
    pub released: u64,
    /// Sent by datagram.
    pub sent: u64,
    /// Received by datagram and handed on.
    pub received: u64,
    /// Dropped because more was kept than may be.
    pub dropped_overflow: u64,
    /// Dropped because they were not allowed.
    pub dropped_refused: u64,
    /// Dropped for any other reason.
    pub dropped_other: u64,
}

/// Where packets leave, what is counted of them, and who is to be told something.
pub(super) struct Post<'a> {
    outlet: &'a mut dyn Outlet,
    dropped: &'a mut [u64; Dropped::ALL.len()],
    nudges: Vec<Identity>,
}

impl<'a> Post<'a> {
    pub(super) fn new(
        outlet: &'a mut dyn Outlet,
        dropped: &'a mut [u64; Dropped::ALL.len()],
    ) -> Post<'a> {
        Post { outlet, dropped, nudges: Vec::new() }
    }

    pub(super) fn drop(&mut self, counts: &mut WayCounts, cause: Dropped, count: u64) {
        self.dropped[cause as usize] += count;
        match cause {
            Dropped::Overflow => counts.dropped_overflow += count,
            cause if cause.is_refusal() => counts.dropped_refused += count,
            _ => counts.dropped_other += count,
        }
    }

    pub(super) fn into_nudges(self) -> Vec<Identity> {
        self.nudges
    }

    fn nudge(&mut self, peer: &Identity) {
        if !self.nudges.contains(peer) {
            self.nudges.push(peer.clone());
        }
    }
}

/// One VM.
#[derive(Debug)]
pub(super) struct Own {
    /// None before the first.
    way: Option<Way>,
    addresses: BTreeSet<IpAddr>,
    queue: u64,
    outgoing: Option<Outgoing>,
    incoming: Option<Incoming>,
    /// On a return, what this proxy itself has for the VM: from the other end's hold to the release.
    waiting: Option<Kept>,
    /// Whose packets are still handed on, and until when: what is under way when a way changes.
    relayed: Option<(Vec<Talks>, Moment)>,
    /// Whom it came from, and until when that one may hand on what others had for the VM.
    came: Option<(Identity, Moment, HandsOn)>,
    notes: VecDeque<(Identity, Epoch, Told)>,
    counts: WayCounts,
    /// When a peer last had something for it.
    heard: Option<Moment>,
}

impl Own {
    pub(super) fn new(queue: u64) -> Own {
        Own {
            way: None,
            addresses: BTreeSet::new(),
            queue,
            outgoing: None,
            incoming: None,
            waiting: None,
            relayed: None,
            came: None,
            notes: VecDeque::new(),
            counts: WayCounts::default(),
            heard: None,
        }
    }

    pub(super) fn heard(&self) -> Option<Moment> {
        self.heard
    }

    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    pub(super) fn counts(&mut self) -> &mut WayCounts {
        &mut self.counts
    }

    pub(super) fn counted(&self) -> WayCounts {
        let kept = self.outgoing.as_ref().map_or(0, Outgoing::bytes)
            + self.incoming.as_ref().map_or(0, Incoming::bytes)
            + self.waiting.as_ref().map_or(0, Kept::bytes);
        WayCounts { held_bytes_now: kept as u64, ..self.counts }
    }

    pub(super) fn stand(&self) -> Option<&Stand> {
        self.way.as_ref().map(|way| &way.stand)
    }

    pub(super) fn is_here(&self) -> bool {
        matches!(self.stand(), Some(Stand::Here { .. } | Stand::Holding { .. }))
    }

    /// The places that the VM talks to, and whose packets for it are taken.
    pub(super) fn talks(&self, now: Moment) -> &[Talks] {
        match self.stand() {
            Some(
                Stand::Staged { talks, .. } | Stand::Holding { talks, .. } | Stand::Here { talks },
            ) => talks,
            _ => match &self.relayed {
                Some((talks, until)) if now <= *until => talks,
                _ => &[],
            },
        }
    }

    /// What a peer may hand on of others': the one that it leaves, until those know.
    pub(super) fn hands_on(&self, peer: &Identity, now: Moment) -> HandsOn {
        let came = self.came.as_ref().filter(|(from, until, _)| from == peer && now <= *until);
        match (self.stand(), came) {
            (Some(Stand::Staged { from, away, .. }), _) if from == peer => match away {
                Some(_) => HandsOn::OursToo,
                None => HandsOn::ThirdPlaces,
            },
            (Some(Stand::Here { .. }), Some((.., hands_on))) => *hands_on,
            _ => HandsOn::Nothing,
        }
    }

    /// The way from now on; whether the VM still has one.
    pub(super) fn set(&mut self, way: Option<Way>, now: Moment, post: &mut Post<'_>) -> bool {
        let before = self.way.take();
        // Called off, and nothing else known: it is here as it was, and a route may still lead to us.
        let way = way.or_else(|| match &before {
            Some(Way { stand: Stand::Holding { .. }, epoch, addresses }) => Some(Way {
                epoch: *epoch,
                addresses: addresses.clone(),
                stand: Stand::Here { talks: Vec::new() },
            }),
            _ => None,
        });
        if before == way && before.is_some() {
            self.way = before;
            return true;
        }
        if let Some(way) = &way {
            self.addresses = way.addresses.clone();
        }
        self.leave(before.as_ref(), way.as_ref(), now, post);
        match &way {
            Some(Way { epoch, stand: Stand::Staged { from, .. }, .. }) => {
                let is_same = |it: &Incoming| it.from == *from && it.epoch == *epoch;
                if !self.incoming.as_ref().is_some_and(is_same) {
                    self.incoming = Some(Incoming::new(from.clone(), *epoch));
                }
            }
            Some(Way { epoch, stand: Stand::Holding { to, .. }, .. }) => {
                let is_same = |it: &Outgoing| it.to == *to && it.epoch == *epoch;
                if !self.outgoing.as_ref().is_some_and(is_same) {
                    self.outgoing = Some(Outgoing::new(to.clone(), *epoch, self.queue));
                    post.nudge(to);
                }
            }
            Some(Way { epoch, stand: Stand::Away { to, .. }, .. }) if self.outgoing.is_none() => {
                self.note(to.clone(), *epoch, Told::End, post);
            }
            _ => {}
        }
        self.way = way;
        self.way.is_some()
    }

    /// What was kept on the way before goes where it belongs now.
    fn leave(&mut self, before: Option<&Way>, way: Option<&Way>, now: Moment, post: &mut Post<'_>) {
        let stand = way.map(|way| &way.stand);
        let is_here = matches!(stand, Some(Stand::Here { .. }));
        match before.map(|way| (way.epoch, &way.stand)) {
            Some((epoch, Stand::Holding { to, .. })) if is_here => {
                self.call_off(to, epoch, post);
            }
            Some((_, Stand::Holding { talks, .. } | Stand::Here { talks }))
                if matches!(stand, Some(Stand::Away { .. })) =>
            {
                self.relayed = Some((talks.clone(), now.after_ms(RELAY_MS_MAX)));
            }
            Some((epoch, Stand::Staged { from, away, .. })) => match way {
                Some(Way { stand: Stand::Here { .. }, .. }) => {
                    let hands_on =
                        if away.is_some() { HandsOn::OursToo } else { HandsOn::ThirdPlaces };
                    self.came = Some((from.clone(), now.after_ms(RELAY_MS_MAX), hands_on));
                    self.release(from, epoch, now, post);
                }
                Some(Way { stand: Stand::Staged { .. }, epoch: later, .. }) if *later == epoch => {}
                _ => self.void(away.as_ref(), post),
            },
            _ => {}
        }
    }

    /// The VM stays: it gets what was kept back, and the other end forgets it.
    fn call_off(&mut self, to: &Identity, epoch: Epoch, post: &mut Post<'_>) {
        let Some(outgoing) = self.outgoing.take() else { return };
        // Once it was released elsewhere it is nobody's to release here.
        let is_elsewhere = outgoing.is_released();
        for packet in outgoing.into_packets() {
            match is_elsewhere {
                true => post.drop(&mut self.counts, Dropped::Void, 1),
                false => {
                    post.outlet.device(&packet);
                    self.counts.released += 1;
                }
            }
        }
        self.note(to.clone(), epoch, Told::CalledOff, post);
    }

    /// The VM runs here.
    fn release(&mut self, from: &Identity, epoch: Epoch, now: Moment, post: &mut Post<'_>) {
        if let Some(incoming) = &mut self.incoming {
            incoming.release(now);
        }
        self.flow(now, post);
        self.note(from.clone(), epoch, Told::Released, post);
    }

    /// The VM gets what was sent ahead, and then what waited here, once nothing older is to come.
    pub(super) fn flow(&mut self, now: Moment, post: &mut Post<'_>) {
        let Some(incoming) = &mut self.incoming else { return };
        if !incoming.begins_to_flow(now) {
            return;
        }
        while let Some(packet) = incoming.pop_ahead() {
            post.outlet.device(&packet);
            self.counts.released += 1;
        }
        while let Some(packet) = self.waiting.as_mut().and_then(Kept::pop) {
            post.outlet.device(&packet);
            self.counts.released += 1;
        }
        self.waiting = None;
    }

    /// When [`Own::flow`] is due by itself.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.incoming.as_ref().and_then(Incoming::deadline)
    }

    /// It does not come: what was sent ahead is void, what waited here goes to where it is.
    fn void(&mut self, away: Option<&Identity>, post: &mut Post<'_>) {
        if let Some(mut incoming) = self.incoming.take() {
            post.drop(&mut self.counts, Dropped::Void, incoming.drop_all());
        }
        while let Some(packet) = self.waiting.as_mut().and_then(Kept::pop) {
            match away {
                Some(away) => {
                    post.outlet.datagram(away, &packet);
                    self.counts.sent += 1;
                }
                None => post.drop(&mut self.counts, Dropped::Void, 1),
            }
        }
        self.waiting = None;
    }

    /// None: nothing of that move is held here.
    pub(super) fn leftovers(
        &mut self,
        epoch: Epoch,
        part: u32,
        packets: Vec<(Bytes, Transport)>,
        tuples: Vec<Tuple>,
        is_last: bool,
        post: &mut Post<'_>,
    ) -> Option<u64> {
        let outgoing = self.outgoing.as_mut().filter(|outgoing| outgoing.epoch == epoch)?;
        if let Some(known) = outgoing.part(part) {
            return Some(known);
        }
        let (taken, dropped) = outgoing.leftovers(part, packets, tuples, is_last);
        self.counts.held += taken - dropped.min(taken);
        post.drop(&mut self.counts, Dropped::Overflow, dropped);
        post.nudge(&outgoing.to);
        Some(taken)
    }

    /// What this proxy's site has for the VM.
    pub(super) fn towards_from_device(
        &mut self,
        packet: &[u8],
        inner: &Inner,
        post: &mut Post<'_>,
    ) {
        if self.holds(packet, inner, post) {
            return;
        }
        if let Some(waiting) = &mut self.waiting {
            let (is_kept, dropped) = waiting.push(Bytes::copy_from_slice(packet), inner.transport);
            self.counts.held += u64::from(is_kept);
            return post.drop(&mut self.counts, Dropped::Overflow, dropped);
        }
        match self.stand() {
            Some(
                Stand::Staged { away: Some(to), .. }
                | Stand::Away { to, .. }
                | Stand::Holding { to, .. },
            ) => {
                post.outlet.datagram(to, packet);
                self.counts.sent += 1;
            }
            // It is back, and the kernel had not heard yet.
            Some(Stand::Here { .. }) => post.outlet.device(packet),
            Some(Stand::Staged { away: None, .. }) | None => {
                post.drop(&mut self.counts, Dropped::NoWay, 1);
            }
        }
    }

    /// What the VM, which is here, has for other places. It runs a moment before its release here.
    pub(super) fn of_vm_from_device(&mut self, packet: &[u8], inner: &Inner, post: &mut Post<'_>) {
        let Some(
            Stand::Here { talks } | Stand::Holding { talks, .. } | Stand::Staged { talks, .. },
        ) = self.stand()
        else {
            return post.drop(&mut self.counts, Dropped::NoWay, 1);
        };
        let named = talks.iter().find(|place| place.addresses.contains(&inner.destination));
        // Whoever is in no list is beyond the place that the VM came from last.
        match named.or_else(|| talks.first()) {
            Some(place) => {
                post.outlet.datagram(&place.peer, packet);
                self.counts.sent += 1;
            }
            None => post.drop(&mut self.counts, Dropped::NoWay, 1),
        }
    }

    /// What another site has for the VM, and may send.
    pub(super) fn towards_from_peer(
        &mut self,
        peer: &Identity,
        packet: &[u8],
        inner: &Inner,
        now: Moment,
        post: &mut Post<'_>,
    ) {
        self.heard = Some(now);
        if self.holds(packet, inner, post) {
            return;
        }
        match self.way.as_ref().map(|way| &way.stand) {
            Some(Stand::Here { .. } | Stand::Staged { .. }) => {
                let is_here = self.is_here();
                match self.incoming.as_mut().filter(|it| it.from == *peer || !is_here) {
                    Some(incoming) => {
                        let dropped = incoming.wait(packet, inner.transport);
                        post.drop(&mut self.counts, Dropped::Overflow, dropped);
                    }
                    None => {
                        post.outlet.device(packet);
                        self.counts.received += 1;
                    }
                }
            }
            Some(Stand::Away { to, .. } | Stand::Holding { to, .. }) => {
                post.outlet.datagram(to, packet);
                self.counts.sent += 1;
            }
            None => post.drop(&mut self.counts, Dropped::NoWay, 1),
        }
    }

    /// What a VM that is elsewhere has for this site, or what is said about its packets.
    pub(super) fn of_vm_from_peer(
        &mut self,
        peer: &Identity,
        packet: &[u8],
        inner: &Inner,
        now: Moment,
        post: &mut Post<'_>,
    ) {
        let may = match self.stand() {
            Some(Stand::Away { to, next }) => to == peer || next.as_ref() == Some(peer),
            Some(Stand::Holding { to, .. }) => to == peer,
            Some(Stand::Staged { away, .. }) => away.as_ref() == Some(peer),
            // What it sent before it came here may still be under way.
            Some(Stand::Here { .. }) => {
                let came = self.came.as_ref();
                came.is_some_and(|(from, until, _)| from == peer && now <= *until)
            }
            None => false,
        };
        if may && is_of_vm(inner, &self.addresses) {
            post.outlet.device(packet);
            self.counts.received += 1;
        } else {
            post.drop(&mut self.counts, Dropped::NotItsPeer, 1);
        }
    }

    /// Keeps a packet back, while the VM runs nowhere.
    fn holds(&mut self, packet: &[u8], inner: &Inner, post: &mut Post<'_>) -> bool {
        let Some(outgoing) = self.outgoing.as_mut().filter(|it| !it.is_released()) else {
            return false;
        };
        let (is_kept, dropped) = outgoing.hold(packet, inner.transport);
        self.counts.held += u64::from(is_kept);
        post.nudge(&outgoing.to);
        post.drop(&mut self.counts, Dropped::Overflow, dropped);
        true
    }
}
