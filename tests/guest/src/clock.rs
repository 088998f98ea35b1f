//! The wall clock, for logs that are read beside other machines' logs.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of the Unix epoch.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    unix_us() / 1000
}

/// Microseconds of the Unix epoch.
#[must_use]
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
