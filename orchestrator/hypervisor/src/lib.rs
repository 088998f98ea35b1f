//! The port of hypervisors: what a move asks of the host that a VM runs on, and of the one that it
//! is to run on.
//!
//! ```text
//!   workflow ── Hypervisor ──┬── qemu   the API of `causeway agent`, over a stream that is dialled
//!                            └── model  agents in memory, with the rules of the real ones
//! ```
//!
//! A driver carries orders and answers, and says truly how a call ended: [`CallTrouble`] tells what
//! had no effect from what may have had one. It decides nothing about a move, remembers nothing of
//! it, and tries nothing by itself but the same call again with the same key.

mod dial;
mod line;
#[cfg(feature = "model")]
pub mod model;
mod port;
pub mod qemu;
mod trouble;

pub use dial::Dial;
pub use line::{Call, Client, DIAL_MAX, Line};
pub use port::{Hypervisor, Promise};
pub use qemu::QemuAgent;
pub use trouble::{CallTrouble, Code};
