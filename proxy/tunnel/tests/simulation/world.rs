//! Sites, the links between them, and what happens in which order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use placement::Owner;
use tunnel::protocol::Moment;
use tunnel::protocol::bounds::Limits;
use tunnel::protocol::channel::Grant;
use tunnel::protocol::grants::Grants;
use tunnel::protocol::permits::{Permit, Permits};
use tunnel::protocol::session::Session;
use tunnel::protocol::wire::{Lane, StreamId};

use crate::dice::Dice;
use crate::network::Wire;
use crate::program::{Program, Script};

pub(crate) const LANES: [Lane; 3] = [Lane::Control, Lane::Bulk(0), Lane::Bulk(1)];
pub(crate) const REDIAL_US: u64 = 250_000;

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
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) programs: BTreeMap<StreamId, Program>,
    /// By lane: a dial is on its way, or a connection stands.
    pub(crate) dialling: [bool; 3],
    pub(crate) tick_at: Option<Moment>,
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
    pub(crate) ends: BTreeMap<(usize, usize), End>,
    pub(crate) grants: Vec<Grants>,
    pub(crate) permits: Permits,
    pub(crate) wires: Vec<Wire>,
    /// Links that pass nothing, and tell nobody.
    pub(crate) silent: BTreeMap<(usize, usize), u32>,
    pub(crate) restarted: bool,
    pub(crate) ticking: bool,
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

    pub(crate) fn moment(&self) -> Moment {
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
}

pub(crate) fn grant(key: usize, script: &Script) -> Grant {
    let channel = if script.permitted { "permitted" } else { "unlisted" };
    Grant {
        vm: format!("vm{key}").parse().unwrap(),
        epoch: placement::Epoch::new(1),
        from: site_name(script.from).parse().unwrap(),
        to: site_name(script.to).parse().unwrap(),
        channel: channel.parse().unwrap(),
    }
}
