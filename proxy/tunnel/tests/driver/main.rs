//! Two real tunnel ends over loopback, with real TLS and real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "tests; shares of byte counts need no more than 52 bits"
)]

mod admission;
mod data;
mod outage;
mod packets;
mod pki;
mod sharing;
mod sites;
mod three;
mod wan;
