//! The name server, asked by `dig` as any resolver would ask it, and told by an orchestrator where
//! VMs run: what it answers, what it refuses, what it remembers, and that it never answers with
//! what an order has ended.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod answers;
mod bounds;
mod network;
mod orders;
mod server;
