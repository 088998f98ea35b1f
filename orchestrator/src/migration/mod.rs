//! The move of a VM: [`workflow`] tells it from beginning to end, and each of its steps is a room in
//! [`steps`] with what it does, how one sees that it was done, and how it is undone.
//!
//! The rooms talk to the [`parties`] of the move, through [`ends`]; [`plan`] is what a move would be
//! like, found out without touching anything.

mod ends;
pub mod home;
pub mod name_servers;
pub mod parties;
pub mod plan;
mod plan_names;
pub mod reclaim;
mod steps;
pub mod workflow;

pub use name_servers::{NameOrder, NameServerPort};
pub use parties::{Dialled, Parties, ProxyPort};
pub use plan::{Surveyed, survey};
pub use workflow::MoveVm;
