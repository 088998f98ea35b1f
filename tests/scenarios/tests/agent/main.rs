//! `causeway agent`, asked directly: what it refuses, and a real VM that it boots, copies, gives up,
//! moves and forgets, order by order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod asking;
mod crew;
mod hold;
mod model_proxy;
mod refusals;
mod tunnel;
mod whole_move;
