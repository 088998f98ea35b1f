//! From a listening socket to calls: accept, handshake, and the end of it all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{counter, gauge};
use placement::Identity;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::bounds::Bounds;
use super::call::Desk;
use super::route::RouteTable;
use crate::identity::caller;

/// First pause after the system refused to accept; doubled each time, up to
/// [`ACCEPT_PAUSE_MS_MAX`]. A process without free descriptors would spin otherwise.
const ACCEPT_PAUSE_MS: u64 = 10;
/// Longest pause between two attempts to accept.
const ACCEPT_PAUSE_MS_MAX: u64 = 1_000;

/// The control server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address}: the control server cannot listen there; choose a free address of this host as control.listen"
)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A control server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    desk: Arc<Desk>,
    tls: Arc<ArcSwap<ServerConfig>>,
}

impl Server {
    /// Listens on `address`. Each handshake takes what `tls` holds at that moment, so that
    /// certificates can be replaced under a running server; connections that stand, stand.
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub async fn bind(
        address: SocketAddr,
        routes: RouteTable,
        tls: Arc<ArcSwap<ServerConfig>>,
        bounds: Bounds,
    ) -> Result<Server, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { listener, address, desk: Arc::new(Desk { routes, bounds }), tls })
    }

    /// Where it listens; the port is known even if the configuration left it to the system.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` says so; then takes no more calls, finishes those that are being
    /// answered, and returns, within the bound of [`Bounds::stop_ms_max`].
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let bounds = &self.desk.bounds;
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let door = Door {
            desk: Arc::clone(&self.desk),
            tls: Arc::clone(&self.tls),
            connections: Arc::new(Semaphore::new(bounds.connections_max)),
            ended,
        };
        let handshakes = Arc::new(Semaphore::new(bounds.handshakes_max));
        tokio::select! {
            () = stop => {}
            () = accept_all(&self.listener, &handshakes, &door, &mut connections) => {}
        }
        drop(self.listener);
        // Fails only where no connection is left to be told.
        let _ = ending.send(true);
        let rest = async {
            while let Some(joined) = connections.join_next().await {
                report(joined);
            }
        };
        if timeout(self.desk.bounds.stop(), rest).await.is_err() {
            let left = connections.len();
            tracing::warn!(left, "calls cut off: they were not answered within the bound");
            connections.shutdown().await;
        }
    }
}

/// Accepts for ever. Whatever the system says to that, the next attempt may succeed.
async fn accept_all(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
    door: &Door,
    connections: &mut JoinSet<()>,
) {
    let mut failures = 0;
    loop {
        // Held until the caller is known, so that strangers cannot crowd out those that are.
        let permit = Arc::clone(handshakes).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                failures = 0;
                connections.spawn(door.clone().admit(stream, peer, permit));
            }
            Err(error) => {
                counter!("causeway_control_accept_failures_total").increment(1);
                let pause = accept_pause(&error, failures);
                if pause > Duration::ZERO {
                    failures += 1;
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "no connection accepted");
                    sleep(pause).await;
                }
            }
        }
        while let Some(joined) = connections.try_join_next() {
            report(joined);
        }
    }
}

/// None for a caller that went away before it was accepted; else longer with each failure.
fn accept_pause(error: &io::Error, failures: u32) -> Duration {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return Duration::ZERO;
    }
    let doubled = ACCEPT_PAUSE_MS.saturating_mul(1 << failures.min(16));
    Duration::from_millis(doubled.min(ACCEPT_PAUSE_MS_MAX))
}

/// What one connection needs on its way in.
#[derive(Debug, Clone)]
struct Door {
    desk: Arc<Desk>,
    tls: Arc<ArcSwap<ServerConfig>>,
    connections: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

impl Door {
    async fn admit(mut self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let refused = |why: &dyn std::fmt::Display| {
            counter!("causeway_control_handshakes_refused_total").increment(1);
            tracing::info!(%peer, why = %why, "caller refused");
        };
        if let Err(error) = bound_stream(&stream, &self.desk.bounds) {
            return refused(&error);
        }
        let handshake = TlsAcceptor::from(self.tls.load_full()).accept(stream);
        let shaken = tokio::select! {
            shaken = timeout(self.desk.bounds.handshake(), handshake) => shaken,
            () = told(&mut self.ended) => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return refused(&error),
            Err(_) => return refused(&"the handshake took too long"),
        };
        let caller = match caller(&stream) {
            Ok(caller) => caller,
            Err(error) => return refused(&error),
        };
        drop(permit);
        let Ok(_place) = Arc::clone(&self.connections).try_acquire_owned() else {
            return refused(&"there are too many connections");
        };
        let _counted = Counted::one();
        self.converse(stream, &caller).await;
    }

    /// Answers calls on one connection until either end has enough.
    async fn converse(mut self, stream: TlsStream<TcpStream>, caller: &Identity) {
        let bounds = &self.desk.bounds;
        let service = service_fn(|call| Arc::clone(&self.desk).answer(caller.clone(), call));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head())
            .max_header_size(bounds.head_bytes_max)
            .max_buf_size(bounds.head_bytes_max * 2)
            .max_headers(bounds.header_fields_max)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = told(&mut self.ended) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%caller, %error, "connection ended early");
        }
    }
}

/// Returns when the server ends.
async fn told(ended: &mut watch::Receiver<bool>) {
    // An error means that the server is gone already.
    let _ = ended.wait_for(|ended| *ended).await;
}

/// One connection in the metrics, whichever way it ends.
struct Counted;

impl Counted {
    fn one() -> Counted {
        gauge!("causeway_control_connections").increment(1.0);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!("causeway_control_connections").decrement(1.0);
    }
}

/// Lets the kernel end a connection whose caller takes nothing any more, or has vanished.
fn bound_stream(stream: &TcpStream, bounds: &Bounds) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, bounds.unread_ms_max)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(sockopt::set_tcp_keepidle(stream, bounds.head())?)
}

fn report(joined: Result<(), JoinError>) {
    if let Err(error) = joined
        && error.is_panic()
    {
        tracing::error!(%error, "a call's handler panicked; report it, with the log around it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_pauses_longer_and_longer_while_the_system_is_exhausted_but_never_for_ever() {
        let exhausted = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let pauses: Vec<u64> = (0..10)
            .map(|failures| u64::try_from(accept_pause(&exhausted, failures).as_millis()).unwrap())
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert_eq!(accept_pause(&exhausted, u32::MAX), Duration::from_millis(1000));
        let gone = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(accept_pause(&gone, 5), Duration::ZERO);
    }
}
