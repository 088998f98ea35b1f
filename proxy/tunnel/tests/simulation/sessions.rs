//! The sessions of the world, and exactly what a driver does for them.

use std::collections::BTreeMap;
use tunnel::protocol::Moment;
use tunnel::protocol::session::{Event, Session, Side, Violation};
use tunnel::protocol::wire::{Incarnation, Lane};

use crate::world::{End, Happening, LANES, REDIAL_US, World};

impl World {
    pub(crate) fn begin_end(&mut self, site: usize, peer: usize) {
        let side = if site < peer { Side::Caller } else { Side::Called };
        let own = Incarnation(self.dice.roll() | 1);
        let session = Session::new(side, own, self.limits, true, self.moment());
        let end = End { session, programs: BTreeMap::new(), dialling: [false; 3], tick_at: None };
        self.ends.insert((site, peer), end);
        if side == Side::Caller {
            self.redial(site, peer, 0, 0);
        }
    }

    pub(crate) fn with<T>(
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
    pub(crate) fn settle(&mut self, site: usize, peer: usize) {
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

    pub(crate) fn on_event(&mut self, site: usize, peer: usize, event: Event) {
        match event {
            Event::Up { lane: Lane::Control, .. } => {
                for lane in 1..LANES.len() {
                    self.redial(site, peer, lane, 0);
                }
            }
            Event::Packets(message) => panic!("nobody sends packets here: {message:?}"),
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

    pub(crate) fn schedule_tick(&mut self, site: usize, peer: usize) {
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Some(due) = end.session.next_deadline() else { return };
        if end.tick_at.is_none_or(|at| due < at) {
            end.tick_at = Some(due);
            let delay = due.as_micros().saturating_sub(now.as_micros());
            self.at(delay, Happening::Tick { site, peer });
        }
    }

    pub(crate) fn tick(&mut self, site: usize, peer: usize) {
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        if end.tick_at != Some(now) && end.tick_at.is_some_and(|at| at > now) {
            return;
        }
        end.tick_at = None;
        self.ticking = true;
        self.with(site, peer, Session::tick);
        self.ticking = false;
        self.schedule_tick(site, peer);
    }
}
