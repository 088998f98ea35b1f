//! Who runs where, since which epoch, and who may change it.
//!
//! Everything here is pure: facts and orders in, decisions out. Agents, proxies and name servers
//! act on these decisions; tests and the model step the same code.
//!
//! - [`names`], [`identity`]: what things and parts are called.
//! - [`epoch`]: what orders the moves of a VM.
//! - [`seat`]: what one agent remembers of a VM, and whether it may run there.
//! - [`order`]: what an agent may be asked, and what it answers.
//! - [`rules`]: what it does then.
//! - [`watermark`]: what proxies and name servers remember.

pub mod epoch;
pub mod identity;
pub mod names;
pub mod order;
pub mod rules;
pub mod seat;
pub mod watermark;

pub use epoch::{Authority, Epoch, Owner, Release};
pub use identity::{Identity, IdentityError, Role};
pub use names::{NameError, PartName, SiteName, VmName};
pub use order::{
    Answer, Command, Denied, Effect, Evidence, Facts, Order, Plan, Process, ProcessState, Speaker,
    Step,
};
pub use seat::{End, Incarnation, Pair, Record, Seat};
pub use watermark::{Stale, Watermark};
