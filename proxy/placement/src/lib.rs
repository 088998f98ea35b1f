//! Who runs where, since which epoch, and who may change it.
//!
//! Everything here is pure: facts and commands in, decisions out. Agents, proxies and name servers
//! act on these decisions; tests and the model step the same code.

pub mod identity;
pub mod names;

pub use identity::{Identity, IdentityError, Role};
pub use names::{NameError, PartName, SiteName, VmName};
