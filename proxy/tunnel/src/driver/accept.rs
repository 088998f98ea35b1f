//! Takes connections of peers that dial, and turns everyone else away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Inner;
use super::counted::Counted;
use super::lane::{Line, carry, secret};
use super::options;
use super::peer::Peer;
use super::report::TunnelEvent;
use crate::protocol::bounds::{GREETING_BYTES_MAX, GREETING_MS_MAX};
use crate::protocol::refusal::Rejection;
use crate::protocol::wire::{Answer, Greeted, Hello, WireError, take_hello};

/// Most callers at once that have not shown who they are.
const STRANGERS_MAX: usize = 64;

/// Pause after the system had no room for another connection.
const NO_ROOM_MS: u64 = 100;

/// How long a caller that is turned away has to read why.
const FAREWELL_MS_MAX: u64 = 1_000;

/// Why a caller is turned away.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error(
        "no TLS connection; check that the caller's certificate comes from our CA and is valid"
    )]
    Tls(#[source] io::Error),
    #[error("it shows no identity of ours: {0}")]
    Nameless(String),
    #[error("{0}")]
    Rejected(String),
    #[error("it greets too slowly")]
    Slow,
    #[error("it hung up before it had greeted")]
    Gone(#[source] io::Error),
    #[error("it greets with something else")]
    Foreign(#[from] WireError),
}

/// Accepts for ever.
pub(super) async fn accept(inner: Arc<Inner>, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let permit = Arc::clone(&strangers).acquire_owned().await;
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no room for another tunnel connection; trying again");
                sleep(Duration::from_millis(NO_ROOM_MS)).await;
                continue;
            }
        };
        let caller = Arc::clone(&inner);
        inner.spawn(async move {
            let greeted = greet(&caller, tcp).await;
            drop(permit);
            match greeted {
                Ok((peer, line)) => {
                    carry(&peer, line).await;
                }
                Err(error) => {
                    let reason = with_causes(&error);
                    caller.reporter.tell(TunnelEvent::TurnedAway { address, reason });
                }
            }
        });
    }
}

type Greeting = (Arc<Peer>, Line<TlsStream<Counted>>);

async fn greet(inner: &Inner, tcp: TcpStream) -> Result<Greeting, AcceptError> {
    let bound = Duration::from_millis(GREETING_MS_MAX);
    let acceptor = TlsAcceptor::from(inner.credentials.server());
    let tls = timeout(bound, acceptor.accept(Counted::new(tcp))).await;
    let mut tls = tls.map_err(|_| AcceptError::Slow)?.map_err(AcceptError::Tls)?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let identity = inner.credentials.identity(chain).map_err(AcceptError::Nameless)?;
    let mut buffer = BytesMut::new();
    let hello = timeout(bound, read_hello(&mut tls, &mut buffer)).await;
    let rejection = match hello.map_err(|_| AcceptError::Slow)?? {
        Greeted::OtherVersion(theirs) => Rejection::Version { theirs },
        Greeted::Hello(hello) => match inner.peer(&identity) {
            None => Rejection::UnknownPeer,
            Some(peer) => match peer.with(|session, now| session.accept_conn(&hello, now)) {
                Err(rejection) => rejection,
                Ok(conn) => {
                    let Hello { lane, .. } = hello;
                    options::for_lane(tls.get_ref().0, lane);
                    let counter = tls.get_ref().0.counter();
                    let secret = secret(lane, tls.get_ref().1);
                    let line = Line { conn, lane, tls, counter, secret, buffer };
                    return Ok((Arc::clone(peer), line));
                }
            },
        },
    };
    turn_away(tls, rejection).await;
    Err(AcceptError::Rejected(format!("{identity}: {rejection}")))
}

async fn read_hello(
    tls: &mut TlsStream<Counted>,
    buffer: &mut BytesMut,
) -> Result<Greeted, AcceptError> {
    loop {
        if let Some(greeted) = take_hello(buffer)? {
            return Ok(greeted);
        }
        buffer.reserve(GREETING_BYTES_MAX);
        if tls.read_buf(buffer).await.map_err(AcceptError::Gone)? == 0 {
            return Err(AcceptError::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Says why, and waits until the caller has read it: closing at once could take it back.
async fn turn_away(mut tls: TlsStream<Counted>, rejection: Rejection) {
    let farewell = async {
        tls.write_all(&Answer::Rejected(rejection).encoded()).await?;
        tls.shutdown().await?;
        let mut rest = [0; 1_024];
        while tls.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_millis(FAREWELL_MS_MAX), farewell).await;
}

fn with_causes(error: &AcceptError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
