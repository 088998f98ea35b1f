//! VMs' packets in virtual time: two or three proxies' ways, a stream between each pair that is
//! reliable and slow, and datagrams that are lost. The seed of a run is printed with what fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod admission;
mod moves;
mod packet;
mod world;
