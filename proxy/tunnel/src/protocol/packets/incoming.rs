//! What was sent ahead for a VM that comes here, until it runs; and what comes by datagram until all
//! that was sent ahead has come.

use bytes::Bytes;
use placement::{Epoch, Identity};

use super::inner::Transport;
use super::kept::Kept;
use crate::protocol::Moment;
use crate::protocol::bounds::{DATAGRAMS_WAITING_BYTES_MAX, HOLD_BYTES_MAX, LEFTOVERS_MS_MAX};

#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) from: Identity,
    pub(super) epoch: Epoch,
    /// The sender's queue that the two numbers below are of.
    queue: Option<u64>,
    next_leftover: u64,
    next_held: u64,
    leftovers: Kept,
    held: Kept,
    datagrams: Kept,
    /// Nothing more was left in the port that the VM came from.
    has_all_leftovers: bool,
    stage: Stage,
}

/// What becomes of what is sent ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The VM does not run here.
    Waits,
    /// It does, and what was left in its port has not all come: until then it would be overtaken.
    Released { until: Moment },
    /// It is the VM's as it comes.
    Flows,
}

/// Of which of the two queues a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Leftover,
    Held,
}

impl Incoming {
    pub(super) fn new(from: Identity, epoch: Epoch) -> Incoming {
        Incoming {
            from,
            epoch,
            queue: None,
            next_leftover: 0,
            next_held: 0,
            leftovers: Kept::new(HOLD_BYTES_MAX),
            held: Kept::new(HOLD_BYTES_MAX),
            datagrams: Kept::new(DATAGRAMS_WAITING_BYTES_MAX),
            has_all_leftovers: false,
            stage: Stage::Waits,
        }
    }

    /// The sender begins, or begins again.
    pub(super) fn begin(&mut self, queue: u64) {
        if self.queue != Some(queue) {
            (self.queue, self.next_leftover, self.next_held) = (Some(queue), 0, 0);
        }
    }

    /// Whether a packet is new; it is not the next time.
    pub(super) fn is_new(&mut self, ahead: Ahead, index: u64) -> bool {
        let next = match ahead {
            Ahead::Leftover => &mut self.next_leftover,
            Ahead::Held => &mut self.next_held,
        };
        let is_new = self.queue.is_some() && index >= *next;
        if is_new {
            *next = index + 1;
        }
        is_new
    }

    /// Keeps what was sent ahead; gives whether it is kept, and how many had to go.
    pub(super) fn keep(
        &mut self,
        ahead: Ahead,
        packet: Bytes,
        transport: Transport,
    ) -> (bool, u64) {
        match ahead {
            Ahead::Leftover => self.leftovers.push(packet, transport),
            Ahead::Held => self.held.push(packet, transport),
        }
    }

    /// Keeps a datagram's packet; gives how many had to go.
    pub(super) fn wait(&mut self, packet: &[u8], transport: Transport) -> u64 {
        self.datagrams.push(Bytes::copy_from_slice(packet), transport).1
    }

    pub(super) fn is_released(&self) -> bool {
        self.stage != Stage::Waits
    }

    /// Whether what comes may be given to the VM as it comes.
    pub(super) fn flows(&self) -> bool {
        self.stage == Stage::Flows
    }

    /// The VM runs here.
    pub(super) fn release(&mut self, now: Moment) {
        if self.stage == Stage::Waits {
            self.stage = Stage::Released { until: now.after_ms(LEFTOVERS_MS_MAX) };
        }
    }

    pub(super) fn has_all_leftovers(&mut self) {
        self.has_all_leftovers = true;
    }

    /// Until when leftovers are waited for.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.stage {
            Stage::Released { until } => Some(until),
            _ => None,
        }
    }

    /// Whether what was sent ahead is the VM's from this moment on; said once.
    pub(super) fn begins_to_flow(&mut self, now: Moment) -> bool {
        let Stage::Released { until } = self.stage else { return false };
        let begins = self.has_all_leftovers || until <= now;
        if begins {
            self.stage = Stage::Flows;
        }
        begins
    }

    /// The next that was sent ahead.
    pub(super) fn pop_ahead(&mut self) -> Option<Bytes> {
        self.leftovers.pop().or_else(|| self.held.pop())
    }

    pub(super) fn bytes(&self) -> usize {
        self.leftovers.bytes() + self.held.bytes() + self.datagrams.bytes()
    }

    pub(super) fn len(&self) -> u64 {
        (self.leftovers.len() + self.held.len() + self.datagrams.len()) as u64
    }

    /// The sender's end of the stream: what came by datagram follows.
    pub(super) fn end(mut self) -> impl Iterator<Item = Bytes> {
        std::iter::from_fn(move || self.datagrams.pop())
    }

    /// What was sent ahead is void.
    pub(super) fn drop_all(&mut self) -> u64 {
        let count = self.len();
        for kept in [&mut self.leftovers, &mut self.held, &mut self.datagrams] {
            while kept.pop().is_some() {}
        }
        count
    }
}
