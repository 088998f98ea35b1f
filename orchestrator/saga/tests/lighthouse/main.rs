//! A toy world that a saga changes: the light of a cape moves from its old tower to a new one, and
//! must never burn in both. Remote parties with durable state; letters to them are lost, late, or
//! delivered twice; the runner is killed anywhere.
//!
//! - [`world`]: the parties and their rules.
//! - [`post`]: letters, and what becomes of them.
//! - [`rooms`], [`workflow`]: the saga.
//! - [`keeper`]: lives through kills until the saga has ended, then looks at the world.
#![allow(clippy::unwrap_used, reason = "tests")]

mod aborted;
mod conflicts;
mod failing;
mod for_real;
mod keeper;
mod killed;
mod post;
mod random;
mod rooms;
mod told;
mod workflow;
mod world;
