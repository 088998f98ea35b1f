//! Sites, the links between them, and what happens in which order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::BytesMut;
use placement::Owner;
use tunnel::protocol::Moment;
use tunnel::protocol::bounds::Limits;
use tunnel::protocol::channel::Grant;
use tunnel::protocol::grants::{Ask, Grants};
use tunnel::protocol::permits::{Permit, Permits};
use tunnel::protocol::refusal::ResetReason;
use tunnel::protocol::session::{Ending, Event, Read, Session, Side, Violation};
use tunnel::protocol::wire::{Answer, Greeted, Incarnation, Lane, StreamId, take_hello};

use crate::dice::Dice;
use crate::network::{IN_FLIGHT_MAX, Wire};
use crate::program::{Program, Script};

const LANES: [Lane; 3] = [Lane::Control, Lane::Bulk(0), Lane::Bulk(1)];
const REDIAL_US: u64 = 250_000;

/// What is going to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    Dial { site: usize, peer: usize, lane: usize, again: bool },
    Deliver { wire: usize, side: usize },
    TellBroken { wire: usize, side: usize },
    Tick { site: usize, peer: usize },
    Act { site: usize, peer: usize, stream: StreamId },
    Begin { script: usize },
    Fault,
    Heal { link: (usize, usize) },
}

/// One end of a pair of sites.
struct End {
    session: Session,
    programs: BTreeMap<StreamId, Program>,
    /// By lane: a dial is on its way, or a connection stands.
    dialling: [bool; 3],
    tick_at: Option<Moment>,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) limits: Limits,
    pub(crate) scripts: Vec<Script>,
    pub(crate) delivered: u64,
    /// Every connection breaks when so many bytes in all have been delivered.
    pub(crate) tear_at: Option<u64>,
    pub(crate) delay_us: u64,
    pub(crate) faults_until: u64,
    pub(crate) restarts: bool,
    pub(crate) counts: Counts,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    sequence: u64,
    ends: BTreeMap<(usize, usize), End>,
    grants: Vec<Grants>,
    permits: Permits,
    wires: Vec<Wire>,
    /// Links that pass nothing, and tell nobody.
    silent: BTreeMap<(usize, usize), u32>,
    restarted: bool,
    ticking: bool,
}

/// What happened in all runs, so that a simulation that does nothing is noticed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) complete: u64,
    pub(crate) reset: u64,
    pub(crate) refused: u64,
    pub(crate) cuts: u64,
    pub(crate) torn: u64,
    pub(crate) redialled: u64,
    pub(crate) restarts: u64,
    pub(crate) resumptions: u64,
    pub(crate) again_bytes: u64,
    pub(crate) duplicate_bytes: u64,
    pub(crate) window_full: u64,
}

pub(crate) fn site_name(site: usize) -> String {
    ["a", "b", "c", "d"][site].to_owned()
}

fn owner() -> Owner {
    Owner { name: "serve".parse().unwrap(), incarnation: 1 }
}

impl World {
    pub(crate) fn new(sites: usize, limits: Limits, seed: u64) -> World {
        let permit = Permit {
            channel: "permitted".parse().unwrap(),
            vm: None,
            target: "unix:/run/vm/{vm}.sock".parse().unwrap(),
        };
        let mut world = World {
            now: 0,
            dice: Dice::new(seed),
            limits,
            scripts: Vec::new(),
            delivered: 0,
            tear_at: None,
            delay_us: 5_000,
            faults_until: 0,
            restarts: false,
            counts: Counts::default(),
            queue: BinaryHeap::new(),
            sequence: 0,
            ends: BTreeMap::new(),
            grants: (0..sites).map(|site| Grants::new(site_name(site).parse().unwrap())).collect(),
            permits: Permits::new(vec![permit]),
            wires: Vec::new(),
            silent: BTreeMap::new(),
            restarted: false,
            ticking: false,
        };
        for site in 0..sites {
            for peer in (0..sites).filter(|peer| *peer != site) {
                world.begin_end(site, peer);
            }
        }
        world
    }

    pub(crate) fn at(&mut self, delay_us: u64, what: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay_us, self.sequence, what)));
    }

    /// Adds a stream to be opened after `delay_us`.
    pub(crate) fn script(&mut self, script: Script, delay_us: u64) {
        let key = self.scripts.len();
        let grant = grant(key, &script);
        for site in [script.from, script.to] {
            self.grants[site].add(grant.clone(), &owner()).unwrap();
        }
        self.scripts.push(script);
        self.at(delay_us, Happening::Begin { script: key });
    }

    /// Runs until every stream has ended at both ends, or fails.
    pub(crate) fn run(&mut self, limit_us: u64) {
        while !self.is_over() {
            let Some(Reverse((at, _, what))) = self.queue.pop() else {
                panic!("nothing left to happen, but streams are open: {:?}", self.open());
            };
            assert!(at < limit_us, "too late: {:?} at {at} us", self.open());
            self.now = at;
            self.happen(what);
            self.check_bounds();
        }
        self.count();
    }

    fn is_over(&self) -> bool {
        self.now >= self.faults_until
            && self.ends.values().all(|end| end.programs.is_empty())
            && self.scripts.iter().all(|script| script.outcome[0].ending.is_some())
    }

    fn open(&self) -> Vec<(usize, &Script)> {
        let open = |script: &&Script| script.outcome.iter().any(|end| end.ending.is_none());
        self.scripts.iter().enumerate().filter(|(_, script)| open(script)).collect()
    }

    fn moment(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Dial { site, peer, lane, again } => self.dial(site, peer, lane, again),
            Happening::Deliver { wire, side } => self.deliver(wire, side),
            Happening::TellBroken { wire, side } => self.close_side(wire, side),
            Happening::Tick { site, peer } => self.tick(site, peer),
            Happening::Act { site, peer, stream } => self.act(site, peer, stream),
            Happening::Begin { script } => self.open_stream(script),
            Happening::Fault => self.fault(),
            Happening::Heal { link } => self.heal(link),
        }
    }

    // Sessions.

    fn begin_end(&mut self, site: usize, peer: usize) {
        let side = if site < peer { Side::Caller } else { Side::Called };
        let own = Incarnation(self.dice.roll() | 1);
        let session = Session::new(side, own, self.limits, self.moment());
        let end = End { session, programs: BTreeMap::new(), dialling: [false; 3], tick_at: None };
        self.ends.insert((site, peer), end);
        if side == Side::Caller {
            self.redial(site, peer, 0, 0);
        }
    }

    fn with<T>(
        &mut self,
        site: usize,
        peer: usize,
        then: impl FnOnce(&mut Session, Moment) -> T,
    ) -> T {
        let now = self.moment();
        let session = &mut self.ends.get_mut(&(site, peer)).unwrap().session;
        let result = then(session, now);
        self.settle(site, peer);
        result
    }

    /// What a driver does after each call: events in order, then exactly whom the session wakes.
    fn settle(&mut self, site: usize, peer: usize) {
        loop {
            let end = self.ends.get_mut(&(site, peer)).unwrap();
            let Some(event) = end.session.next_event() else { break };
            self.on_event(site, peer, event);
        }
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let wakes = end.session.take_wakes();
        for stream in wakes.streams {
            let programs = &mut self.ends.get_mut(&(site, peer)).unwrap().programs;
            if let Some(program) = programs.get_mut(&stream).filter(|program| !program.scheduled) {
                program.scheduled = true;
                let delay = self.dice.skewed(2_000);
                self.at(delay, Happening::Act { site, peer, stream });
            }
        }
        for (lane, woken) in wakes.lanes.into_iter().enumerate() {
            if woken {
                self.pump_lane(site, peer, LANES[lane]);
            }
        }
        if wakes.deadline {
            self.schedule_tick(site, peer);
        }
    }

    fn on_event(&mut self, site: usize, peer: usize, event: Event) {
        match event {
            Event::Up { lane: Lane::Control, .. } => {
                for lane in 1..LANES.len() {
                    self.redial(site, peer, lane, 0);
                }
            }
            Event::Up { .. } | Event::Opened { .. } | Event::PeerRestarted => {}
            Event::Down { lane, .. } | Event::Rejected { lane, .. } => {
                self.redial(site, peer, lane.index(), REDIAL_US);
            }
            Event::Unfit { violation, .. } | Event::Violated(violation) => {
                let none: Option<Violation> = None;
                assert_eq!(Some(violation), none, "between {site} and {peer}");
            }
            Event::Asked { stream, ask } => self.asked(site, peer, stream, &ask),
            Event::Ended { stream, ending, tally, .. } => {
                self.counts.again_bytes += tally.sent.again_bytes;
                self.counts.duplicate_bytes += tally.received.again_bytes;
                let end = self.ends.get_mut(&(site, peer)).unwrap();
                if let Some(program) = end.programs.remove(&stream) {
                    let outcome = &mut self.scripts[program.script].outcome[program.end];
                    assert_eq!(outcome.ending, None);
                    outcome.ending = Some(ending);
                }
            }
        }
    }

    fn schedule_tick(&mut self, site: usize, peer: usize) {
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Some(due) = end.session.next_deadline() else { return };
        if end.tick_at.is_none_or(|at| due < at) {
            end.tick_at = Some(due);
            let delay = due.as_micros().saturating_sub(now.as_micros());
            self.at(delay, Happening::Tick { site, peer });
        }
    }

    fn tick(&mut self, site: usize, peer: usize) {
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        if end.tick_at != Some(now) && end.tick_at.is_some_and(|at| at > now) {
            return;
        }
        end.tick_at = None;
        self.ticking = true;
        self.with(site, peer, |session, now| session.tick(now));
        self.ticking = false;
        self.schedule_tick(site, peer);
    }

    // Streams.

    fn open_stream(&mut self, key: usize) {
        let script = self.scripts[key].clone();
        let (site, peer) = (script.from, script.to);
        let ask = Ask { grant: grant(key, &script), wanted: None, compress: key % 3 != 0 };
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Ok(stream) = end.session.open(ask, now) else {
            self.at(100_000, Happening::Begin { script: key });
            return;
        };
        self.begin_program(site, peer, stream, key, 0);
        self.settle(site, peer);
    }

    fn begin_program(
        &mut self,
        site: usize,
        peer: usize,
        stream: StreamId,
        key: usize,
        end: usize,
    ) {
        let program = Program { script: key, end, written: 0, ended: false, scheduled: true };
        self.ends.get_mut(&(site, peer)).unwrap().programs.insert(stream, program);
        let delay = self.dice.skewed(2_000);
        self.at(delay, Happening::Act { site, peer, stream });
    }

    fn asked(&mut self, site: usize, peer: usize, stream: StreamId, ask: &Ask) {
        let key = ask.grant.vm.as_str().trim_start_matches("vm").parse().unwrap();
        let admitted =
            self.grants[site].admit(ask, &site_name(peer).parse().unwrap(), &self.permits);
        let now = self.moment();
        let session = &mut self.ends.get_mut(&(site, peer)).unwrap().session;
        match admitted {
            Ok(_) => match session.accept(stream, true, now) {
                Ok(()) => self.begin_program(site, peer, stream, key, 1),
                // The opener gave up before this end could answer; that event follows.
                Err(_) => {
                    let reset = Ending::Reset { reason: ResetReason::Program, by_peer: true };
                    self.scripts[key].outcome[1].ending = Some(reset);
                }
            },
            Err(refusal) => {
                session.refuse(stream, refusal, now);
                self.scripts[key].outcome[1].ending = Some(Ending::Refused(refusal));
            }
        }
    }

    /// A program does some of what it can; it comes again by itself only if it left some.
    fn act(&mut self, site: usize, peer: usize, stream: StreamId) {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Some(program) = end.programs.get_mut(&stream) else { return };
        program.scheduled = false;
        let (key, which) = (program.script, program.end);
        let mut left = self.act_read(site, peer, stream, key, which);
        left |= self.act_write(site, peer, stream, key, which);
        let reset = self.scripts[key].reset_after.filter(|_| which == 0);
        if reset.is_some_and(|after| self.scripts[key].outcome[0].read >= after) {
            self.with(site, peer, |session, now| session.reset(stream, ResetReason::Program, now));
        }
        let stall = self.dice.one_in(40);
        let delay = if stall { self.dice.below(800_000) } else { self.dice.skewed(2_000) };
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        if let Some(program) = end.programs.get_mut(&stream).filter(|program| !program.scheduled) {
            program.scheduled = left;
            if left {
                self.at(delay, Happening::Act { site, peer, stream });
            }
        }
    }

    fn act_read(
        &mut self,
        site: usize,
        peer: usize,
        stream: StreamId,
        key: usize,
        which: usize,
    ) -> bool {
        let read = self.with(site, peer, |session, _| session.read(stream));
        match read {
            Ok(Read::Bytes(bytes)) => {
                let most = self.dice.skewed(200_000) as usize;
                let taken = &bytes[..bytes.len().min(most)];
                let script = &mut self.scripts[key];
                script.check(key, which, script.outcome[which].read, taken);
                script.outcome[which].read += taken.len() as u64;
                let count = taken.len();
                self.with(site, peer, |session, _| session.deliver(stream, count)).unwrap();
                true
            }
            Ok(Read::End) => {
                let outcome = &mut self.scripts[key].outcome[which];
                assert!(!outcome.read_end, "the end came twice");
                outcome.read_end = true;
                self.with(site, peer, |session, now| session.deliver_end(stream, now)).unwrap();
                true
            }
            Ok(Read::Nothing | Read::Finished) | Err(_) => false,
        }
    }

    fn act_write(
        &mut self,
        site: usize,
        peer: usize,
        stream: StreamId,
        key: usize,
        which: usize,
    ) -> bool {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Some(program) = end.programs.get(&stream) else { return false };
        let (written, ended) = (program.written, program.ended);
        let length = self.scripts[key].lengths[which];
        if ended {
            return false;
        }
        if written == length {
            end.programs.get_mut(&stream).unwrap().ended = true;
            self.with(site, peer, |session, _| session.finish(stream)).unwrap();
            return false;
        }
        let size = self.dice.skewed(150_000).min(length - written) as usize;
        let bytes = self.scripts[key].bytes(key, which, written, size);
        let taken = self.with(site, peer, |session, _| session.write(stream, bytes)).unwrap();
        if let Some(program) = self.ends.get_mut(&(site, peer)).unwrap().programs.get_mut(&stream) {
            program.written += taken as u64;
        }
        self.counts.window_full += u64::from(taken < size);
        taken == size
    }

    // Connections.

    fn redial(&mut self, site: usize, peer: usize, lane: usize, delay_us: u64) {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        if site < peer && !end.dialling[lane] {
            end.dialling[lane] = true;
            let delay = delay_us + self.dice.below(20_000);
            self.at(delay, Happening::Dial { site, peer, lane, again: false });
        }
    }

    /// A connection comes about after a round trip, or does not while the link is silent.
    /// `again`: although one stands, as a caller may that has lost track.
    fn dial(&mut self, site: usize, peer: usize, lane: usize, again: bool) {
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

    fn pump_lane(&mut self, site: usize, peer: usize, lane: Lane) {
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
    fn pump(&mut self, wire: usize, side: usize) {
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

    fn settle_quietly(&mut self, site: usize, peer: usize) {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        while let Some(event) = end.session.next_event() {
            panic!("sending is no event: {event:?}");
        }
    }

    fn schedule_delivery(&mut self, wire: usize, side: usize) {
        let entry = &mut self.wires[wire];
        if !entry.scheduled[side] && !entry.in_flight[side].is_empty() {
            entry.scheduled[side] = true;
            let delay = self.delay_us + self.dice.below(self.delay_us + 1);
            self.at(delay, Happening::Deliver { wire, side });
        }
    }

    fn deliver(&mut self, wire: usize, side: usize) {
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

    fn arrived(&mut self, wire: usize, side: usize) {
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
    fn close_side(&mut self, wire: usize, side: usize) {
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

    // Faults.

    fn tear(&mut self, wire: usize) {
        self.wires[wire].torn = true;
        for side in [0, 1] {
            self.wires[wire].in_flight[side].clear();
            let delay = self.dice.below(50_000);
            self.at(delay, Happening::TellBroken { wire, side });
        }
    }

    fn fault(&mut self) {
        if self.now >= self.faults_until {
            return;
        }
        let live: Vec<usize> =
            (0..self.wires.len()).filter(|wire| !self.wires[*wire].is_dead()).collect();
        let links: Vec<(usize, usize)> =
            self.ends.keys().copied().filter(|(site, peer)| site < peer).collect();
        let link = links[self.dice.below(links.len() as u64) as usize];
        match self.dice.below(if self.restarts { 7 } else { 6 }) {
            0 | 1 => {
                *self.silent.entry(link).or_default() += 1;
                self.counts.cuts += 1;
                let length = self.dice.skewed(8_000_000);
                self.at(length, Happening::Heal { link });
            }
            2 | 3 if !live.is_empty() => {
                self.counts.torn += 1;
                let pick = live[self.dice.below(live.len() as u64) as usize];
                self.tear(pick);
            }
            6 => {
                let pick = if self.dice.one_in(2) { link.0 } else { link.1 };
                self.restart(pick);
            }
            _ => {
                self.counts.redialled += 1;
                let lane = self.dice.below(3) as usize;
                self.at(0, Happening::Dial { site: link.0, peer: link.1, lane, again: true });
            }
        }
        let delay = self.dice.skewed(2_000_000);
        self.at(delay, Happening::Fault);
    }

    fn heal(&mut self, link: (usize, usize)) {
        let cuts = self.silent.get_mut(&link).unwrap();
        *cuts -= 1;
        if *cuts > 0 {
            return;
        }
        self.silent.remove(&link);
        for wire in 0..self.wires.len() {
            if self.wires[wire].sites == [link.0, link.1] {
                self.schedule_delivery(wire, 0);
                self.schedule_delivery(wire, 1);
            }
        }
    }

    /// A site's proxy dies and comes again, knowing nothing.
    fn restart(&mut self, site: usize) {
        self.counts.restarts += 1;
        self.restarted = true;
        for wire in 0..self.wires.len() {
            if self.wires[wire].sites.contains(&site) && !self.wires[wire].is_dead() {
                let side = self.wires[wire].side_of(site);
                self.wires[wire].closed[side] = true;
                self.wires[wire].in_flight[side].clear();
                self.at(self.delay_us, Happening::TellBroken { wire, side: 1 - side });
            }
        }
        let peers: Vec<usize> =
            self.ends.keys().filter(|(own, _)| *own == site).map(|(_, peer)| *peer).collect();
        for peer in peers {
            let end = self.ends.remove(&(site, peer)).unwrap();
            for program in end.programs.values() {
                let reset = Ending::Reset { reason: ResetReason::PeerRestarted, by_peer: false };
                self.scripts[program.script].outcome[program.end].ending = Some(reset);
            }
            self.begin_end(site, peer);
        }
    }

    // Checks.

    fn check_bounds(&self) {
        for end in self.ends.values() {
            let streams_max = usize::from(self.limits.streams_max) * 2;
            assert!(end.session.streams().count() <= streams_max);
            for state in end.session.streams() {
                assert!(state.send_kept_bytes <= u64::from(self.limits.send_buffer_bytes));
                assert!(state.receive_kept_bytes <= u64::from(self.limits.window_bytes));
            }
        }
    }

    fn count(&mut self) {
        for end in self.ends.values() {
            self.counts.resumptions += end.session.tally().resumptions;
        }
        let restarted = self.restarted;
        for (key, script) in self.scripts.iter().enumerate() {
            let [opener, other] = &script.outcome;
            match opener.ending.expect("run() waits for it") {
                Ending::Complete => {
                    self.counts.complete += 1;
                    assert_eq!([other.read, opener.read], script.lengths, "script {key}");
                    assert!(opener.read_end && other.read_end, "script {key}: {script:?}");
                    // A restart may take the last word of a stream with it, never a byte.
                    let agreed = other.ending == Some(Ending::Complete);
                    assert!(agreed || restarted, "script {key}: {script:?}");
                    assert!(script.permitted);
                }
                Ending::Refused(_) => {
                    self.counts.refused += 1;
                    assert!(!script.permitted, "script {key}: {script:?}");
                }
                Ending::Reset { reason, .. } => {
                    self.counts.reset += 1;
                    let wanted = script.reset_after.is_some() && reason == ResetReason::Program;
                    let cut_off = reason == ResetReason::Unanswered && self.counts.cuts > 0;
                    assert!(wanted || cut_off || restarted, "script {key}: {script:?}");
                    // The opener may give up when all is said but the last word.
                    let all = opener.read_end && [other.read, opener.read] == script.lengths;
                    let both = all || other.ending != Some(Ending::Complete);
                    assert!(both || restarted, "script {key}: {script:?}");
                }
            }
        }
    }
}

fn grant(key: usize, script: &Script) -> Grant {
    let channel = if script.permitted { "permitted" } else { "unlisted" };
    Grant {
        vm: format!("vm{key}").parse().unwrap(),
        epoch: placement::Epoch::new(1),
        from: site_name(script.from).parse().unwrap(),
        to: site_name(script.to).parse().unwrap(),
        channel: channel.parse().unwrap(),
    }
}
