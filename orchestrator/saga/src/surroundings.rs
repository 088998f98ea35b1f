//! What a runner is given from outside: time, patience, and somebody who watches.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::journal::Pending;
use crate::names::{Key, SagaName};
use crate::record::Event;

/// Why the runner waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Something is tried again. `failed` tries have failed, from 1.
    Retry {
        /// How many tries have failed.
        failed: u32,
    },
    /// A step that was told to stop is given this long to end by itself. What becomes of its effect
    /// is then observed.
    Grace,
}

/// Time, from outside: a workflow has no clock of its own.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock, for the journal's reader.
    fn unix_ms(&self) -> u64;

    /// Waits as long as such a wait is to take; see [`Wait::backoff`].
    fn wait(&self, wait: Wait) -> Pending<'_, ()>;
}

/// First wait between two tries.
pub const BACKOFF_MS_FIRST: u64 = 100;

/// Longest wait between two tries.
pub const BACKOFF_MS_MAX: u64 = 5_000;

/// How long a step that was told to stop may take to end by itself.
pub const GRACE_MS: u64 = 10_000;

impl Wait {
    /// How long the wait should take: doubling from [`BACKOFF_MS_FIRST`] to [`BACKOFF_MS_MAX`], or
    /// [`GRACE_MS`]. A clock may add jitter, or take other times.
    #[must_use]
    pub fn backoff(self) -> Duration {
        let ms = match self {
            Self::Grace => GRACE_MS,
            Self::Retry { failed } => {
                let doubled = 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX);
                BACKOFF_MS_FIRST.saturating_mul(doubled).min(BACKOFF_MS_MAX)
            }
        };
        Duration::from_millis(ms)
    }
}

/// How often a runner tries before it turns back, or gives up for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tries of a step before the pivot; then the saga turns back.
    pub tries_before_max: u32,
    /// Tries of each undo, of taking over, and of finding out whether a release was given; then the
    /// runner gives up for now.
    pub tries_undo_max: u32,
    /// Tries of the pivot (then it is asked to refuse), and of a step after it (then the runner
    /// gives up for now).
    pub tries_after_max: u32,
    /// Attempts that an interrupted saga may make; then it ends undone.
    pub attempts_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tries_before_max: 3, tries_undo_max: 8, tries_after_max: 16, attempts_max: 16 }
    }
}

/// Something to be seen of a saga.
#[derive(Debug)]
pub enum Notice<'a> {
    /// An event has become durable.
    Recorded {
        /// Whose.
        saga: &'a SagaName,
        /// In which attempt.
        attempt: u32,
        /// The event.
        event: &'a Event,
    },
    /// A step says how far it is.
    Progress {
        /// Which step.
        key: &'a Key,
        /// In its own words.
        note: Value,
    },
}

/// Sees what happens as it happens. Called in the midst of things: it returns at once, and where it
/// has no room for a notice it drops it, for the journal has all events.
pub trait Watcher: Send + Sync + fmt::Debug {
    /// One thing that happened.
    fn notice(&self, notice: &Notice<'_>);
}

/// A watcher that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watcher for Unwatched {
    fn notice(&self, _: &Notice<'_>) {}
}
