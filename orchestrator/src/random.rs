//! Bytes that nobody else draws: names of incarnations and of calls.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// So many of them.
///
/// # Errors
/// The system has none.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}
