//! What is kept back for a VM that is leaving, until its release elsewhere is confirmed.

use std::collections::BTreeMap;

use bytes::Bytes;
use placement::{Epoch, Identity};

use super::inner::Transport;
use super::kept::Kept;
use super::message::{TUPLES_MAX, Told};
use super::plan::Tuple;
use crate::protocol::bounds::{CONTROL_FRAME_BYTES_MAX, HOLD_BYTES_MAX};

/// Bytes of packets in one message, each with its length before it: what a control frame holds beside
/// its own fields.
const MESSAGE_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX - 512;
/// Most tuples of one move that are sent after a VM.
const TUPLES_KEPT_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: Identity,
    pub(super) epoch: Epoch,
    queue: u64,
    is_begun: bool,
    leftovers: Sent,
    held: Sent,
    tuples: Vec<Tuple>,
    tuples_sent: usize,
    /// Of each part of leftovers, how many packets it had.
    parts: BTreeMap<u32, u64>,
    has_stopped: bool,
    stopped_sent: bool,
    is_released: bool,
    end_sent: bool,
}

/// A queue, and how much of it was sent.
#[derive(Debug)]
struct Sent {
    kept: Kept,
    next: u64,
}

impl Outgoing {
    pub(super) fn new(to: Identity, epoch: Epoch, queue: u64) -> Outgoing {
        let sent = || Sent { kept: Kept::new(HOLD_BYTES_MAX), next: 0 };
        Outgoing {
            to,
            epoch,
            queue,
            is_begun: false,
            leftovers: sent(),
            held: sent(),
            tuples: Vec::new(),
            tuples_sent: 0,
            parts: BTreeMap::new(),
            has_stopped: false,
            stopped_sent: false,
            is_released: false,
            end_sent: false,
        }
    }

    /// The VM's release elsewhere was confirmed: what comes from now on goes by datagram. What is kept
    /// is kept until the other end has said that all of it has come.
    pub(super) fn released(&mut self) {
        self.is_released = true;
    }

    pub(super) fn is_released(&self) -> bool {
        self.is_released
    }

    pub(super) fn bytes(&self) -> usize {
        self.leftovers.kept.bytes() + self.held.kept.bytes()
    }

    /// Keeps a packet; gives whether it is kept, and how many had to go.
    pub(super) fn hold(&mut self, packet: &[u8], transport: Transport) -> (bool, u64) {
        self.held.kept.push(Bytes::copy_from_slice(packet), transport)
    }

    /// Takes one part of what was left in the port: how many packets of it were taken now, and how
    /// many had to go. A part that has come is not taken again.
    pub(super) fn leftovers(
        &mut self,
        part: u32,
        packets: Vec<(Bytes, Transport)>,
        tuples: Vec<Tuple>,
        is_last: bool,
    ) -> (u64, u64) {
        if self.parts.contains_key(&part) {
            return (0, 0);
        }
        let count = packets.len() as u64;
        self.parts.insert(part, count);
        self.has_stopped |= is_last;
        let room = TUPLES_KEPT_MAX.saturating_sub(self.tuples.len());
        self.tuples.extend(tuples.into_iter().take(room));
        let mut dropped = 0;
        for (bytes, transport) in packets {
            dropped += self.leftovers.kept.push(bytes, transport).1;
        }
        (count, dropped)
    }

    /// How many packets a part had that was taken.
    pub(super) fn part(&self, part: u32) -> Option<u64> {
        self.parts.get(&part).copied()
    }

    /// The next to send; none until more comes.
    pub(super) fn next(&mut self) -> Option<Told> {
        if !std::mem::replace(&mut self.is_begun, true) {
            return Some(Told::Begin { queue: self.queue });
        }
        if self.tuples_sent < self.tuples.len() {
            let from = self.tuples_sent;
            let to = self.tuples.len().min(from + TUPLES_MAX);
            self.tuples_sent = to;
            return Some(Told::Tuples(self.tuples[from..to].to_vec()));
        }
        if let Some((first, packets)) = self.leftovers.batch() {
            return Some(Told::Leftovers { first, packets });
        }
        if self.has_stopped && !std::mem::replace(&mut self.stopped_sent, true) {
            return Some(Told::Stopped);
        }
        if let Some((first, packets)) = self.held.batch() {
            return Some(Told::Held { first, packets });
        }
        let is_end = self.is_released && !self.end_sent;
        self.end_sent |= is_end;
        is_end.then_some(Told::End)
    }

    /// The other end has forgotten what it was sent.
    pub(super) fn again(&mut self) {
        (self.is_begun, self.stopped_sent, self.end_sent) = (false, false, false);
        self.leftovers.next = 0;
        self.held.next = 0;
        self.tuples_sent = 0;
    }

    /// Gives everything back, in order; the VM stays here.
    pub(super) fn into_packets(mut self) -> impl Iterator<Item = Bytes> {
        std::iter::from_fn(move || self.leftovers.kept.pop().or_else(|| self.held.kept.pop()))
    }
}

impl Sent {
    /// What follows on what was sent, without a gap, as much as one message holds.
    fn batch(&mut self) -> Option<(u64, Vec<Bytes>)> {
        let (mut bytes, mut packets) = (0, Vec::new());
        let mut first = None;
        for entry in self.kept.from(self.next) {
            let follows = first.is_none_or(|first| entry.index == first + packets.len() as u64);
            bytes += entry.bytes.len() + 2;
            if !follows || (bytes > MESSAGE_BYTES_MAX && !packets.is_empty()) {
                break;
            }
            first.get_or_insert(entry.index);
            packets.push(entry.bytes.clone());
        }
        let first = first?;
        self.next = first + packets.len() as u64;
        Some((first, packets))
    }
}
