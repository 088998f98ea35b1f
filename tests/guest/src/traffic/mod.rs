//! The checked traffic: what guest and clients say to each other, and how each knows that not one
//! byte of it went astray.
//!
//! A TCP connection begins with the server's [`hello`], which carries a random [`Token`] that lives
//! in the server's memory alone: a connection that something in between opened anew has another one.
//! Then both ends send [`frame`]s, numbered, with a checksummed header and a payload that is a
//! function of (token, direction, offset) ([`content`]), so that a lost, repeated, moved or altered
//! byte is found and its place is named ([`fault`]). [`stream`] makes and checks such streams piece
//! by piece, as sockets hand them out. UDP has numbered [`datagram`]s, counted per [`session`].
//!
//! All of it is pure: no socket, no clock, no randomness.

pub mod content;
pub mod datagram;
pub mod fault;
pub mod frame;
pub mod hello;
pub mod session;
pub mod stream;
pub mod token;

pub use fault::{Fault, Where};
pub use token::Token;

/// Which way bytes travel; the two directions of a connection carry different content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}
