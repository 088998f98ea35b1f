//! Connections: dialled, filled, delivered, and closed.

use bytes::BytesMut;
use tunnel::protocol::wire::{Answer, Greeted, Lane, take_hello};

use crate::network::{IN_FLIGHT_MAX, Wire};
use crate::world::{Happening, LANES, REDIAL_US, World};

impl World {
    pub(crate) fn redial(&mut self, site: usize, peer: usize, lane: usize, delay_us: u64) {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        if site < peer && !end.dialling[lane] {
            end.dialling[lane] = true;
            let delay = delay_us + self.dice.below(20_000);
            self.at(delay, Happening::Dial { site, peer, lane, again: false });
        }
    }

    /// A connection comes about after a round trip, or does not while the link is silent.
    /// `again`: although one stands, as a caller may that has lost track.
    pub(crate) fn dial(&mut self, site: usize, peer: usize, lane: usize, again: bool) {
        let stands =
            |wire: &Wire| wire.sites == [site, peer] && wire.lane == LANES[lane] && !wire.closed[0];
        let stands = self.wires.iter().any(stands);
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        end.dialling[lane] = false;
        if stands && !again {
            return;
        }
        if self.silent.contains_key(&(site, peer)) {
            self.redial(site, peer, lane, REDIAL_US);
            return;
        }
        let Some(conn) = end.session.dial(LANES[lane], now) else { return };
        let mut wire = Wire::new(site, peer, LANES[lane]);
        wire.conns[0] = Some(conn);
        self.wires.push(wire);
        self.settle(site, peer);
        self.pump(self.wires.len() - 1, 0);
    }

    pub(crate) fn pump_lane(&mut self, site: usize, peer: usize, lane: Lane) {
        for wire in 0..self.wires.len() {
            let entry = &self.wires[wire];
            let between = entry.sites == [site, peer] || entry.sites == [peer, site];
            let side = entry.side_of(site);
            if between && entry.lane == lane && entry.conns[side].is_some() {
                self.pump(wire, side);
            }
        }
    }

    /// What a lane's writer does when woken: frames into the socket until either has enough.
    pub(crate) fn pump(&mut self, wire: usize, side: usize) {
        let sites = self.wires[wire].sites;
        let (site, peer) = (sites[side], sites[1 - side]);
        while !self.wires[wire].closed[side] {
            let entry = &mut self.wires[wire];
            entry.blocked[1 - side] = entry.in_flight[1 - side].len() >= IN_FLIGHT_MAX;
            if entry.blocked[1 - side] {
                return;
            }
            let conn = entry.conns[side].unwrap();
            let now = self.moment();
            let end = self.ends.get_mut(&(site, peer)).unwrap();
            match end.session.transmit(conn, now) {
                Ok(Some(transmit)) => {
                    let kind = transmit.head[4];
                    let silent = self.ticking && matches!(kind, 6..=8);
                    assert!(!silent, "a lost wake-up: frame kind {kind} waited for the clock");
                    let entry = &mut self.wires[wire];
                    if !entry.closed[1 - side] {
                        entry.in_flight[1 - side].extend(transmit.head.iter());
                        entry.in_flight[1 - side].extend(transmit.payload.iter());
                    }
                    self.schedule_delivery(wire, 1 - side);
                }
                Ok(None) => break,
                Err(_) => self.close_side(wire, side),
            }
        }
        self.settle_quietly(site, peer);
    }

    pub(crate) fn settle_quietly(&mut self, site: usize, peer: usize) {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        assert_eq!(end.session.next_event(), None, "sending is no event");
    }

    pub(crate) fn schedule_delivery(&mut self, wire: usize, side: usize) {
        let entry = &mut self.wires[wire];
        if !entry.scheduled[side] && !entry.in_flight[side].is_empty() {
            entry.scheduled[side] = true;
            let delay = self.delay_us + self.dice.below(self.delay_us + 1);
            self.at(delay, Happening::Deliver { wire, side });
        }
    }

    pub(crate) fn deliver(&mut self, wire: usize, side: usize) {
        let sites = self.wires[wire].sites;
        let (site, peer) = (sites[side], sites[1 - side]);
        self.wires[wire].scheduled[side] = false;
        if self.silent.contains_key(&(site.min(peer), site.max(peer))) {
            return; // Healing schedules it again.
        }
        let mut most = self.dice.skewed(300_000);
        if let Some(at) = self.tear_at {
            most = most.min(at - self.delivered);
        }
        let entry = &mut self.wires[wire];
        let count = entry.in_flight[side].len().min(most as usize);
        if entry.closed[side] || entry.torn {
            entry.in_flight[side].clear();
            return;
        }
        let bytes: Vec<u8> = entry.in_flight[side].drain(..count).collect();
        entry.inbox[side].extend_from_slice(&bytes);
        self.delivered += count as u64;
        self.arrived(wire, side);
        if self.tear_at == Some(self.delivered) {
            self.tear_at = None;
            for wire in 0..self.wires.len() {
                self.tear(wire);
            }
        }
        self.schedule_delivery(wire, side);
        if self.wires[wire].blocked[side] {
            self.pump(wire, 1 - side);
        }
        if self.wires[wire].closed[1 - side] && self.wires[wire].in_flight[side].is_empty() {
            self.at(self.delay_us, Happening::TellBroken { wire, side });
        }
    }

    pub(crate) fn arrived(&mut self, wire: usize, side: usize) {
        let sites = self.wires[wire].sites;
        let (site, peer) = (sites[side], sites[1 - side]);
        let mut inbox = std::mem::replace(&mut self.wires[wire].inbox[side], BytesMut::new());
        let now = self.moment();
        if self.wires[wire].conns[side].is_none() {
            let Some(greeted) = take_hello(&mut inbox).unwrap() else {
                self.wires[wire].inbox[side] = inbox;
                return;
            };
            let Greeted::Hello(hello) = greeted else { panic!("one version here") };
            let end = self.ends.get_mut(&(site, peer)).unwrap();
            match end.session.accept_conn(&hello, now) {
                Ok(conn) => self.wires[wire].conns[side] = Some(conn),
                Err(rejection) => {
                    let bytes = Answer::Rejected(rejection).encoded();
                    self.wires[wire].in_flight[1 - side].extend(bytes.iter());
                    self.wires[wire].closed[side] = true;
                    self.schedule_delivery(wire, 1 - side);
                    return;
                }
            }
            self.settle(site, peer);
            self.pump(wire, side);
        }
        let conn = self.wires[wire].conns[side].unwrap();
        let received = self.with(site, peer, |session, now| session.receive(conn, &mut inbox, now));
        match received {
            Ok(()) => self.wires[wire].inbox[side] = inbox,
            Err(_) => self.close_side(wire, side),
        }
    }

    /// One side closes, or hears that the connection broke. The other hears of it later.
    pub(crate) fn close_side(&mut self, wire: usize, side: usize) {
        let entry = &mut self.wires[wire];
        if std::mem::replace(&mut entry.closed[side], true) {
            return;
        }
        entry.in_flight[side].clear();
        let sites = entry.sites;
        if let Some(conn) = entry.conns[side] {
            self.with(sites[side], sites[1 - side], |session, now| session.broken(conn, now));
        }
        if side == 0 {
            let lane = self.wires[wire].lane.index();
            self.redial(sites[0], sites[1], lane, REDIAL_US);
        }
        let told = self.dice.below(4) > 0 && self.wires[wire].in_flight[1 - side].is_empty();
        if told {
            self.at(self.delay_us, Happening::TellBroken { wire, side: 1 - side });
        }
    }
}
