//! Connections of a session: how they begin, take each other's place, and end.
//!
//! ```text
//! caller  dial ---> Calling -- welcome --> Up      called  accept --> Welcomed -- resume --> Up
//! ```
//!
//! The called end commits to a connection only when the caller's resumption arrives on it: a
//! greeting that was under way while its caller died, or dialled again, changes nothing.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::events::{Ending, Event, Lost, Violation};
use super::{Session, Side, first_streams};
use crate::protocol::bounds::{BULK_LANES_MAX, GREETINGS_MAX};
use crate::protocol::log::Log;
use crate::protocol::moment::Moment;
use crate::protocol::refusal::{Rejection, ResetReason};
use crate::protocol::stream::StreamViolation;
use crate::protocol::wire::{
    Answer, Frame, Hello, Incarnation, Lane, Offer, Resume, StreamId, Welcome,
};

/// One connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

#[derive(Debug)]
pub(super) struct Connections {
    all: BTreeMap<ConnId, Conn>,
    lanes: [LaneState; 1 + BULK_LANES_MAX],
    next: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LaneState {
    pub(super) current: Option<ConnId>,
    pub(super) down_since: Moment,
    pub(super) was_up: bool,
    attempt: u64,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) lane: Lane,
    pub(super) stage: Stage,
    pub(super) begun: Moment,
    pub(super) heard: Moment,
    pub(super) said: Moment,
    /// Frames of the greeting, which go before all others.
    pub(super) first: VecDeque<Bytes>,
    pub(super) ping: bool,
    pub(super) pong: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The caller has said hello.
    Calling,
    /// The called one has welcomed this caller, and waits for its resumption.
    Welcomed { caller: Incarnation, attempt: u64, offer: Offer },
    /// Frames pass.
    Up,
}

impl Connections {
    pub(super) fn new(now: Moment) -> Connections {
        let lane = LaneState { current: None, down_since: now, was_up: false, attempt: 0 };
        Connections { all: BTreeMap::new(), lanes: [lane; 1 + BULK_LANES_MAX], next: 0 }
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Conn> {
        self.all.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.all.get_mut(&conn)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ConnId, &Conn)> {
        self.all.iter()
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane.index()]
    }

    fn begin(&mut self, lane: Lane, stage: Stage, first: Bytes, now: Moment) -> ConnId {
        let conn = ConnId(self.next);
        self.next += 1;
        let first = VecDeque::from([first]);
        let (begun, heard, said) = (now, now, now);
        let entry = Conn { lane, stage, begun, heard, said, first, ping: false, pong: None };
        self.all.insert(conn, entry);
        conn
    }
}

impl Session {
    /// A connection has been dialled for `lane`; an earlier one of this lane is closed. None if the
    /// lane makes no sense now: bulk before control, or a lane that was not agreed on.
    pub fn dial(&mut self, lane: Lane, now: Moment) -> Option<ConnId> {
        let agreed = match lane {
            Lane::Control => true,
            Lane::Bulk(number) => number < self.bulk_lanes() && self.is_up(Lane::Control),
        };
        if self.side != Side::Caller || !agreed {
            return None;
        }
        for earlier in self.conns_of(lane) {
            self.close(earlier, Lost::Replaced, now);
        }
        let state = &mut self.conns.lanes[lane.index()];
        state.attempt += 1;
        let offer = self.own_offer;
        let hello = Hello { lane, attempt: state.attempt, own: self.own, peer: self.peer, offer };
        self.wakes.deadline = true;
        Some(self.conns.begin(lane, Stage::Calling, hello.encoded(), now))
    }

    /// A caller, whose identity has been checked, has said hello.
    ///
    /// # Errors
    /// It is to be turned away with this.
    pub fn accept_conn(&mut self, hello: &Hello, now: Moment) -> Result<ConnId, Rejection> {
        if self.side != Side::Called {
            return Err(Rejection::UnknownPeer);
        }
        let known = self.peer == Some(hello.own);
        if known && hello.attempt <= self.conns.lane(hello.lane).attempt {
            return Err(Rejection::Stale);
        }
        if let Lane::Bulk(number) = hello.lane {
            let standing = known && hello.peer == Some(self.own);
            if !standing || number >= self.bulk_lanes() {
                return Err(Rejection::NoSession);
            }
        }
        let greeting = self.conns.iter().filter(|(_, conn)| conn.stage != Stage::Up).count();
        if greeting >= GREETINGS_MAX {
            return Err(Rejection::Busy);
        }
        let resume = if known { self.resumption(hello.lane) } else { Resume::default() };
        let offer = self.own_offer;
        let welcome = Answer::Welcome(Welcome { own: self.own, offer, resume });
        let Hello { lane, attempt, own: caller, offer, .. } = *hello;
        let stage = Stage::Welcomed { caller, attempt, offer };
        self.wakes.deadline = true;
        Ok(self.conns.begin(lane, stage, welcome.encoded(), now))
    }

    /// A connection broke, or could not be made.
    pub fn broken(&mut self, conn: ConnId, now: Moment) {
        self.close(conn, Lost::Broken, now);
    }

    /// Whether a lane carries frames.
    #[must_use]
    pub fn is_up(&self, lane: Lane) -> bool {
        self.conns.lane(lane).current.is_some()
    }

    /// The connection that carries a lane's frames.
    #[must_use]
    pub fn current(&self, lane: Lane) -> Option<ConnId> {
        self.conns.lane(lane).current
    }

    /// Whether a connection is still part of the session.
    #[must_use]
    pub fn knows(&self, conn: ConnId) -> bool {
        self.conns.get(conn).is_some()
    }

    /// Bulk lanes that both ends have agreed on; none before they have met.
    #[must_use]
    pub fn bulk_lanes_agreed(&self) -> u8 {
        if self.peer.is_some() { self.bulk_lanes() } else { 0 }
    }

    /// The called end has answered.
    pub(super) fn answered(
        &mut self,
        conn: ConnId,
        lane: Lane,
        answer: Answer,
        now: Moment,
    ) -> Result<(), Violation> {
        let Welcome { own: peer, offer, resume } = match answer {
            Answer::Welcome(welcome) => welcome,
            Answer::Rejected(rejection) => {
                self.close(conn, Lost::Broken, now);
                self.events.push_back(Event::Rejected { lane, rejection });
                return Ok(());
            }
        };
        if lane == Lane::Control {
            if self.peer.is_some_and(|known| known != peer) {
                self.begin_anew(conn, ResetReason::PeerRestarted, now);
                self.events.push_back(Event::PeerRestarted);
            }
            self.peer = Some(peer);
            self.offer = offer;
        } else if self.peer != Some(peer) {
            self.close(conn, Lost::Restarted, now);
            return Ok(());
        }
        let ours = Frame::Resume(self.resumption(lane)).encoded().0;
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.first.push_back(ours);
        }
        self.up(conn, lane, &resume, now)
    }

    /// The caller's resumption has arrived: from here on this is the lane's connection.
    pub(super) fn committed(
        &mut self,
        conn: ConnId,
        lane: Lane,
        resume: &Resume,
        now: Moment,
    ) -> Result<(), Violation> {
        let Some(Stage::Welcomed { caller, attempt, offer }) =
            self.conns.get(conn).map(|entry| entry.stage)
        else {
            return Err(Violation::Misplaced("resumption"));
        };
        if self.peer != Some(caller) {
            if lane != Lane::Control {
                self.close(conn, Lost::Restarted, now);
                return Ok(());
            }
            if self.peer.is_some() {
                self.begin_anew(conn, ResetReason::PeerRestarted, now);
                self.events.push_back(Event::PeerRestarted);
            }
            for state in &mut self.conns.lanes {
                state.attempt = 0;
            }
            self.peer = Some(caller);
        } else if attempt <= self.conns.lane(lane).attempt {
            self.close(conn, Lost::Replaced, now);
            return Ok(());
        }
        if lane == Lane::Control {
            self.offer = offer;
        }
        self.conns.lanes[lane.index()].attempt = attempt;
        if let Some(older) = self.conns.lane(lane).current {
            self.close(older, Lost::Replaced, now);
        }
        self.up(conn, lane, resume, now)
    }

    /// A connection is gone, whatever it was.
    pub(super) fn close(&mut self, conn: ConnId, why: Lost, now: Moment) {
        let Some(entry) = self.conns.all.remove(&conn) else { return };
        let lane = entry.lane;
        self.wakes.lane(lane);
        let state = &mut self.conns.lanes[lane.index()];
        if state.current == Some(conn) {
            state.current = None;
            state.down_since = now;
            self.wakes.deadline = true;
            self.events.push_back(Event::Down { lane, why });
        }
    }

    /// The peer broke the protocol: nothing that it said can be trusted to fit any more.
    pub(super) fn violated(&mut self, violation: Violation, now: Moment) {
        self.events.push_back(Event::Violated(violation));
        for conn in self.conns.all.keys().copied().collect::<Vec<_>>() {
            self.close(conn, Lost::Restarted, now);
        }
        self.forget(ResetReason::Violation);
        self.own = Incarnation(self.own.0.wrapping_add(1).max(1));
        self.peer = None;
    }

    /// The peer's new life is met on `conn`: everything of the old one goes.
    fn begin_anew(&mut self, conn: ConnId, reason: ResetReason, now: Moment) {
        for other in self.conns.all.keys().copied().collect::<Vec<_>>() {
            if other != conn {
                self.close(other, Lost::Restarted, now);
            }
        }
        self.forget(reason);
    }

    fn forget(&mut self, reason: ResetReason) {
        for stream in self.streams_where(|_| true) {
            self.end(stream, Ending::Reset { reason, by_peer: true });
        }
        self.log = Log::default();
        (self.next_stream, self.peer_stream) = first_streams(self.side);
        self.served = [StreamId(0); BULK_LANES_MAX];
        for state in &mut self.conns.lanes {
            state.was_up = false;
        }
    }

    fn up(
        &mut self,
        conn: ConnId,
        lane: Lane,
        resume: &Resume,
        now: Moment,
    ) -> Result<(), Violation> {
        match lane {
            Lane::Control => {
                self.log.rewind(resume.messages).map_err(|_| Violation::Messages)?;
                for entry in self.streams.values_mut() {
                    entry.inc.forget_told();
                }
            }
            Lane::Bulk(number) => {
                let has: BTreeMap<StreamId, u64> = resume.streams.iter().copied().collect();
                for (stream, entry) in &mut self.streams {
                    if entry.bulk == number {
                        let rewound = entry.out.rewind(has.get(stream).copied());
                        rewound.map_err(|_| StreamViolation::NeverSent)?;
                    }
                }
            }
        }
        let entry = self.conns.get_mut(conn).expect("the caller has just looked at it");
        entry.stage = Stage::Up;
        entry.said = now;
        let state = &mut self.conns.lanes[lane.index()];
        state.current = Some(conn);
        let resumed = std::mem::replace(&mut state.was_up, true);
        if resumed && lane == Lane::Control {
            self.tally.resumptions += 1;
        }
        self.events.push_back(Event::Up { lane, resumed });
        self.wakes.lane(lane);
        self.wakes.deadline = true;
        Ok(())
    }

    /// What this end has of a lane.
    fn resumption(&self, lane: Lane) -> Resume {
        match lane {
            Lane::Control => Resume { messages: self.log.received(), streams: Vec::new() },
            Lane::Bulk(number) => {
                let on_it = self.streams.iter().filter(|(_, entry)| entry.bulk == number);
                let streams = on_it.map(|(stream, entry)| (*stream, entry.inc.received()));
                Resume { messages: 0, streams: streams.collect() }
            }
        }
    }

    fn conns_of(&self, lane: Lane) -> Vec<ConnId> {
        let of_lane = self.conns.iter().filter(|(_, conn)| conn.lane == lane);
        of_lane.map(|(conn, _)| *conn).collect()
    }
}
