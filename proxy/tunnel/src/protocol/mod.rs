//! The protocol, without clock, socket, thread or randomness: bytes and time in, bytes and events
//! out, so that tests step it in virtual time.
//!
//! - [`channel`], [`permits`], [`grants`]: who may open what, and where it leaves the tunnel.
//! - [`wire`]: how it is written.
//! - [`stream`]: one connection of a program, with offsets, windows, and chunks kept for resending.
//! - [`session`]: one pair of proxies, whose streams outlive its connections.
//! - [`bounds`]: how much of everything, and how long.
//!
//! Two doors are open and not yet used: greetings carry feature bits, of which the packets' own path
//! will be one; and numbered messages, which arrive once and in order whatever happens to the
//! control connection, have kinds to spare for packets that are held across a pause.

pub mod bounds;
pub mod channel;
mod chunk;
pub mod grants;
mod log;
mod moment;
pub mod permits;
pub mod refusal;
pub mod session;
pub mod stream;
pub mod tally;
pub mod wire;

pub use moment::Moment;
