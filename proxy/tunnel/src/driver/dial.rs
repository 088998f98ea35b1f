//! Keeps the connections to a peer that this end dials.
//!
//! While there is none, a new attempt begins every quarter of a second, beside those that still
//! wait: TCP repeats a lost first packet after a second at the earliest, and a WAN that has healed
//! is to be noticed at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use placement::Identity;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::clock::draw;
use super::counted::Counted;
use super::lane::{Carried, Line, carry, secret};
use super::options;
use super::peer::Peer;
use super::plan::Credentials;
use super::report::{Reporter, TunnelEvent};
use crate::protocol::bounds::GREETING_MS_MAX;
use crate::protocol::refusal::Rejection;
use crate::protocol::wire::Lane;

/// Between two attempts, a tenth more or less.
const REDIAL_MS: u64 = 250;

/// Longest wait of one attempt.
const CONNECT_MS_MAX: u64 = 3_000;

/// Most attempts at once for one lane.
const ATTEMPTS_MAX: usize = 12;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(
        "{address} does not take connections; check the address, the peer and what lies between"
    )]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(
        "{address} gives no TLS connection; check that both certificates come from one CA and are valid"
    )]
    Tls {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{address} greets too slowly; check the network between")]
    Slow { address: SocketAddr },
    #[error("{address} shows no identity of ours: {reason}")]
    Nameless { address: SocketAddr, reason: String },
    #[error("{address} is {found}, but {expected} was meant; check address and name")]
    Wrong { address: SocketAddr, expected: Identity, found: Identity },
    #[error("{address} turned the connection away: {rejection}")]
    Rejected {
        address: SocketAddr,
        #[source]
        rejection: Rejection,
    },
}

pub(super) struct Dialler {
    pub(super) peer: Arc<Peer>,
    pub(super) lane: Lane,
    pub(super) address: SocketAddr,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) reporter: Reporter,
}

impl Dialler {
    /// Dials, carries, and dials again.
    pub(super) async fn keep(self) {
        let mut told = String::new();
        loop {
            if self.lane != Lane::Control && self.wait_for_control().await.is_none() {
                return;
            }
            let begun = Instant::now();
            match self.once().await {
                Ok(()) => told.clear(),
                Err(error) => self.tell(&error, &mut told),
            }
            let jitter = draw() % (REDIAL_MS / 5);
            let pause = Duration::from_millis(REDIAL_MS - REDIAL_MS / 10 + jitter);
            sleep(pause.saturating_sub(begun.elapsed())).await;
        }
    }

    async fn once(&self) -> Result<(), DialError> {
        let address = self.address;
        let tcp = connect(address).await?;
        options::for_lane(&tcp, self.lane);
        let greeting = Duration::from_millis(GREETING_MS_MAX);
        let tls = timeout(greeting, self.secured(Counted::new(tcp)));
        let tls = tls.await.map_err(|_| DialError::Slow { address })??;
        let counter = tls.get_ref().0.counter();
        let Some(conn) = self.peer.with(|session, now| session.dial(self.lane, now)) else {
            return Ok(()); // Control was lost meanwhile, or the peer takes fewer lanes.
        };
        let buffer = Default::default();
        let secret = secret(self.lane, tls.get_ref().1);
        let line = Line { conn, lane: self.lane, tls, counter, secret, buffer };
        let Carried { detached, broke } = carry(&self.peer, line).await;
        match (detached.rejection, broke) {
            (Some(rejection), _) => Err(DialError::Rejected { address, rejection }),
            // With TLS 1.3 a caller learns only now that its certificate was not taken.
            (None, Some(source)) if !detached.was_up => Err(DialError::Tls { address, source }),
            (None, None) if !detached.was_up => Err(DialError::Slow { address }),
            (None, _) => Ok(()),
        }
    }

    async fn secured(&self, tcp: Counted) -> Result<TlsStream<Counted>, DialError> {
        let address = self.address;
        let expected = &self.peer.identity;
        let connector = TlsConnector::from(self.credentials.client(expected));
        // Identities are compared, not host names; the name asked for is none.
        let nobody = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
        let tls = connector.connect(nobody, tcp).await;
        let tls = tls.map_err(|source| DialError::Tls { address, source })?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let found = self.credentials.identity(chain);
        let found = found.map_err(|reason| DialError::Nameless { address, reason })?;
        if found != *expected {
            return Err(DialError::Wrong { address, expected: expected.clone(), found });
        }
        Ok(tls)
    }

    async fn wait_for_control(&self) -> Option<()> {
        let mut control = self.peer.control.subscribe();
        control.wait_for(|up| *up).await.ok()?;
        let Lane::Bulk(number) = self.lane else { return Some(()) };
        while self.peer.with(|session, _| number >= session.bulk_lanes_agreed()) {
            // The peer takes fewer; another life of it may take more.
            control.changed().await.ok()?;
        }
        Some(())
    }

    /// Each reason once in a row: attempts are many.
    fn tell(&self, error: &DialError, told: &mut String) {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            let text = source.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = source.source();
        }
        if *told != reason {
            let peer = self.peer.identity.clone();
            self.reporter.tell(TunnelEvent::Unreachable { peer, reason: reason.clone() });
            *told = reason;
        }
    }
}

/// The first of several overlapping attempts that succeeds, or the first that fails.
async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
    let mut attempts = JoinSet::new();
    loop {
        if attempts.len() < ATTEMPTS_MAX {
            attempts.spawn(attempt(address));
        }
        let pause = sleep(Duration::from_millis(REDIAL_MS));
        tokio::select! {
            Some(Ok(done)) = attempts.join_next() => {
                return done.map_err(|source| DialError::Connect { address, source });
            }
            () = pause => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    options::before_connecting(&socket);
    let connecting = socket.connect(address);
    match timeout(Duration::from_millis(CONNECT_MS_MAX), connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
