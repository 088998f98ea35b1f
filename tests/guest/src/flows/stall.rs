//! How long bytes were owed.

use std::time::{Duration, Instant};

/// Measures the longest time without progress while something was owed.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
    longest: Duration,
}

impl Stall {
    /// Something is owed from now on, if nothing was.
    pub(super) fn owe(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Something came; `owed` says whether more is to come.
    pub(super) fn progress(&mut self, now: Instant, owed: bool) {
        self.longest = self.longest_until(now);
        self.since = owed.then_some(now);
    }

    /// The longest stall, one that still lasts included.
    pub(super) fn longest_until(&self, now: Instant) -> Duration {
        let current = self.since.map(|since| now.saturating_duration_since(since));
        self.longest.max(current.unwrap_or_default())
    }

    /// The same in microseconds, for a report.
    pub(super) fn longest_us(&self, now: Instant) -> u64 {
        u64::try_from(self.longest_until(now).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_time_owed_without_progress_and_idle_time_is_none() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stall = Stall::default();
        stall.progress(at(0), false);
        stall.owe(at(1000));
        stall.owe(at(1020));
        stall.progress(at(1030), true);
        stall.progress(at(1080), false);
        assert_eq!(stall.longest_until(at(9000)), Duration::from_millis(50));
        stall.owe(at(9000));
        assert_eq!(stall.longest_until(at(9070)), Duration::from_millis(70));
    }
}
