//! How packets leave: to the device at once, to a peer as one datagram or two.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use placement::Identity;
use tokio::net::UdpSocket;

use super::Packets;
use super::link::{Link, LinkState};
use crate::protocol::packets::Outlet;
use crate::protocol::packets::datagram::{Body, Cut, V4_BYTES_MAX, V6_BYTES_MAX, cut};

pub(super) struct Leaving<'a> {
    packets: &'a Packets,
    buffer: BytesMut,
    /// Datagrams for which a socket had no room; in order.
    waiting: Vec<(usize, SocketAddr, BytesMut)>,
}

impl<'a> Leaving<'a> {
    pub(super) fn of(packets: &'a Packets) -> Leaving<'a> {
        Leaving { packets, buffer: BytesMut::new(), waiting: Vec::new() }
    }

    /// Sends what had no room, once it has; for whoever can wait, and so slows what comes in.
    pub(super) async fn send_waiting(&mut self) {
        for (socket, address, datagram) in self.waiting.drain(..) {
            if self.packets.sockets[socket].send_to(&datagram, address).await.is_err() {
                self.packets.unsent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// For whoever cannot.
    pub(super) fn drop_waiting(&mut self) {
        self.packets.unsent.fetch_add(self.waiting.len() as u64, Ordering::Relaxed);
        self.waiting.clear();
    }

    /// Sends a datagram to where the peer is.
    pub(super) fn say(&mut self, link: &Link, body: Body<'_>) {
        let mut state = link.state();
        match state.address {
            Some(address) => self.write(link, &mut state, address, body),
            None => self.unsent(),
        }
    }

    fn write(&mut self, link: &Link, state: &mut LinkState, address: SocketAddr, body: Body<'_>) {
        let now = self.packets.clock.now();
        let Some(sealing) = state.sealing(now) else { return self.unsent() };
        if sealing.write(body, &mut self.buffer).is_err() {
            return self.unsent();
        }
        state.count.sent += 1;
        state.count.sent_bytes += self.buffer.len() as u64;
        let socket: &UdpSocket = &self.packets.sockets[link.socket];
        // Behind those that wait, or the order would change.
        let is_behind = self.waiting.iter().any(|(other, ..)| *other == link.socket);
        let sent = match is_behind {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => socket.try_send_to(&self.buffer, address),
        };
        match sent {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.waiting.push((link.socket, address, self.buffer.split()));
            }
            Err(_) => self.unsent(),
        }
    }

    fn unsent(&self) {
        self.packets.unsent.fetch_add(1, Ordering::Relaxed);
    }
}

impl Outlet for Leaving<'_> {
    fn device(&mut self, packet: &[u8]) {
        if self.packets.device.send(packet).is_err() {
            self.unsent();
        }
    }

    fn datagram(&mut self, peer: &Identity, packet: &[u8]) {
        let packets = self.packets;
        let Some(link) = packets.by_identity.get(peer).map(|at| &packets.links[*at]) else {
            return self.unsent();
        };
        let mut state = link.state();
        let Some(address) = state.address else { return self.unsent() };
        let most = if address.is_ipv4() { V4_BYTES_MAX } else { V6_BYTES_MAX };
        match cut(packet, most) {
            Some(Cut::Whole(packet)) => self.write(link, &mut state, address, Body::Whole(packet)),
            Some(Cut::Halves(first, second)) => {
                let number = state.packet;
                state.packet = number.wrapping_add(1);
                let first = Body::First { packet: number, bytes: first };
                let second = Body::Second { packet: number, bytes: second };
                self.write(link, &mut state, address, first);
                self.write(link, &mut state, address, second);
            }
            None => self.unsent(),
        }
    }

    fn nudge(&mut self, peer: &Identity) {
        if let Some(link) = self.packets.by_identity.get(peer) {
            self.packets.links[*link].nudge();
        }
    }
}
