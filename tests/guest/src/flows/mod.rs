//! The checked clients: TCP flows and UDP sessions that one program opens and keeps going.
//!
//! Used by the clients' own program and, inside the VM, for the guest's connections to its
//! neighbours. A flow that has ended is never opened again: that would hide what tests look for.

mod flow;
pub mod plan;
mod report;
mod session;
mod stall;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token as Event};

use self::flow::Flow;
use self::plan::{FlowSpec, Mode, PlanError, SessionSpec};
pub use self::report::{FlowRecord, Pool, Report, SessionRecord};
use self::session::Session;
use crate::server::{CloseHow, Filter};
use crate::slots::Part;

const SCRATCH_BYTES: usize = 64 << 10;

/// Why flows or sessions were not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The plan is out of bounds; nothing was opened.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A UDP socket could not be made; those before it are there.
    #[error("cannot open a UDP socket; check its source and target addresses")]
    Datagrams(#[source] io::Error),
}

/// Something that is due at a time. Of one time the first named comes first: a flow that falls silent
/// sends no message then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Silence(usize),
    Message(usize),
    Datagram(usize),
}

/// All flows and sessions of one program.
#[derive(Debug)]
pub struct Flows {
    flows: Vec<Flow>,
    sessions: Vec<Session>,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    more: VecDeque<Event>,
    paused: bool,
    at_start: usize,
    new: usize,
    scratch: Vec<u8>,
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            sessions: Vec::new(),
            due: BinaryHeap::new(),
            more: VecDeque::new(),
            paused: false,
            at_start: 0,
            new: 0,
            scratch: vec![0; SCRATCH_BYTES],
        }
    }
}

impl Flows {
    /// Opens the flows of `spec`. One that cannot be opened is there, and says why.
    ///
    /// # Errors
    /// The plan is out of bounds; then nothing is opened.
    pub fn open(
        &mut self,
        registry: &Registry,
        spec: &FlowSpec,
        pool: Pool,
    ) -> Result<(), OpenError> {
        spec.check(self.flows.len())?;
        let now = Instant::now();
        for nth in 0..spec.count {
            let id = self.flows.len();
            let ends = spec.ends(nth);
            let record = Flow::fresh_record(id, pool, spec.mode, ends.0);
            let event = Part::Flow.token(id, 0);
            self.flows.push(Flow::open(registry, event, ends, record, spec.asks_max));
            if let Mode::Paced { interval_ms, .. } = spec.mode {
                // Spread over the first interval, so that a thousand flows do not beat as one.
                let lead = interval_ms.saturating_mul(nth as u64) / spec.count as u64;
                self.due.push(Reverse((now + Duration::from_millis(lead), Due::Message(id))));
            }
            match spec.silent_after_ms {
                Some(0) => self.flows[id].silent = true,
                Some(after_ms) => {
                    let at = now + Duration::from_millis(after_ms);
                    self.due.push(Reverse((at, Due::Silence(id))));
                }
                None => {}
            }
        }
        self.count_sockets(pool, spec.count);
        Ok(())
    }

    /// Opens the sessions of `spec`.
    ///
    /// # Errors
    /// The plan is out of bounds, or a socket cannot be made.
    pub fn open_sessions(
        &mut self,
        registry: &Registry,
        spec: &SessionSpec,
        pool: Pool,
    ) -> Result<(), OpenError> {
        spec.check(self.sessions.len())?;
        let (now, interval) = (Instant::now(), Duration::from_millis(spec.interval_ms));
        for nth in 0..spec.count {
            let id = self.sessions.len();
            let event = Part::Session.token(id, 0);
            let pace = (spec.size, interval);
            let session = Session::open(registry, event, spec.ends(nth), id, pace)
                .map_err(OpenError::Datagrams)?;
            self.sessions.push(session);
            self.count_sockets(pool, 1);
            let lead = interval * u32::try_from(nth).unwrap_or(0)
                / u32::try_from(spec.count).unwrap_or(u32::MAX);
            self.due.push(Reverse((now + lead, Due::Datagram(id))));
        }
        Ok(())
    }

    /// Handles an event of a flow's or session's socket.
    pub fn event(&mut self, event: Event, now: Instant) {
        let more = match Part::of(event) {
            (Part::Flow, id) => self.turn(id, now),
            (Part::Session, id) => {
                let session = self.sessions.get_mut(id);
                session.is_some_and(|session| session.receive(&mut self.scratch, now))
            }
            _ => false,
        };
        if more {
            self.more.push_back(event);
        }
    }

    /// Does what is due and what the last turns left over; true if there is still more.
    pub fn go_on(&mut self, now: Instant) -> bool {
        for event in std::mem::take(&mut self.more) {
            self.event(event, now);
        }
        while let Some(Reverse((at, due))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            self.perform(due, at, now);
        }
        !self.more.is_empty()
    }

    /// When [`Flows::go_on`] has something to do even if nothing comes.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Stops all messages and datagrams; what was begun is still sent.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        self.paused = false;
        self.wake(|_| true);
    }

    /// Makes these flows send nothing, or lets them again; says how many of them there are.
    pub fn set_silent(&mut self, ids: &[usize], silent: bool) -> usize {
        let mut known = 0;
        for id in ids {
            if let Some(flow) = self.flows.get_mut(*id) {
                flow.silent = silent;
                known += 1;
            }
        }
        self.wake(|id| ids.contains(&id));
        known
    }

    /// Ends one flow by RST; false if there is none of that id, or it has ended.
    pub fn reset(&mut self, id: usize) -> bool {
        let open = self.flows.get_mut(id).filter(|flow| flow.is_open());
        open.map(Flow::reset).is_some()
    }

    /// Ends those flows that `filter` admits; `peer` is the server's address. Says how many.
    pub fn close(&mut self, filter: &Filter, how: CloseHow, now: Instant) -> usize {
        let mut closed = 0;
        for flow in self.flows.iter_mut().filter(|flow| flow.is_open()) {
            let record = flow.record(now);
            if record.token.is_some_and(|token| filter.admits(record.peer, token)) {
                closed += 1;
                match how {
                    CloseHow::Fin => flow.finish(),
                    CloseHow::Rst => flow.reset(),
                }
            }
        }
        self.wake(|_| true);
        closed
    }

    /// Lets every flow end its direction, and every session ask for the server's last counts.
    pub fn finish(&mut self, now: Instant) {
        for flow in &mut self.flows {
            flow.finish();
        }
        for (id, session) in self.sessions.iter_mut().enumerate() {
            session.finishing = true;
            self.due.push(Reverse((now, Due::Datagram(id))));
        }
        self.wake(|_| true);
    }

    /// Whether every flow has its hello, or has ended.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.flows.iter().all(Flow::is_settled)
    }

    /// Whether every flow has ended and every session is accounted for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.flows.iter().any(Flow::is_open) && self.sessions.iter().all(Session::is_complete)
    }

    /// How many flows were ever opened.
    #[must_use]
    pub fn count(&self) -> usize {
        self.flows.len()
    }

    /// Everything, as of now.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        Report {
            flows: self.flows.iter().map(|flow| flow.record(now)).collect(),
            sessions: self.sessions.iter().map(|session| session.record(now)).collect(),
            sockets_at_start: self.at_start,
            sockets_new: self.new,
        }
    }

    fn count_sockets(&mut self, pool: Pool, sockets: usize) {
        match pool {
            Pool::Start => self.at_start += sockets,
            Pool::New => self.new += sockets,
        }
    }

    fn wake(&mut self, which: impl Fn(usize) -> bool) {
        let ids = (0..self.flows.len()).filter(|id| which(*id) && self.flows[*id].is_open());
        self.more.extend(ids.map(|id| Part::Flow.token(id, 0)));
    }

    fn turn(&mut self, id: usize, now: Instant) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        flow.turn(&mut self.scratch, self.paused, now)
    }

    fn perform(&mut self, due: Due, at: Instant, now: Instant) {
        match due {
            Due::Message(id) => {
                let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.is_open()) else {
                    return;
                };
                if !self.paused && !flow.silent && flow.is_settled() {
                    flow.tick();
                }
                if let Mode::Paced { interval_ms, .. } = flow.mode() {
                    let next = next_beat(at, Duration::from_millis(interval_ms), now);
                    self.due.push(Reverse((next, Due::Message(id))));
                }
                if self.turn(id, now) {
                    self.more.push_back(Part::Flow.token(id, 0));
                }
            }
            Due::Silence(id) => {
                self.set_silent(&[id], true);
            }
            Due::Datagram(id) => {
                let Some(session) = self.sessions.get_mut(id) else { return };
                if session.is_complete() && session.finishing {
                    return;
                }
                if !self.paused || session.finishing {
                    session.tick(&mut self.scratch, now);
                }
                let interval =
                    if session.finishing { session::QUERY_INTERVAL } else { session.interval };
                self.due.push(Reverse((next_beat(at, interval, now), Due::Datagram(id))));
            }
        }
    }
}

/// The beat after `at`. A program that was kept from running beats on from now, not in a burst.
fn next_beat(at: Instant, interval: Duration, now: Instant) -> Instant {
    let next = at + interval;
    if next + interval < now { now + interval } else { next }
}
