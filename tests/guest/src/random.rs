//! Randomness for tokens and nonces, from the kernel.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::traffic::Token;

/// A token that no other connection has.
///
/// # Errors
/// The kernel gives no randomness.
pub(crate) fn token() -> io::Result<Token> {
    Ok(Token(bytes()?))
}

/// `N` random bytes; up to 256 come at once or not at all.
///
/// # Errors
/// The kernel gives no randomness.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    if filled == N { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
