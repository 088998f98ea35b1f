//! `causeway-proxy`: this site's connection-aware proxy, and its end of the tunnel.
//!
//! # The life of a connection
//!
//! One file to a station, in this order:
//!
//! 1. [`accept`]: a client arrives at a VIP, where each worker listens with a socket of its own;
//! 2. [`admit`]: may it have a flow? Drains and limits say no, with a RST and a count;
//! 3. [`route`]: which backend, in turn among those that are up and of the VIP's family;
//! 4. [`flow`]: from here on it has an id for ever, a life in states, and owes bytes or does not;
//! 5. [`dial`]: a connection to the backend, or to the next one;
//! 6. [`relay`]: bytes both ways, ends behind bytes, RST as RST, bounded memory;
//! 7. [`account`]: the access log, the metrics, the history.
//!
//! [`datagram`] leads a UDP session through the same stations. [`worker`] is where all of this
//! happens: a thread for each core, which shares nothing with the others while bytes pass;
//! [`watch`] looks after its flows, [`pinned`] keeps those that a move has listed. [`health`] knows which backends are up, [`held`] which
//! VMs cannot answer just now. [`traffic`] is all
//! workers together, for those who want something of the flows.
//!
//! # The life of the proxy
//!
//! 1. [`config`]: the file, written and checked; [`check`] tells what was understood and stops there;
//! 2. [`running`]: the snapshot that the proxy runs on, and how a reload swaps it whole or not at
//!    all, the services in [`service`] and the sockets in [`listen`] included;
//! 3. [`leg`]: the interface on the application subnet, where backends and VMs are, and [`tun`]
//!    beside it;
//! 4. [`inter_site`]: this site's end of the tunnel, whose channels are granted move by move;
//!    [`epochs`], by which it knows old moves from new ones; [`vms`], what is told of those that
//!    move, and what stands for them;
//! 5. [`control`]: the control API's table, roles beside each route;
//! 6. [`run`]: all of it in order, from the first signal handler to the last connection.

pub mod accept;
pub mod account;
pub mod admit;
pub mod check;
pub mod config;
pub mod control;
pub mod datagram;
pub mod dial;
pub mod epochs;
pub mod flow;
pub mod health;
pub mod held;
pub mod inter_site;
mod kernel;
pub mod leg;
pub mod listen;
mod measures;
pub mod pinned;
pub mod relay;
pub mod route;
pub mod run;
pub mod running;
pub mod service;
mod shared;
pub mod traffic;
pub mod tun;
pub mod vms;
pub mod watch;
pub mod worker;

/// This program's version, as it is told to operators and peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
