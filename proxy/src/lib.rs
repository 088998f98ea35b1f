//! `causeway-proxy`: this site's connection-aware proxy, and its end of the tunnel.
//!
//! So far it has what every daemon has, and nothing to carry yet. In the order in which a start
//! goes through them:
//!
//! 1. [`config`]: the file, written and checked; [`check`] tells what was understood and stops there;
//! 2. [`running`]: the snapshot that the proxy runs on, and how a reload swaps it whole or not at all;
//! 3. [`control`]: the control API's table, roles beside each route;
//! 4. [`run`]: all of it in order, from the first signal handler to the last connection.
//!
//! The life of a connection (accept, admit, route, flow, dial, relay, account) will be told here,
//! as soon as there is one.

pub mod check;
pub mod config;
pub mod control;
pub mod run;
pub mod running;

/// This program's version, as it is told to operators and peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
