//! One direction of one pair of ports, in virtual time.
//!
//! ```text
//! offer -> [cut?] -> [queue full?] -> waiting -> bottleneck -> [lost?] -> line -> take_due
//! ```
//!
//! What is stated here is tested here:
//! - A packet is due when its last bit has left the bottleneck and has travelled delay and jitter.
//!   Sending times are exact: what a division leaves over is carried to the next packet.
//! - Packets are never reordered, neither by jitter nor by a change of settings: one that would
//!   overtake arrives together with the one before it. (So jitter delays by somewhat more than half
//!   of its bound on average where packets follow each other closely.)
//! - A change of settings holds for what has not begun to leave the bottleneck; what is on the line
//!   keeps the time that it has. The queue's limit and the loss hold for what is offered from then
//!   on.
//! - The k-th packet offered has the k-th pair of draws of the seed, whatever became of the others.
//! - A lost packet is lost behind the bottleneck: it takes its share of rate and queue.
//! - A cut takes all that is under way, waiting or on the line, as a cut fibre would (what was due by
//!   then has arrived). While it lasts all that is offered is discarded, and nobody is told. After
//!   the heal the link is empty and idle.

use std::collections::VecDeque;

use crate::counters::{Delivery, Tally};
use crate::random::{Draws, below};
use crate::settings::{LOSS_PPM_ALL, Settings};

/// How many packets one link holds at most, waiting and on the line: 1 Gbit/s of 1500-byte packets
/// for 0.78 s. It bounds memory; what comes beyond it is counted apart.
pub const PACKETS_HELD_MAX: usize = 65_536;

const NS_PER_S: u64 = 1_000_000_000;

/// Why a packet was discarded on the spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// By chance, as the settings ask.
    Lost,
    /// The bottleneck's queue was full.
    Dropped,
    /// The link was cut.
    Cut,
    /// The emulator's own limit was reached.
    Overflowed,
}

/// A packet that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due<P> {
    /// When it was due.
    pub due_ns: u64,
    /// Its bytes as counted.
    pub bytes: u32,
    /// The packet.
    pub payload: P,
}

/// One direction of a link; `P` is the packet, which it never looks into.
///
/// The times given to one link must not go back.
#[derive(Debug)]
pub struct Link<P> {
    settings: Settings,
    draws: Draws,
    is_cut: bool,
    waiting: VecDeque<Waiting<P>>,
    waiting_bytes: u64,
    sent: SentUntil,
    line: VecDeque<Due<P>>,
    due_ns_last: u64,
    delivery: Delivery,
}

/// A packet before the bottleneck; its payload is gone already if it will be lost behind it.
#[derive(Debug)]
struct Waiting<P> {
    offered_ns: u64,
    bytes: u32,
    jitter_draw: u64,
    payload: Option<P>,
}

/// When the bottleneck has sent all that it began: whole nanoseconds, and `carry / rate` of one.
#[derive(Debug, Clone, Copy, Default)]
struct SentUntil {
    ns: u64,
    carry: u64,
}

impl SentUntil {
    fn rounded_up_ns(self) -> u64 {
        self.ns + u64::from(self.carry > 0)
    }
}

impl<P> Link<P> {
    /// An idle link that was never used.
    #[must_use]
    pub fn new(settings: Settings, draws: Draws) -> Self {
        Self {
            settings,
            draws,
            is_cut: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: SentUntil::default(),
            line: VecDeque::new(),
            due_ns_last: 0,
            delivery: Delivery::default(),
        }
    }

    /// Takes a packet in, or says why not and gives it back.
    pub fn offer(&mut self, now_ns: u64, bytes: u32, payload: P) -> Result<(), (Discarded, P)> {
        self.advance(now_ns);
        self.delivery.offered.add(bytes);
        let (loss_draw, jitter_draw) = (self.draws.next_bits(), self.draws.next_bits());
        if let Some((why, tally)) = self.obstacle(now_ns, bytes) {
            tally.add(bytes);
            return Err((why, payload));
        }
        let is_lost = below(loss_draw, LOSS_PPM_ALL.into()) < self.settings.loss_ppm().into();
        let (kept, given_back) =
            if is_lost { (None, Some(payload)) } else { (Some(payload), None) };
        let tally = if is_lost { &mut self.delivery.lost } else { &mut self.delivery.held };
        tally.add(bytes);
        self.waiting_bytes += u64::from(bytes);
        self.waiting.push_back(Waiting { offered_ns: now_ns, bytes, jitter_draw, payload: kept });
        self.advance(now_ns);
        given_back.map_or(Ok(()), |payload| Err((Discarded::Lost, payload)))
    }

    /// When to call [`Self::take_due`] next; none while there is nothing to wait for. It is never
    /// later than the next packet is due, but may be earlier.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        let first_on_line = self.line.front().map(|due| due.due_ns);
        // What still waits has no due time yet; nothing of it can be due before it is sent.
        let first_sent =
            self.waiting.front().map(|first| first.offered_ns.max(self.sent.rounded_up_ns()));
        first_on_line.or(first_sent)
    }

    /// The next packet that is due by now, in the order of their offers.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Due<P>> {
        self.advance(now_ns);
        if self.line.front()?.due_ns > now_ns {
            return None;
        }
        let due = self.line.pop_front()?;
        self.delivery.held.remove(due.bytes);
        self.delivery.delivered.add(due.bytes);
        Some(due)
    }

    /// Corrects the count of a packet that [`Self::take_due`] gave and that could not be delivered.
    pub fn was_refused(&mut self, bytes: u32) {
        self.delivery.delivered.remove(bytes);
        self.delivery.refused.add(bytes);
    }

    /// New settings from now on.
    pub fn set(&mut self, now_ns: u64, settings: Settings) {
        self.advance(now_ns);
        // The remainder is in parts of the old rate. To round it up keeps sending times from
        // overlapping, and costs less than a nanosecond per change.
        self.sent = SentUntil { ns: self.sent.rounded_up_ns(), carry: 0 };
        self.settings = settings;
        self.advance(now_ns);
    }

    /// Cuts the link.
    pub fn cut(&mut self, now_ns: u64) {
        self.advance(now_ns);
        self.is_cut = true;
        let arrived = self.line.partition_point(|packet| packet.due_ns <= now_ns);
        let on_line = self.line.drain(arrived..).map(|packet| packet.bytes);
        let waiting = self.waiting.drain(..).filter(|packet| packet.payload.is_some());
        for bytes in on_line.chain(waiting.map(|packet| packet.bytes)) {
            self.delivery.held.remove(bytes);
            self.delivery.cut.add(bytes);
        }
        self.waiting_bytes = 0;
        self.sent = SentUntil { ns: now_ns, carry: 0 };
        self.due_ns_last = self.due_ns_last.min(now_ns);
    }

    /// Ends a cut; what is offered from now on passes.
    pub fn heal(&mut self) {
        self.is_cut = false;
    }

    /// Whether it is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn obstacle(&mut self, now_ns: u64, bytes: u32) -> Option<(Discarded, &mut Tally)> {
        let delivery = &mut self.delivery;
        if self.is_cut {
            return Some((Discarded::Cut, &mut delivery.cut));
        }
        let is_busy = !self.waiting.is_empty() || self.sent.rounded_up_ns() > now_ns;
        let queued_bytes = self.waiting_bytes + u64::from(bytes);
        if is_busy && queued_bytes > self.settings.queue_bytes_max() {
            return Some((Discarded::Dropped, &mut delivery.dropped));
        }
        // Counted in entries, not in `held`: a lost packet takes room until it is sent.
        if self.waiting.len() + self.line.len() >= PACKETS_HELD_MAX {
            return Some((Discarded::Overflowed, &mut delivery.overflowed));
        }
        None
    }

    /// Lets every packet whose turn at the bottleneck has come by now leave it for the line.
    fn advance(&mut self, now_ns: u64) {
        while let Some(first) = self.waiting.front() {
            if first.offered_ns.max(self.sent.rounded_up_ns()) > now_ns {
                return;
            }
            let Some(first) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= u64::from(first.bytes);
            self.send(first);
        }
    }

    fn send(&mut self, packet: Waiting<P>) {
        if packet.offered_ns > self.sent.ns {
            self.sent = SentUntil { ns: packet.offered_ns, carry: 0 };
        }
        if let Some(rate) = self.settings.rate_bits_per_s() {
            let parts = u64::from(packet.bytes) * 8 * NS_PER_S + self.sent.carry;
            self.sent = SentUntil { ns: self.sent.ns + parts / rate, carry: parts % rate };
        }
        let Some(payload) = packet.payload else { return };
        let jitter_ns = below(packet.jitter_draw, self.settings.jitter_ns() + 1);
        let arrival_ns = self.sent.rounded_up_ns() + self.settings.delay_ns() + jitter_ns;
        self.due_ns_last = self.due_ns_last.max(arrival_ns);
        self.line.push_back(Due { due_ns: self.due_ns_last, bytes: packet.bytes, payload });
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
