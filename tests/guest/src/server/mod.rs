//! The checked service: TCP and UDP, IPv4 and IPv6, on one port.
//!
//! Accept -> hello -> answer each ask -> end -> log. All connections share one thread and one
//! buffer; those with more to do than one turn wait in a queue for the next.

mod connection;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UdpSocket};
use mio::{Interest, Registry, Token as Event};
use serde::{Deserialize, Serialize};

use self::connection::{Connection, Turn};
use crate::log::{Accepted, Ended};
use crate::slots::{Part, Slots};
use crate::traffic::Token;
use crate::traffic::datagram::{ANSWER_BYTES, Ask, DATAGRAM_BYTES_MAX};
use crate::traffic::session::{SessionEntry, Sessions};
use crate::{clock, random, socket};

/// Connections served at once. What comes above waits in the backlog.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How long a connection that was told to end may wait for its client's end.
pub const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Datagrams answered before others have their turn.
const DATAGRAMS_PER_TURN: u32 = 64;

/// Wait before accepting again when the system has no descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const SCRATCH_BYTES: usize = 64 << 10;

/// Which connections a command is for; an empty filter is for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Those of this client.
    pub peer: Option<SocketAddr>,
    /// Those of clients at this address.
    pub peer_ip: Option<IpAddr>,
    /// The one with this token.
    pub token: Option<Token>,
}

impl Filter {
    /// Whether the filter lets a connection with `peer` and `token` pass.
    #[must_use]
    pub fn admits(&self, peer: SocketAddr, token: Token) -> bool {
        self.peer.is_none_or(|wanted| wanted == peer)
            && self.peer_ip.is_none_or(|wanted| wanted == peer.ip())
            && self.token.is_none_or(|wanted| wanted == token)
    }
}

/// How to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseHow {
    /// In order: what is being sent, the end frame, FIN.
    Fin,
    /// At once.
    Rst,
}

/// What a server has counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Of these, now open.
    pub open: u64,
    /// Asks answered over TCP, by connections that have ended and open ones.
    pub asks: u64,
    /// UDP sessions.
    pub sessions: u64,
    /// Datagrams answered.
    pub datagrams: u64,
    /// Datagrams that were no ask: altered, or foreign.
    pub datagrams_foreign: u64,
    /// Datagrams left unanswered: no place for their session, or a query for none.
    pub datagrams_refused: u64,
    /// Answers that the system would not take.
    pub answers_dropped: u64,
}

/// The service's sockets and what it knows of its clients.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    connections: Slots<Connection>,
    sessions: Sessions,
    ended: Ended,
    asks_ended: u64,
    counters: ServerCounters,
    more: VecDeque<Event>,
    closing: VecDeque<(Instant, Event)>,
    accept_again: Option<Instant>,
    scratch: Vec<u8>,
}

impl Server {
    /// Listens on `port` of each address, over TCP and UDP. Port 0 takes a free one, the same for
    /// all addresses.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn listen(registry: &Registry, addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut server = Self {
            listeners: Vec::new(),
            datagrams: Vec::new(),
            connections: Slots::new(Part::Accepted, CONNECTIONS_MAX),
            sessions: Sessions::default(),
            ended: Ended::default(),
            asks_ended: 0,
            counters: ServerCounters::default(),
            more: VecDeque::new(),
            closing: VecDeque::new(),
            accept_again: None,
            scratch: vec![0; SCRATCH_BYTES],
        };
        let mut port = port;
        for (index, address) in addresses.iter().enumerate() {
            let mut listener = socket::listen(SocketAddr::new(*address, port))?;
            port = listener.local_addr()?.port();
            let token = Part::Listener.token(index, 0);
            registry.register(&mut listener, token, Interest::READABLE)?;
            let mut datagrams = socket::datagrams(SocketAddr::new(*address, port))?;
            let token = Part::Datagrams.token(index, 0);
            registry.register(&mut datagrams, token, Interest::READABLE)?;
            server.listeners.push(listener);
            server.datagrams.push(datagrams);
        }
        Ok(server)
    }

    /// The port that all addresses share.
    ///
    /// # Errors
    /// There is no listener, or it has lost its address.
    pub fn port(&self) -> io::Result<u16> {
        let first = self.listeners.first().ok_or(io::ErrorKind::NotConnected)?;
        Ok(first.local_addr()?.port())
    }

    /// Handles an event of one of the server's sockets.
    pub fn event(&mut self, registry: &Registry, event: Event) {
        match Part::of(event) {
            (Part::Listener, index) => self.accept(registry, index),
            (Part::Datagrams, index) => self.answer_datagrams(index),
            _ => self.turn(event),
        }
    }

    /// Does what the last turns left over; true if there is still more.
    pub fn go_on(&mut self, registry: &Registry, now: Instant) -> bool {
        for event in std::mem::take(&mut self.more) {
            self.event(registry, event);
        }
        while self.closing.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, event)) = self.closing.pop_front() else { break };
            if self.connections.get_mut(event).is_some_and(|c| c.patience.is_some()) {
                self.drop_connection(event, Connection::reset);
            }
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            for index in 0..self.listeners.len() {
                self.accept(registry, index);
            }
        }
        !self.more.is_empty()
    }

    /// When [`Server::go_on`] has something to do even if nothing comes.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let closing = self.closing.front().map(|(at, _)| *at);
        closing.into_iter().chain(self.accept_again).min()
    }

    /// Ends the connections that `filter` admits, and says how many those are.
    pub fn close(&mut self, filter: &Filter, how: CloseHow, now: Instant) -> usize {
        let admitted = |connection: &Connection| {
            let entry = connection.entry();
            filter.admits(entry.peer, entry.token)
        };
        let events: Vec<Event> = self
            .connections
            .iter()
            .filter(|(_, connection)| admitted(connection))
            .map(|(event, _)| event)
            .collect();
        for event in &events {
            match how {
                CloseHow::Rst => self.drop_connection(*event, Connection::reset),
                CloseHow::Fin => {
                    let Some(connection) = self.connections.get_mut(*event) else { continue };
                    connection.close(now + CLOSE_WAIT_MAX);
                    self.closing.push_back((now + CLOSE_WAIT_MAX, *event));
                    self.more.push_back(*event);
                }
            }
        }
        events.len()
    }

    /// Every accepted connection: those that ended, then the open ones; and how many were dropped.
    #[must_use]
    pub fn accepted(&self) -> (Vec<Accepted>, u64) {
        let open = self.connections.iter().map(|(_, connection)| connection.entry());
        (self.ended.entries().cloned().chain(open).collect(), self.ended.dropped())
    }

    /// Every UDP session.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionEntry> {
        self.sessions.entries()
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        let asks_open: u64 = self.connections.iter().map(|(_, c)| c.entry().asks).sum();
        ServerCounters {
            open: self.connections.len() as u64,
            asks: self.asks_ended + asks_open,
            sessions: self.sessions.len() as u64,
            datagrams_refused: self.sessions.refused(),
            ..self.counters
        }
    }

    fn accept(&mut self, registry: &Registry, index: usize) {
        loop {
            if self.connections.len() == CONNECTIONS_MAX {
                self.accept_again = Some(Instant::now() + ACCEPT_RETRY);
                return;
            }
            let Some(listener) = self.listeners.get(index) else { return };
            let accepted = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => continue,
                    _ => {
                        // Out of descriptors or memory: the rest waits in the backlog.
                        self.accept_again = Some(Instant::now() + ACCEPT_RETRY);
                        return;
                    }
                },
            };
            if let Err(error) = self.admit(registry, accepted) {
                eprintln!("causeway-guest: a connection could not be served: {error}");
            }
        }
    }

    fn admit(
        &mut self,
        registry: &Registry,
        (mut socket, peer): (mio::net::TcpStream, SocketAddr),
    ) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        let token = random::token()?;
        let id = self.counters.accepted;
        self.counters.accepted += 1;
        let event = self.connections.insert_with(|event| {
            registry.register(&mut socket, event, Interest::READABLE | Interest::WRITABLE)?;
            Ok::<_, io::Error>(Connection::new(socket, id, token, local, peer))
        })?;
        if let Some(event) = event {
            self.turn(event);
        }
        Ok(())
    }

    fn turn(&mut self, event: Event) {
        let Some(connection) = self.connections.get_mut(event) else { return };
        match connection.turn(&mut self.scratch) {
            Turn::Blocked => {}
            Turn::More => self.more.push_back(event),
            Turn::Over => self.drop_connection(event, |_| {}),
        }
    }

    fn drop_connection(&mut self, event: Event, last: impl FnOnce(&mut Connection)) {
        let Some(mut connection) = self.connections.remove(event) else { return };
        last(&mut connection);
        let entry = connection.entry();
        self.asks_ended += entry.asks;
        self.ended.push(entry);
    }

    fn answer_datagrams(&mut self, index: usize) {
        let Some(socket) = self.datagrams.get(index) else { return };
        for _ in 0..DATAGRAMS_PER_TURN {
            let (length, peer) = match socket.recv_from(&mut self.scratch) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error for an earlier answer; the next datagram is behind it.
                Err(_) => continue,
            };
            let Some(ask) = Ask::decode(&self.scratch[..length]) else {
                self.counters.datagrams_foreign += 1;
                continue;
            };
            let fresh = || random::token().ok();
            let answer = self.sessions.receive(peer, &ask, clock::unix_ms(), fresh);
            let Some(answer) = answer else { continue };
            let bytes = &mut self.scratch[..length.clamp(ANSWER_BYTES, DATAGRAM_BYTES_MAX)];
            answer.encode(bytes);
            match socket.send_to(bytes, peer) {
                Ok(_) => self.counters.datagrams += 1,
                Err(_) => self.counters.answers_dropped += 1,
            }
        }
        self.more.push_back(Part::Datagrams.token(index, 0));
    }
}
