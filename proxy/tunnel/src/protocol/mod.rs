//! The protocol, without clock, socket, thread or randomness: bytes and time in, bytes and events
//! out, so that tests step it in virtual time.
//!
//! - [`channel`], [`permits`], [`grants`]: who may open what, and where it leaves the tunnel.
//! - [`wire`]: how it is written.
//! - [`stream`]: one connection of a program, with offsets, windows, and chunks kept for resending.
//! - [`session`]: one pair of proxies, whose streams outlive its connections.
//! - [`packets`]: VMs' packets: held, released, carried by datagram.
//! - [`bounds`]: how much of everything, and how long.

pub mod bounds;
pub mod channel;
mod chunk;
pub mod grants;
mod log;
mod moment;
pub mod packets;
pub mod permits;
pub mod refusal;
pub mod session;
pub mod stream;
pub mod tally;
pub mod wire;

pub use moment::Moment;
