//! Time, as the service gives it to the moves that it drives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saga::journal::Pending;
use saga::{Clock, Wait};
use tokio::time::sleep;

/// The machine's clock, and the runtime's sleep.
#[derive(Debug)]
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn unix_ms(&self) -> u64 {
        unix_ms()
    }

    fn wait(&self, wait: Wait) -> Pending<'_, ()> {
        Box::pin(sleep(wait.backoff()))
    }
}

/// Milliseconds since 1970; nothing is decided by them.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
