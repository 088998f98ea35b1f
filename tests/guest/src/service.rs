//! The guest itself: one event loop over the checked service, the control port and the connections to
//! neighbours, with the recorder and the dirtier beside it.

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event as Readiness;
use mio::{Events, Poll, Token as Event};

use crate::control::{Answer, Command, ControlPort, Counters};
use crate::dirty::{Dirtier, DirtyRate};
use crate::flows::plan::{FlowSpec, Mode};
use crate::flows::{Flows, Pool};
use crate::kernel::KernelDrops;
use crate::log::Log;
use crate::random;
use crate::records::{Recorder, RecorderError};
use crate::server::Server;
use crate::settings::Settings;
use crate::slots::Part;
use crate::traffic::Token;

/// How the line begins that says a guest serves.
pub const READY: &str = "causeway-guest: ready";

/// How the lines begin that say its event loop turns; their number follows.
pub const ALIVE: &str = "causeway-guest: alive";

const EVENTS_MAX: usize = 1024;

/// A message of a connection to a neighbour that is opened at the start, and its pace.
const NEIGHBOUR_MODE: Mode = Mode::Paced { size: 200, interval_ms: 100 };

/// Why a guest does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A port cannot be listened on.
    #[error("cannot listen on {what} {port}; is another program there?")]
    Listen {
        /// Which port.
        what: &'static str,
        /// Its number.
        port: u16,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The disk for records cannot be used.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// The settings ask for what cannot be had.
    #[error("cannot do as told: {0}")]
    Settings(String),
    /// The system lets no event loop run.
    #[error("the system gives no event loop, thread or randomness")]
    System(#[from] io::Error),
}

/// A guest that is ready to run.
#[derive(Debug)]
pub struct Service {
    poll: Poll,
    control: ControlPort,
    inner: Inner,
}

/// All that a command can reach.
#[derive(Debug)]
struct Inner {
    boot: Token,
    started: Instant,
    registry: mio::Registry,
    server: Server,
    flows: Flows,
    recorder: Option<Recorder>,
    dirtier: Dirtier,
    heart: Heart,
}

/// Says on the console that the event loop turns.
#[derive(Debug)]
struct Heart {
    interval: Duration,
    beats: u64,
    due: Option<Instant>,
}

impl Service {
    /// Makes the guest that `settings` describe.
    ///
    /// # Errors
    /// What keeps it from running.
    pub fn new(settings: &Settings) -> Result<Self, ServiceError> {
        let poll = Poll::new()?;
        let listening = |what, port| move |source| ServiceError::Listen { what, port, source };
        let server = Server::listen(poll.registry(), &settings.listen, settings.port)
            .map_err(listening("port", settings.port))?;
        let control = ControlPort::listen(poll.registry(), &settings.listen, settings.control)
            .map_err(listening("control port", settings.control))?;
        let boot = random::token()?;
        let recorder = match &settings.disk {
            Some(path) => {
                let (start, rate) = (settings.disk_start, settings.records_per_s);
                Some(Recorder::start(path, start, rate, boot)?)
            }
            None => None,
        };
        let (dirtier, registry) = (Dirtier::start()?, poll.registry().try_clone()?);
        let (flows, started) = (Flows::default(), Instant::now());
        let heart = Heart::new(Duration::from_millis(settings.heartbeat_ms), started);
        let inner = Inner { boot, started, registry, server, flows, recorder, dirtier, heart };
        let mut service = Self { poll, control, inner };
        service.begin(settings)?;
        Ok(service)
    }

    /// The port of the checked service.
    ///
    /// # Errors
    /// The listener has lost its address.
    pub fn port(&self) -> io::Result<u16> {
        self.inner.server.port()
    }

    /// The control port.
    ///
    /// # Errors
    /// The listener has lost its address.
    pub fn control_port(&self) -> io::Result<u16> {
        self.control.port()
    }

    /// Which start of the guest this is.
    #[must_use]
    pub fn boot(&self) -> Token {
        self.inner.boot
    }

    /// Runs until the system fails.
    ///
    /// # Errors
    /// What the system said.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut more = false;
        loop {
            let wait = if more { Some(Duration::ZERO) } else { self.inner.rest() };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for event in events.iter().map(Readiness::token) {
                self.handle(event, now);
            }
            let inner = &mut self.inner;
            inner.heart.beat_if_due(now);
            more = inner.server.go_on(&inner.registry, now) | inner.flows.go_on(now);
        }
    }

    fn handle(&mut self, event: Event, now: Instant) {
        let inner = &mut self.inner;
        match Part::of(event).0 {
            Part::Listener | Part::Datagrams | Part::Accepted => {
                inner.server.event(&inner.registry, event);
            }
            Part::Flow | Part::Session => inner.flows.event(event, now),
            Part::ControlListener | Part::Control => {
                self.control.event(self.poll.registry(), event, |command| inner.obey(command));
            }
            Part::Waker => {}
        }
    }

    fn begin(&mut self, settings: &Settings) -> Result<(), ServiceError> {
        let rate = DirtyRate {
            mib_per_s: settings.dirty_mib_per_s,
            working_set_mib: settings.dirty_set_mib,
        };
        let mut commands = vec![Command::Dirty(rate)];
        let kinds =
            [(settings.neighbour_idle, Mode::Idle), (settings.neighbour_paced, NEIGHBOUR_MODE)];
        for (count, mode) in kinds {
            let (targets, sources) = (settings.neighbours.clone(), Vec::new());
            let (asks_max, silent_after_ms) = (None, None);
            let spec = FlowSpec { count, targets, sources, mode, asks_max, silent_after_ms };
            commands.push(Command::Connect(spec));
        }
        for command in commands {
            if let Answer::Refused { reason } = self.inner.obey(command) {
                return Err(ServiceError::Settings(reason));
            }
        }
        Ok(())
    }
}

impl Inner {
    /// How long nothing is due.
    fn rest(&self) -> Option<Duration> {
        let due = [self.server.next_due(), self.flows.next_due(), self.heart.due];
        due.into_iter().flatten().min().map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn obey(&mut self, command: Command) -> Answer {
        let now = Instant::now();
        match command {
            Command::Log => Answer::Log(self.log(now)),
            Command::Close { filter, how } => {
                let accepted = self.server.close(&filter, how, now);
                Answer::Done { count: accepted + self.flows.close(&filter, how, now) }
            }
            Command::Dirty(rate) => done(1, self.dirtier.set(rate)),
            Command::Records { per_second } => match &self.recorder {
                Some(recorder) => {
                    recorder.set_rate(per_second);
                    Answer::Done { count: 1 }
                }
                None => Answer::Refused { reason: "this guest has no disk for records".into() },
            },
            Command::Counters => Answer::Counters(Box::new(self.counters(now))),
            Command::Connect(spec) => {
                done(spec.count, self.flows.open(&self.registry, &spec, Pool::Start))
            }
            Command::Silence { flows, silent } => {
                Answer::Done { count: self.flows.set_silent(&flows, silent) }
            }
        }
    }

    fn log(&self, now: Instant) -> Log {
        let (accepted, accepted_dropped) = self.server.accepted();
        let (opened, sessions) = (self.flows.report(now).flows, self.server.sessions());
        Log { accepted, accepted_dropped, opened, sessions }
    }

    fn counters(&self, now: Instant) -> Counters {
        let up = now.saturating_duration_since(self.started);
        Counters {
            boot: self.boot,
            up_ms: u64::try_from(up.as_millis()).unwrap_or(u64::MAX),
            server: self.server.counters(),
            opened: self.flows.count(),
            records: self.recorder.as_ref().map(Recorder::status),
            dirty: self.dirtier.counters(),
            drops: KernelDrops::read(),
        }
    }
}

impl Heart {
    fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, beats: 0, due: (!interval.is_zero()).then_some(now + interval) }
    }

    fn beat_if_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            println!("{ALIVE} {}", self.beats);
            self.beats += 1;
            self.due = Some(now + self.interval);
        }
    }
}

fn done<E: std::fmt::Display>(count: usize, outcome: Result<(), E>) -> Answer {
    match outcome {
        Ok(()) => Answer::Done { count },
        Err(error) => Answer::Refused { reason: error.to_string() },
    }
}
