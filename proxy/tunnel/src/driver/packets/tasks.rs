//! The tasks that packets pass through: one reads the device, one each socket, one keeps the
//! way to each peer open.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::time::{sleep, sleep_until};

use super::Packets;
use super::leaving::Leaving;
use super::link::Link;
use crate::protocol::packets::datagram::{Body, key_of};

/// The longest packet that IP knows.
const BUFFER_BYTES: usize = 65_535;

/// Between two probes of a way that is open: firewalls forget ways that are silent for long.
const PROBE_MS: u64 = 1_000;

/// Between two of one that is not known to be: the first may be lost.
const FIRST_PROBES_MS: u64 = 100;

/// Pause after a socket has failed to receive: what a stranger's ICMP can cause is over by then.
const FAILED_MS: u64 = 10;

/// Packets taken before other tasks have their turn.
const PACKETS_PER_TURN: u32 = 64;

/// Takes what the kernel sends into the tunnel, for ever.
pub(in crate::driver) async fn receive_from_device(packets: Arc<Packets>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut leaving = Leaving::of(&packets);
    let mut turn = 0;
    loop {
        let received = poll_fn(|cx| {
            let received = packets.device.poll_receive(cx, &mut buffer);
            if received.is_pending() {
                packets.tell_emptied();
            }
            received
        });
        let length = select! {
            biased;
            received = received => received,
            () = packets.look.notified() => continue,
        };
        match length {
            Ok(length) => packets.ways().from_device(&buffer[..length], &mut leaving),
            Err(error) => {
                tracing::error!(%error, "the device of packets is gone; packets stay where they are");
                return;
            }
        }
        leaving.send_waiting().await;
        turn += 1;
        if turn % PACKETS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Takes what peers send, for ever.
pub(in crate::driver) async fn receive_datagrams(packets: Arc<Packets>, socket: usize) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut leaving = Leaving::of(&packets);
    let mut turn = 0;
    loop {
        match packets.sockets[socket].recv_from(&mut buffer).await {
            Ok((length, from)) => packets.datagram(&mut buffer[..length], from, &mut leaving),
            Err(_) => sleep(Duration::from_millis(FAILED_MS)).await,
        }
        leaving.send_waiting().await;
        turn += 1;
        if turn % PACKETS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Does what is due, for ever.
pub(in crate::driver) async fn watch_deadlines(packets: Arc<Packets>) {
    loop {
        match packets.next_deadline() {
            None => packets.due.notified().await,
            Some(due) => select! {
                () = sleep_until(packets.clock.instant(due).into()) => packets.tick(),
                () = packets.due.notified() => {}
            },
        }
    }
}

/// Keeps the way to a peer open: the one that dials tells the other where it is, the called one shows
/// that it has new keys.
pub(in crate::driver) async fn probe(packets: Arc<Packets>, link: usize) {
    let link = &packets.links[link];
    let body = if link.dialled.is_some() { Body::Probe } else { Body::Answer };
    loop {
        let is_heard = link.is_heard(packets.clock.now());
        if link.is_open() && (link.dialled.is_some() || !is_heard) {
            let mut leaving = Leaving::of(&packets);
            leaving.say(link, body);
            leaving.send_waiting().await;
        }
        let pause = if is_heard { PROBE_MS } else { FIRST_PROBES_MS };
        select! {
            () = sleep(Duration::from_millis(pause)) => {}
            () = link.probe.notified() => {}
        }
    }
}

impl Packets {
    fn tell_emptied(&self) {
        let waiting =
            std::mem::take(&mut *self.emptied.lock().unwrap_or_else(PoisonError::into_inner));
        for told in waiting {
            // An error says that nobody waits any more.
            let _ = told.send(());
        }
    }

    fn datagram(&self, datagram: &mut [u8], from: SocketAddr, leaving: &mut Leaving<'_>) {
        let key = key_of(datagram);
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let link = key.and_then(|key| by_key.get(&key)).and_then(|at| self.links.get(*at));
        drop(by_key);
        if let Some(link) = link {
            self.datagram_of(link, datagram, from, leaving);
        }
    }

    fn datagram_of(
        &self,
        link: &Link,
        datagram: &mut [u8],
        from: SocketAddr,
        leaving: &mut Leaving<'_>,
    ) {
        let now = self.clock.now();
        let length = datagram.len() as u64;
        let mut guard = link.state();
        let state = &mut *guard;
        let Ok(body) = state.openers.read(datagram, now) else {
            state.count.unopened += 1;
            return;
        };
        state.was_heard(length, now);
        if link.dialled.is_none() {
            state.address = Some(from);
        }
        let joined = match body {
            Body::First { packet, bytes } => state.joiner.take(packet, true, bytes, now),
            Body::Second { packet, bytes } => state.joiner.take(packet, false, bytes, now),
            Body::Probe | Body::Answer | Body::Whole(_) => None,
        };
        drop(guard);
        match (body, joined) {
            (Body::Probe, _) => leaving.say(link, Body::Answer),
            (Body::Whole(packet), _) => {
                self.ways().from_peer(&link.identity, packet, now, leaving);
            }
            (_, Some(packet)) => self.ways().from_peer(&link.identity, &packet, now, leaving),
            (_, None) => {}
        }
    }
}
