//! The proxy's data path, between the lab's clients and backends: what is carried, how it ends, what
//! is refused, what an operator can do, and that all of it is told as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod asking;
mod draining;
mod endings;
mod health;
mod limits;
mod memory;
mod reload;
mod shutdown;
mod thousand;
mod timeouts;
