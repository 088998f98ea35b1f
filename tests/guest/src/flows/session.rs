//! One UDP session of a client: numbered datagrams at a pace, and the server's counts of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token as Event};

use super::report::SessionRecord;
use super::stall::Stall;
use crate::traffic::datagram::{Answer, Ask};
use crate::traffic::session::{Counts, Tally};
use crate::{random, socket};

/// Datagrams read before others have their turn.
const DATAGRAMS_PER_TURN: u32 = 64;

/// Between two queries for the server's last counts.
pub(super) const QUERY_INTERVAL: Duration = Duration::from_millis(100);

/// After so many answers to queries, whatever answer is not here yet is lost.
const QUERIES_ENOUGH: u32 = 10;

#[derive(Debug)]
pub(super) struct Session {
    socket: UdpSocket,
    record: SessionRecord,
    tally: Tally,
    stall: Stall,
    size: usize,
    pub(super) interval: Duration,
    /// No more datagrams but queries.
    pub(super) finishing: bool,
    /// Queries that were answered.
    queried: u32,
    started: Instant,
}

impl Session {
    pub(super) fn open(
        registry: &Registry,
        event: Event,
        (peer, source): (SocketAddr, Option<IpAddr>),
        id: usize,
        (size, interval): (usize, Duration),
    ) -> io::Result<Self> {
        let mut local = socket::any_address(peer.ip());
        if let Some(source) = source {
            local.set_ip(source);
        }
        let mut socket = socket::datagrams(local)?;
        socket.connect(peer)?;
        registry.register(&mut socket, event, Interest::READABLE)?;
        let record = SessionRecord {
            id,
            local: socket.local_addr()?,
            peer,
            nonce: u64::from_le_bytes(random::bytes()?),
            token: None,
            token_changed: None,
            sent: 0,
            unsent: 0,
            at_server: Counts::default(),
            answers: Counts::default(),
            foreign: 0,
            settled: false,
            stall_us_max: 0,
            error: None,
        };
        Ok(Self {
            socket,
            record,
            tally: Tally::default(),
            stall: Stall::default(),
            size,
            interval,
            finishing: false,
            queried: 0,
            started: Instant::now(),
        })
    }

    pub(super) fn record(&self, now: Instant) -> SessionRecord {
        let (answers, stall_us_max) = (self.tally.counts(), self.stall.longest_us(now));
        SessionRecord { answers, stall_us_max, ..self.record.clone() }
    }

    /// Whether the server has told its last counts, and every answer is here or will not come.
    pub(super) fn is_complete(&self) -> bool {
        let all = self.tally.counts().received == self.record.sent;
        self.record.settled && (all || self.queried >= QUERIES_ENOUGH)
    }

    /// Sends what is due: the next datagram, or a query once the session is finishing.
    pub(super) fn tick(&mut self, scratch: &mut [u8], now: Instant) {
        let number = (!self.finishing).then_some(self.record.sent);
        let since = now.saturating_duration_since(self.started);
        let sent_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let bytes = &mut scratch[..self.size];
        Ask { nonce: self.record.nonce, number, sent_us }.encode(bytes);
        match self.socket.send(bytes) {
            Ok(_) if self.finishing => {}
            Ok(_) => {
                self.record.sent += 1;
                self.stall.owe(now);
            }
            Err(error) => {
                self.record.unsent += u64::from(!self.finishing);
                self.note(&error);
            }
        }
    }

    /// Reads answers; true if there may be more after the others' turn.
    pub(super) fn receive(&mut self, scratch: &mut [u8], now: Instant) -> bool {
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.socket.recv(scratch) {
                Ok(length) => self.take(&scratch[..length], now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => self.note(&error),
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8], now: Instant) {
        let answer = Answer::decode(bytes).filter(|answer| answer.nonce == self.record.nonce);
        let Some(answer) = answer else {
            self.record.foreign += 1;
            return;
        };
        let token = *self.record.token.get_or_insert(answer.token);
        if token != answer.token {
            self.record.token_changed.get_or_insert(answer.token);
        }
        if let Some(number) = answer.number {
            self.tally.count(number);
        } else {
            self.record.settled = true;
            self.queried += 1;
        }
        // Answers may overtake each other; the server's counts only grow.
        let counted = |counts: &Counts| counts.received + counts.duplicates + counts.ancient;
        if counted(&answer.counts) >= counted(&self.record.at_server) {
            self.record.at_server = answer.counts;
        }
        self.stall.progress(now, self.tally.counts().highest < self.record.sent);
    }

    fn note(&mut self, error: &io::Error) {
        self.record.error.get_or_insert_with(|| error.to_string());
    }
}
