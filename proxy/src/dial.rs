//! Station five, *dial*: a connection to the flow's backend.
//!
//! A backend that refuses at once (it has just died, and the checks do not know yet) costs its
//! client nothing: the next one is tried, [`DIALS_MAX`] in all, within the one connect time-out of
//! the service. A backend that stays silent uses that up.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::config::ServiceConfig;
use crate::flow::{Event, Flow};
use crate::kernel;
use crate::route::route;

/// Most backends that are dialled for one flow.
pub const DIALS_MAX: usize = 3;

/// A silent connection is probed after this long, on both sides of a flow.
const KEEPALIVE_IDLE_S: u64 = 60;
/// From one unanswered probe to the next.
const KEEPALIVE_INTERVAL_S: u64 = 15;
/// So many unanswered probes, and the peer is lost.
const KEEPALIVE_PROBES: u32 = 8;
/// Local legs: on the machine's default, BBR, they carry less than half (its pacing has no
/// distance to make use of).
const CONGESTION: &str = "cubic";

/// Connects the flow to a backend.
///
/// # Errors
/// What ended the flow instead.
pub async fn dial(flow: &Flow) -> Result<TcpStream, Event> {
    let begun = Instant::now();
    let service = flow.service();
    let dialling = timeout(service.config.connect_timeout, first_that_answers(flow));
    let dialled = tokio::select! {
        biased;
        event = flow.ordered() => return Err(event),
        dialled = dialling => dialled,
    };
    let stream = dialled.map_err(|_| Event::DialTimedOut)??;
    service.standing.measures.connected(begun.elapsed());
    Ok(stream)
}

/// Sets what every connection of a flow has: no waiting for more bytes, probes, congestion control.
pub fn prepare(stream: &TcpStream) {
    // Each of these is an improvement that a connection also works without.
    let wanted = [
        sockopt::set_tcp_nodelay(stream, true),
        sockopt::set_socket_keepalive(stream, true),
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(KEEPALIVE_IDLE_S)),
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(KEEPALIVE_INTERVAL_S)),
        sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES),
        sockopt::set_tcp_congestion(stream, CONGESTION),
    ];
    if let Some(error) = wanted.into_iter().find_map(Result::err) {
        tracing::debug!(%error, "a socket option was refused");
    }
}

/// A socket that may connect to `address`, bound to where the service dials from. It belongs to the
/// network that the calling thread is in.
///
/// # Errors
/// As the system says.
pub fn socket(config: &ServiceConfig, address: &SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = config.source.of(address) {
        kernel::bind_without_port(&socket)?;
        socket.bind((*source, 0).into())?;
    }
    Ok(socket)
}

async fn first_that_answers(flow: &Flow) -> Result<TcpStream, Event> {
    let service = flow.service();
    let mut tried = Vec::new();
    while let Some(target) = flow.target() {
        let connecting = async {
            let socket = socket(&service.config, &target.address)?;
            socket.connect(target.address).await
        };
        match connecting.await {
            Ok(stream) => {
                prepare(&stream);
                return Ok(stream);
            }
            Err(error) => {
                let (id, address) = (flow.id(), target.address);
                tracing::debug!(%id, %address, %error, "backend refused");
            }
        }
        tried.push(flow.served_by());
        match route(service, &flow.vip(), &tried) {
            Some(next) if tried.len() < DIALS_MAX => flow.serve_by(next),
            _ => break,
        }
    }
    Err(Event::DialFailed)
}
