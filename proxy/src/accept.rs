//! Station one, *accept*; from here each connection is led through the others.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proxy_api::{Protocol, RefusedFor};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::admit::admit;
use crate::dial::{dial, prepare};
use crate::flow::{Ends, Event, Flow, break_off};
use crate::relay::relay;
use crate::route::route;
use crate::worker::Worker;

/// First pause after the system refused to accept; doubled each time, up to
/// [`PAUSE_MS_MAX`]. A process without free descriptors would spin otherwise; clients wait in the
/// backlog meanwhile.
const PAUSE_MS: u64 = 10;
/// Longest pause between two attempts to accept.
const PAUSE_MS_MAX: u64 = 1_000;

/// Accepts at one VIP for ever.
pub(crate) async fn accept_all(worker: Rc<Worker>, listener: TcpListener, vip: SocketAddr) {
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                failures = 0;
                welcome(&worker, stream, client, vip);
            }
            Err(error) => {
                metrics::counter!("causeway_accept_failures_total").increment(1);
                let pause = pause(&error, failures);
                if pause > Duration::ZERO {
                    failures += 1;
                    tracing::warn!(%vip, %error, pause_ms = pause.as_millis(), "no client accepted");
                    sleep(pause).await;
                }
            }
        }
    }
}

/// Admit, route, flow: what takes no time. The rest is a task of the flow's own.
fn welcome(worker: &Rc<Worker>, stream: TcpStream, client: SocketAddr, vip: SocketAddr) {
    let services = worker.shared.services.load();
    let Some(service) = services.at((Protocol::Tcp, vip)) else {
        // A reload has just taken the VIP away; its listener is about to follow.
        return break_off(&stream);
    };
    let refused = |why: RefusedFor| {
        service.standing.refuse(why);
        break_off(&stream);
    };
    let place = match admit(service, &worker.shared.capacity) {
        Ok(place) => place,
        Err(why) => return refused(why),
    };
    let Some(backend) = route(service, &vip, &[]) else {
        return refused(RefusedFor::NoBackend);
    };
    let flow = worker.open((client, vip), (service, backend), place);
    spawn_local(carry(Rc::clone(worker), flow, stream));
}

/// Dial, relay, account.
async fn carry(worker: Rc<Worker>, flow: Rc<Flow>, client: TcpStream) {
    prepare(&client);
    let server = match dial(&flow).await {
        Ok(server) => server,
        Err(event) => {
            break_off(&client);
            drop(client);
            return worker.close(&flow, event);
        }
    };
    let ends = Rc::new(Ends { client, server });
    flow.connected(&ends);
    let event = relay(&worker, &flow, &ends).await;
    if !matches!(event, Event::Ended { .. }) {
        ends.break_off();
    }
    worker.close(&flow, event);
}

/// None for a client that went away before it was accepted; else longer with each failure.
fn pause(error: &std::io::Error, failures: u32) -> Duration {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
    {
        return Duration::ZERO;
    }
    let doubled = PAUSE_MS.saturating_mul(1 << failures.min(16));
    Duration::from_millis(doubled.min(PAUSE_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_system_is_asked_less_and_less_often_and_a_client_gone_costs_nothing() {
        let exhausted = std::io::Error::from_raw_os_error(libc::EMFILE);
        let pauses: Vec<u128> =
            (0..9).map(|failures| pause(&exhausted, failures).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(pause(&exhausted, u32::MAX).as_millis(), 1000);
        let gone = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        assert_eq!(pause(&gone, 5), Duration::ZERO);
    }
}
