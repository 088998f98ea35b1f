//! One TCP flow of a client: connect -> hello -> messages and answers -> end.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token as Event};

use super::plan::Mode;
use super::report::{FlowRecord, Pool};
use super::stall::Stall;
use crate::clock;
use crate::ending::{Ending, Party};
use crate::socket;
use crate::traffic::frame::{Header, Kind};
use crate::traffic::hello::{HELLO_BYTES, Hello};
use crate::traffic::stream::{Incoming, Outgoing};
use crate::traffic::{Direction, Fault};

/// Messages of a paced flow that may wait for their answer; one due above that is skipped, counted.
const PACED_WAITING_MAX: u64 = 1024;

/// Frames of a bulk flow that may wait for their answer.
const BULK_WAITING_MAX: u64 = 64;

/// Reads and writes before other flows have their turn.
const STEPS_PER_TURN: u32 = 32;

#[derive(Debug)]
enum Stage {
    /// The hello is to come; so much of it is here.
    Greeting {
        hello: [u8; HELLO_BYTES],
        have: usize,
    },
    Talking {
        incoming: Incoming,
        outgoing: Outgoing,
    },
}

/// How far our own direction has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    No,
    Wanted,
    EndBegun,
    FinSent,
}

#[derive(Debug)]
pub(super) struct Flow {
    socket: Option<TcpStream>,
    stage: Stage,
    record: FlowRecord,
    asks_max: Option<u64>,
    /// Messages that are due and not yet begun.
    due: u64,
    farewell: Farewell,
    /// The server ended its direction before we ended ours.
    server_first: bool,
    stall: Stall,
    /// Told to send nothing.
    pub(super) silent: bool,
}

enum Step {
    Moved,
    Idle,
}

impl Flow {
    pub(super) fn open(
        registry: &Registry,
        event: Event,
        (peer, source): (SocketAddr, Option<IpAddr>),
        record: FlowRecord,
        asks_max: Option<u64>,
    ) -> Self {
        let mut flow = Self {
            socket: None,
            stage: Stage::Greeting { hello: [0; HELLO_BYTES], have: 0 },
            record,
            asks_max,
            due: 0,
            farewell: Farewell::No,
            server_first: false,
            stall: Stall::default(),
            silent: false,
        };
        let opened = socket::connect(peer, source).and_then(|mut socket| {
            registry.register(&mut socket, event, Interest::READABLE | Interest::WRITABLE)?;
            flow.record.local = socket.local_addr().ok();
            Ok(socket)
        });
        match opened {
            Ok(socket) => flow.socket = Some(socket),
            Err(error) => flow.end(Ending::of_error(&error, Party::Server)),
        }
        flow
    }

    /// A record for a flow that is about to be opened.
    pub(super) fn fresh_record(id: usize, pool: Pool, mode: Mode, peer: SocketAddr) -> FlowRecord {
        FlowRecord {
            id,
            pool,
            mode,
            local: None,
            peer,
            seen: None,
            token: None,
            opened_ms: clock::unix_ms(),
            ended_ms: None,
            asks: 0,
            answers: 0,
            skipped: 0,
            sent: 0,
            verified_up: 0,
            verified_down: 0,
            stall_us_max: 0,
            ending: Ending::Open,
        }
    }

    pub(super) fn record(&self, now: Instant) -> FlowRecord {
        let mut record = self.record.clone();
        if record.ending.is_open() {
            record.stall_us_max = self.stall.longest_us(now);
        }
        if let Stage::Talking { incoming, outgoing } = &self.stage {
            record.verified_down = incoming.verified();
            record.sent = outgoing.payload_sent();
        }
        record
    }

    pub(super) fn mode(&self) -> Mode {
        self.record.mode
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the server has said hello, or the flow has ended without.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_open() || matches!(self.stage, Stage::Talking { .. })
    }

    /// A paced flow's next message is due.
    pub(super) fn tick(&mut self) {
        if self.waiting() + self.due < PACED_WAITING_MAX {
            self.due += 1;
        } else {
            self.record.skipped += 1;
        }
    }

    /// The flow is to end its own direction once what it has begun is sent.
    pub(super) fn finish(&mut self) {
        if self.farewell == Farewell::No {
            self.farewell = Farewell::Wanted;
        }
    }

    /// Ends the flow by RST.
    pub(super) fn reset(&mut self) {
        if self.is_open() {
            self.end(Ending::Rst { by: Party::Client });
        }
    }

    /// Does what can be done now; true if there is more to do after the others. A flow that is
    /// `held` begins no message.
    pub(super) fn turn(&mut self, scratch: &mut [u8], held: bool, now: Instant) -> bool {
        for _ in 0..STEPS_PER_TURN {
            if !self.is_open() {
                return false;
            }
            let (read, written) = (self.receive(scratch, now), self.send(scratch, held, now));
            match (read, written) {
                (Ok(Step::Idle), Ok(Step::Idle)) => return false,
                (Ok(_), Ok(_)) => {}
                (Err(ending), _) | (_, Err(ending)) => self.end(ending),
            }
        }
        true
    }

    fn waiting(&self) -> u64 {
        self.record.asks - self.record.answers
    }

    fn end(&mut self, ending: Ending) {
        let now = Instant::now();
        self.record = FlowRecord { stall_us_max: self.stall.longest_us(now), ..self.record(now) };
        if let Some(socket) = self.socket.take()
            && !matches!(ending, Ending::Fin { .. })
        {
            socket::reset_on_close(&socket);
        }
        self.record.ending = ending;
        self.record.ended_ms = Some(clock::unix_ms());
    }

    fn receive(&mut self, scratch: &mut [u8], now: Instant) -> Result<Step, Ending> {
        let Some(socket) = &mut self.socket else { return Ok(Step::Idle) };
        match socket.read(scratch) {
            Ok(0) => self.server_finished().map(|()| Step::Idle),
            Ok(read) => {
                let checked = self.check(&scratch[..read]);
                self.stall.progress(now, self.waiting() > 0 && !self.server_first);
                checked.map(|()| Step::Moved).map_err(|fault| Ending::Faulted { fault })
            }
            Err(error) => idle_or_ending(&error),
        }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.stage {
                Stage::Greeting { hello, have } => {
                    let used = rest.len().min(HELLO_BYTES - *have);
                    hello[*have..*have + used].copy_from_slice(&rest[..used]);
                    *have += used;
                    rest = &rest[used..];
                    if *have == HELLO_BYTES {
                        let hello = Hello::decode(hello)?;
                        self.greeted(&hello);
                    }
                }
                Stage::Talking { incoming, .. } => {
                    let fed = incoming.feed(rest)?;
                    rest = &rest[fed.consumed..];
                    if let Some(frame) = fed.frame {
                        self.answered(&frame)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn greeted(&mut self, hello: &Hello) {
        self.record.token = Some(hello.token);
        self.record.seen = Some(hello.seen);
        if let Some(socket) = &self.socket {
            self.record.local = socket.local_addr().ok();
        }
        self.stage = Stage::Talking {
            incoming: Incoming::new(hello.token, Direction::Down),
            outgoing: Outgoing::new(hello.token, Direction::Up),
        };
    }

    fn answered(&mut self, frame: &Header) -> Result<(), Fault> {
        self.record.verified_up = self.record.verified_up.max(frame.verified);
        let Stage::Talking { incoming, outgoing } = &self.stage else { return Ok(()) };
        let foreign = Fault::Header { at: incoming.place() };
        match frame.kind {
            Kind::Answer => {
                // Frames are numbered; so the answer to a message is the frame of its number.
                let due = self.record.answers < self.record.asks;
                if !due || frame.length != sizes(self.record.mode).1 {
                    return Err(foreign);
                }
                self.record.answers += 1;
                Ok(())
            }
            Kind::End if self.farewell == Farewell::FinSent => {
                let (verified, sent) = (frame.verified, outgoing.payload_sent());
                let all = verified == sent && self.record.answers == self.record.asks;
                if all { Ok(()) } else { Err(Fault::Totals { verified, sent }) }
            }
            Kind::Leave => {
                self.server_first = true;
                self.finish();
                Ok(())
            }
            Kind::End | Kind::Ask => Err(foreign),
        }
    }

    fn server_finished(&mut self) -> Result<(), Ending> {
        match &self.stage {
            Stage::Greeting { .. } => Err(Ending::Faulted { fault: Fault::NoHello }),
            Stage::Talking { incoming, .. } => {
                incoming.finish(true).map_err(|fault| Ending::Faulted { fault })?;
                match self.farewell {
                    Farewell::FinSent if self.server_first => {
                        Err(Ending::Fin { by: Party::Server })
                    }
                    Farewell::FinSent => Err(Ending::Fin { by: Party::Client }),
                    // Our own end is still on its way out; the socket says so again when it is.
                    _ => Ok(()),
                }
            }
        }
    }

    fn send(&mut self, scratch: &mut [u8], held: bool, now: Instant) -> Result<Step, Ending> {
        if !self.begin_due(held, now) {
            return self.send_fin();
        }
        let (Stage::Talking { outgoing, .. }, Some(socket)) = (&mut self.stage, &mut self.socket)
        else {
            return Ok(Step::Idle);
        };
        let filled = outgoing.fill(scratch);
        match socket.write(&scratch[..filled]) {
            Ok(written) => {
                outgoing.advance(written);
                Ok(Step::Moved)
            }
            Err(error) => idle_or_ending(&error),
        }
    }

    /// Begins the next message or the end frame, if one is due; true if there is something to write.
    fn begin_due(&mut self, held: bool, now: Instant) -> bool {
        let waiting = self.waiting();
        let Stage::Talking { incoming, outgoing } = &mut self.stage else { return false };
        if outgoing.busy() {
            return true;
        }
        let spent = self.asks_max.is_some_and(|max| self.record.asks >= max);
        if spent && self.farewell == Farewell::No {
            self.farewell = Farewell::Wanted;
        }
        match self.farewell {
            Farewell::Wanted => {
                outgoing.begin(Kind::End, 0, 0, incoming.verified());
                self.farewell = Farewell::EndBegun;
                return true;
            }
            Farewell::EndBegun | Farewell::FinSent => return false,
            Farewell::No => {}
        }
        let due = match self.record.mode {
            Mode::Idle => false,
            Mode::Paced { .. } => self.due > 0,
            Mode::PingPong { .. } => waiting == 0,
            Mode::Upload { .. } | Mode::Download { .. } => waiting < BULK_WAITING_MAX,
        };
        if !due || held || self.silent {
            return false;
        }
        self.due = self.due.saturating_sub(1);
        let (up, down) = sizes(self.record.mode);
        outgoing.begin(Kind::Ask, up, down, incoming.verified());
        self.record.asks += 1;
        self.stall.owe(now);
        true
    }

    fn send_fin(&mut self) -> Result<Step, Ending> {
        let (Farewell::EndBegun, Some(socket)) = (self.farewell, &self.socket) else {
            return Ok(Step::Idle);
        };
        socket
            .shutdown(Shutdown::Write)
            .map_err(|error| Ending::of_error(&error, Party::Server))?;
        self.farewell = Farewell::FinSent;
        Ok(Step::Moved)
    }
}

/// Payload of a message, and of its answer.
fn sizes(mode: Mode) -> (u32, u32) {
    match mode {
        Mode::Idle => (0, 0),
        Mode::Paced { size, .. } | Mode::PingPong { size } => (size, size),
        Mode::Upload { frame } => (frame, 0),
        Mode::Download { frame } => (0, frame),
    }
}

fn idle_or_ending(error: &io::Error) -> Result<Step, Ending> {
    match error.kind() {
        // Not connected: the connection is still being made.
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => Ok(Step::Idle),
        io::ErrorKind::Interrupted => Ok(Step::Moved),
        _ => Err(Ending::of_error(error, Party::Server)),
    }
}
