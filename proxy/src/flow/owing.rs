//! Since when a flow owes bytes to a peer, and how long the longest such time was: the ledger's
//! stall. Pure; the worker's watch asks the kernel and brings the figures.
//!
//! Bytes are owed from the moment they are taken until the receiver has acknowledged them. The
//! time begins anew with each acknowledgement, so that a slow transfer is no stall and a silence is.

use std::time::{Duration, Instant};

/// One way of a flow, as its receiver's connection shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bytes that are owed now: held by us, or sent and not acknowledged.
    pub owed: u64,
    /// Counts what the receiver has acknowledged; grows with each acknowledgement of something new.
    pub acknowledged: u64,
    /// How long ago the last acknowledgement came.
    pub last_ack_ago: Duration,
}

/// What is known about one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owing {
    since: Option<Instant>,
    acknowledged: u64,
    owed: u64,
    longest: Duration,
    listed: Option<Listed>,
}

/// What counts since a move has listed the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed {
    at: Instant,
    longest: Duration,
}

impl Owing {
    /// From now on, times that reach beyond this moment count by themselves too.
    pub fn list(&mut self, now: Instant) {
        self.listed = Some(Listed { at: now, longest: Duration::ZERO });
    }

    /// Longest of those times so far, a present one included.
    #[must_use]
    pub fn longest_since_listing(self, now: Instant) -> Duration {
        let Some(listed) = self.listed else { return Duration::ZERO };
        let present =
            self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        listed.longest.max(present)
    }

    /// Bytes were taken for the receiver.
    pub fn taken(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The watch has looked; true if something is still owed.
    pub fn looked(&mut self, look: Look, now: Instant) -> bool {
        self.owed = look.owed;
        let Some(since) = self.since else { return false };
        if look.acknowledged > self.acknowledged {
            self.acknowledged = look.acknowledged;
            // Between two looks only the last acknowledgement shows: a stall is over by then.
            let at = now.checked_sub(look.last_ack_ago).unwrap_or(since).max(since);
            self.lasted(since, at);
            self.since = Some(at);
        }
        if look.owed == 0 {
            self.since = None;
        }
        self.since.is_some()
    }

    /// The flow is over: what is owed now will be owed no longer.
    pub fn closed(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.lasted(since, now);
        }
    }

    fn lasted(&mut self, since: Instant, until: Instant) {
        let time = until.saturating_duration_since(since);
        self.longest = self.longest.max(time);
        if let Some(listed) = &mut self.listed
            && until > listed.at
        {
            listed.longest = listed.longest.max(time);
        }
    }

    /// Since when bytes are owed without an acknowledgement.
    #[must_use]
    pub fn since(self) -> Option<Instant> {
        self.since
    }

    /// Bytes that were owed when the watch last looked.
    #[must_use]
    pub fn owed(self) -> u64 {
        self.owed
    }

    /// Longest time so far, a present one included.
    #[must_use]
    pub fn longest(self, now: Instant) -> Duration {
        let present =
            self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.longest.max(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn look(owed: u64, acknowledged: u64, last_ack_ago: Duration) -> Look {
        Look { owed, acknowledged, last_ack_ago }
    }

    #[test]
    fn a_stall_lasts_from_the_taking_to_the_acknowledgement() {
        let start = Instant::now();
        let mut owing = Owing::default();
        owing.taken(start);
        assert!(owing.looked(look(10, 1, 90 * MS), start + 50 * MS), "an older ack is none of it");
        // The ack came 20 ms before the look.
        assert!(!owing.looked(look(0, 11, 20 * MS), start + 100 * MS));
        assert_eq!(owing.longest(start + 500 * MS), 80 * MS);
        assert_eq!(owing.since(), None);
    }

    #[test]
    fn a_slow_transfer_is_no_stall_and_a_present_one_counts() {
        let start = Instant::now();
        let mut owing = Owing::default();
        owing.taken(start);
        for step in 1..10_u32 {
            assert!(owing.looked(look(5, step.into(), Duration::ZERO), start + step * 50 * MS));
        }
        assert_eq!(owing.longest(start + 450 * MS), 50 * MS);
        assert_eq!(owing.longest(start + 750 * MS), 300 * MS);
        owing.closed(start + 750 * MS);
        assert_eq!(owing.longest(start + 9_000 * MS), 300 * MS);
    }

    #[test]
    fn times_that_were_over_before_the_listing_do_not_count_since_then() {
        let start = Instant::now();
        let mut owing = Owing::default();
        owing.taken(start);
        assert!(owing.looked(look(5, 1, Duration::ZERO), start + 90 * MS));
        owing.list(start + 100 * MS);
        assert_eq!(owing.longest_since_listing(start + 110 * MS), 20 * MS);
        // It had begun 10 ms before, and lasted 60.
        assert!(!owing.looked(look(0, 2, Duration::ZERO), start + 150 * MS));
        assert_eq!(owing.longest_since_listing(start + 900 * MS), 60 * MS);
        assert_eq!(owing.longest(start + 900 * MS), 90 * MS);
        // An acknowledgement of before the listing, seen after it.
        let mut owing = Owing::default();
        owing.taken(start);
        owing.list(start + 100 * MS);
        assert!(!owing.looked(look(0, 1, 70 * MS), start + 150 * MS));
        assert_eq!(owing.longest_since_listing(start + 900 * MS), Duration::ZERO);
    }

    #[test]
    fn an_idle_way_owes_nothing() {
        let start = Instant::now();
        let mut owing = Owing::default();
        assert!(!owing.looked(look(0, 7, Duration::ZERO), start));
        assert_eq!(owing.longest(start + 60_000 * MS), Duration::ZERO);
    }
}
