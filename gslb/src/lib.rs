//! `causeway-gslb`: an authoritative name server that answers with the site that serves a name now.
//!
//! # The life of a query
//!
//! 1. [`listen`]: one datagram, or one message of a bounded number of bounded connections;
//! 2. [`answer`]: what is said to it, a pure function of the question and the view: no I/O, no
//!    clock;
//! 3. [`view`]: all that is known at one moment, behind an arc-swap; whoever answers holds one view
//!    until the answer has left.
//!
//! # The life of an order
//!
//! 1. [`control`]: an orchestrator says that a VM's names live shortly, or that it runs elsewhere;
//! 2. [`steering`]: whether that is newer than what is known, and what follows from it for names,
//!    TTLs and the serial; pure;
//! 3. [`running`]: on the disk, then in a new view, then waited for until no answer of an older
//!    view is under way: only then the caller hears of it.
//!
//! # The life of the name server
//!
//! [`config`] is the file, written and checked; [`check`] tells what was understood and stops there;
//! [`run`] is all of it in order.

pub mod answer;
pub mod check;
pub mod config;
pub mod control;
pub mod listen;
pub mod run;
pub mod running;
pub mod steering;
pub mod view;

/// This program's version, as it is told to operators and callers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
