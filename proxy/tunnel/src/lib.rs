//! This site's end of the tunnel.
//!
//! The way of a channel's bytes: a hypervisor connects to a unix socket that stands for a *grant*;
//! the far end checks the grant and its own permits, and dials; from then on the two connections
//! are one *stream*, which is cut into chunks, compressed where that gains, and carried over mutual
//! TLS. When the WAN fails, streams wait, and go on where they were.
//!
//! - [`protocol`]: all decisions; pure.
//! - [`driver`]: sockets, TLS and time around it.

pub mod driver;
pub mod protocol;
