//! What a daemon is before it has a job.
//!
//! `causeway-proxy`, `causeway-gslb`, `causeway agent` and `causeway serve` all begin the same way,
//! in this order:
//!
//! 1. [`program`] turns arguments into what is to be done, and what became of it into an exit code;
//! 1. [`config`] reads one file, names every problem in it with line and column, and yields a value
//!    that cannot represent nonsense;
//! 2. [`telemetry`] starts the log on stderr and the metrics that nobody serves but ourselves;
//! 3. [`identity`] loads certificate, key and CA, and turns them into TLS configurations that admit
//!    identities, never just anything that our CA signed;
//! 4. [`control`] answers HTTP over mutual TLS from a table in which the roles stand beside each
//!    route;
//! 5. [`shutdown`] turns signals into an orderly stop with a bound, or a reload.
//!
//! [`loaded`] is what the first steps yield, and [`life`] goes through the others.
//! [`state`] is what a daemon must remember over all of that: one small file each.
//!
//! Nothing here knows what a proxy, a name server or a VM is.

pub mod config;
pub mod control;
pub mod identity;
pub mod life;
pub mod loaded;
pub mod program;
pub mod shutdown;
pub mod state;
pub mod telemetry;

use std::time::{Duration, SystemTime};

/// A time as seconds since 1970.
#[must_use]
pub fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// An error and its causes in one line, for a log or a caller.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
