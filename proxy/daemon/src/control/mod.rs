//! The control server: HTTP/1.1 over mutual TLS, answered from a table.
//!
//! The life of a call: accept -> handshake (no certificate of our CA with an identity in it: ended
//! there) -> head -> route -> role -> body -> handler -> reply. Each step has a bound, and each
//! refusal says in JSON what was wrong and what to do.
//!
//! A route's roles stand beside it in the table; who may call what can be read off one list. What
//! depends on more than the role (the one agent that a claim names) is the handler's, which gets
//! the caller's identity.

mod bounds;
mod call;
mod reply;
mod route;
mod server;

pub use bounds::Bounds;
pub use hyper::{Method, StatusCode};
pub use reply::{Answer, Refusal, Reply};
pub use route::{Lines, QueryValue, Request, Route, RouteTable, TableError, VIEWER_AND_UP};
pub use server::{BindError, Server};

#[cfg(test)]
mod tests;
