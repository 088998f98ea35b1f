//! The guest of the lab, and the clients that watch it.
//!
//! Causeway promises that a moving VM's connections lose nothing. This package is how tests know: one
//! small static program, `causeway-guest`, that runs inside the VM, beside it as a neighbour, and
//! among its clients. Both ends of every connection check every byte ([`traffic`]), and keep a
//! log that the other end's log can be held against.

pub mod boot;
pub mod clients;
mod clock;
pub mod control;
mod dial;
pub mod dirty;
pub mod ending;
pub mod flows;
pub mod kernel;
pub mod log;
mod random;
pub mod records;
pub mod resolver;
pub mod server;
pub mod service;
pub mod settings;
mod slots;
mod socket;
pub mod traffic;
