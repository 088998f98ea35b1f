//! The guest of the lab, and the clients that watch it.
//!
//! Causeway promises that a moving VM's connections lose nothing. This package is how tests know: one
//! small static program, `causeway-guest`, that runs inside the VM, beside it as a neighbour, and
//! among its clients. Both ends of every connection check every byte ([`traffic`]), and keep a
//! log that the other end's log can be held against.

pub mod traffic;
