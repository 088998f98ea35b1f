//! Each rule of fencing by itself: what it lets through, and what it stops.
#![allow(clippy::unwrap_used, reason = "tests")]

mod agent;
mod alone;
mod claim;
mod source;
mod target;
