//! One accepted connection: hello, then an answer to every ask, in order, until one side ends it.
//!
//! No more is read while an answer waits to be written, so a connection's memory is bounded by
//! [`PENDING_BYTES_MAX`] whatever its client does.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;

use crate::clock;
use crate::ending::{Ending, Party};
use crate::log::Accepted;
use crate::socket;
use crate::traffic::frame::{Header, Kind};
use crate::traffic::hello::{HELLO_BYTES, Hello};
use crate::traffic::stream::{Incoming, Outgoing};
use crate::traffic::{Direction, Fault, Token};

/// Bytes read at once, and so the most that can wait behind a blocked answer.
const PENDING_BYTES_MAX: usize = 16 << 10;

/// Steps (one read, one piece written or one frame) before other connections have their turn.
const STEPS_PER_TURN: u32 = 64;

/// What became of a turn.
#[derive(Debug)]
pub(super) enum Turn {
    /// Wait for the socket.
    Blocked,
    /// More to do, after the others.
    More,
    /// It is over; drop it.
    Over,
}

/// Where the connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// The client's FIN is here; what it asked for is still being answered.
    Finishing,
    /// We were told to end it: end frame, FIN, then read until the client ends it too.
    Closing {
        fin_sent: bool,
    },
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    entry: Accepted,
    hello: [u8; HELLO_BYTES],
    hello_sent: usize,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Bytes read and not yet checked, from `pending_at` on.
    pending: Vec<u8>,
    pending_at: usize,
    stage: Stage,
    /// Our end frame was begun.
    end_begun: bool,
    /// When a closing connection is reset, should its client never end its own direction.
    pub(super) patience: Option<Instant>,
}

enum Step {
    Moved,
    Blocked,
    Ended(Ending),
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        id: u64,
        token: Token,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        let (local, peer) = (canonical(local), canonical(peer));
        let entry = Accepted {
            id,
            local,
            peer,
            token,
            opened_ms: clock::unix_ms(),
            ended_ms: None,
            asks: 0,
            verified: 0,
            sent: 0,
            ending: Ending::Open,
        };
        Self {
            socket,
            entry,
            hello: Hello { token, seen: peer }.encode(),
            hello_sent: 0,
            incoming: Incoming::new(token, Direction::Up),
            outgoing: Outgoing::new(token, Direction::Down),
            pending: Vec::new(),
            pending_at: 0,
            stage: Stage::Serving,
            end_begun: false,
            patience: None,
        }
    }

    /// The log's line for this connection, as of now.
    pub(super) fn entry(&self) -> Accepted {
        let (verified, sent) = (self.incoming.verified(), self.outgoing.payload_sent());
        Accepted { verified, sent, ..self.entry.clone() }
    }

    /// Does what can be done now.
    pub(super) fn turn(&mut self, scratch: &mut [u8]) -> Turn {
        for _ in 0..STEPS_PER_TURN {
            match self.step(scratch) {
                Ok(Step::Moved) => {}
                Ok(Step::Blocked) => return Turn::Blocked,
                Ok(Step::Ended(ending)) => return self.over(ending),
                Err(error) => return self.over(Ending::of_error(&error, Party::Client)),
            }
        }
        Turn::More
    }

    /// Ends our direction in order, after the answer that is on its way.
    pub(super) fn close(&mut self, patience: Instant) {
        if self.stage == Stage::Serving {
            self.stage = Stage::Closing { fin_sent: false };
            self.patience = Some(patience);
        }
    }

    /// Ends it now, by RST.
    pub(super) fn reset(&mut self) {
        self.over(Ending::Rst { by: Party::Server });
    }

    fn over(&mut self, ending: Ending) -> Turn {
        if !matches!(ending, Ending::Fin { .. }) {
            socket::reset_on_close(&self.socket);
        }
        self.entry.ending = ending;
        self.entry.ended_ms = Some(clock::unix_ms());
        Turn::Over
    }

    fn step(&mut self, scratch: &mut [u8]) -> io::Result<Step> {
        if self.hello_sent < HELLO_BYTES || self.outgoing.busy() {
            return self.write(scratch);
        }
        match self.stage {
            Stage::Serving => self.receive(scratch),
            Stage::Finishing | Stage::Closing { fin_sent: false } if !self.end_begun => {
                let told = self.stage != Stage::Finishing;
                let last = if told { Kind::Leave } else { Kind::End };
                self.outgoing.begin(last, 0, 0, self.incoming.verified());
                self.end_begun = true;
                Ok(Step::Moved)
            }
            Stage::Finishing => {
                self.socket.shutdown(Shutdown::Write)?;
                Ok(Step::Ended(Ending::Fin { by: Party::Client }))
            }
            Stage::Closing { fin_sent: false } => {
                self.socket.shutdown(Shutdown::Write)?;
                self.stage = Stage::Closing { fin_sent: true };
                Ok(Step::Moved)
            }
            Stage::Closing { fin_sent: true } => self.receive(scratch),
        }
    }

    fn write(&mut self, scratch: &mut [u8]) -> io::Result<Step> {
        let hello = &self.hello[self.hello_sent..];
        let written = if hello.is_empty() {
            let filled = self.outgoing.fill(scratch);
            self.socket.write(&scratch[..filled])
        } else {
            self.socket.write(hello)
        };
        match written {
            Ok(written) if self.hello_sent < HELLO_BYTES => self.hello_sent += written,
            Ok(written) => self.outgoing.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(Step::Moved)
    }

    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Step> {
        if !self.pending.is_empty() {
            return Ok(self.check_pending());
        }
        match self.socket.read(&mut scratch[..PENDING_BYTES_MAX]) {
            Ok(0) => Ok(self.client_finished()),
            Ok(read) => {
                let (consumed, step) = self.check(&scratch[..read]);
                self.pending.extend_from_slice(&scratch[consumed..read]);
                Ok(step)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Step::Moved),
            Err(error) => Err(error),
        }
    }

    fn client_finished(&mut self) -> Step {
        if let Err(fault) = self.incoming.finish(true) {
            return Step::Ended(Ending::Faulted { fault });
        }
        if matches!(self.stage, Stage::Closing { .. }) {
            return Step::Ended(Ending::Fin { by: Party::Server });
        }
        self.stage = Stage::Finishing;
        Step::Moved
    }

    fn check_pending(&mut self) -> Step {
        let pending = std::mem::take(&mut self.pending);
        let (consumed, step) = self.check(&pending[self.pending_at..]);
        self.pending_at += consumed;
        if self.pending_at < pending.len() {
            self.pending = pending;
        } else {
            self.pending_at = 0;
        }
        step
    }

    /// Checks bytes up to the next frame's end, and says how many those were.
    fn check(&mut self, bytes: &[u8]) -> (usize, Step) {
        match self.incoming.feed(bytes) {
            Err(fault) => (bytes.len(), Step::Ended(Ending::Faulted { fault })),
            Ok(fed) => {
                let step = fed.frame.map_or(Step::Moved, |frame| self.answer(&frame));
                (fed.consumed, step)
            }
        }
    }

    fn answer(&mut self, ask: &Header) -> Step {
        match ask.kind {
            // What a closing server is still asked stays unanswered; its last frame said so.
            Kind::Ask if self.stage == Stage::Serving => {
                self.entry.asks += 1;
                self.outgoing.begin(Kind::Answer, ask.want, 0, self.incoming.verified());
                Step::Moved
            }
            Kind::Ask | Kind::End => Step::Moved,
            Kind::Answer | Kind::Leave => {
                let fault = Fault::Header { at: self.incoming.place() };
                Step::Ended(Ending::Faulted { fault })
            }
        }
    }
}

/// An address as its family writes it: a mapped IPv4 address is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
