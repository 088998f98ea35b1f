//! Addresses move between sites that share no layer 2, by the code that the proxy and the agent use,
//! with a VM that is a network namespace: seconds a case.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod hand;
mod leg;
mod moves;
mod own_mounts;
mod port;
mod relay;
mod rig;
