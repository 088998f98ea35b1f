//! `causeway agent`, asked directly: what it refuses, and a real VM that it boots, copies, gives up,
//! moves and forgets, order by order; and moved by the service, as its operator types.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod aborts;
mod asking;
mod crew;
mod cuts;
mod deaths;
mod ground;
mod hold;
mod kept;
mod kernels;
mod kills;
mod lookout;
mod many;
mod model_proxy;
mod moves;
mod names;
mod neighbour;
mod placed;
mod refusals;
mod service;
mod third_site;
mod tunnel;
mod users;
mod whole_move;
mod wire;
