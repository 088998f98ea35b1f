//! The proxy's layer 3: its leg in a namespace of ours, and the ways of VMs that move, with real
//! proxies and the tunnel between them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod calls;
mod home;
mod leg;
mod moves;
mod proxies;
mod rig;
