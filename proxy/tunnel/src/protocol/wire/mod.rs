//! Bytes on the wire. Every decoder takes bytes of any kind, and checks a length against its bound
//! before it waits for, or allocates, as much.
//!
//! A connection begins with one [`Hello`] from its caller and one [`Answer`]; after that both ends
//! send [`Frame`]s. Everything is enveloped the same way: a length of four bytes, then a body.

pub(super) mod fields;
mod frame;
mod greeting;
mod message;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};

pub use frame::{Coding, Frame, Resume, StreamId};
pub use greeting::{Answer, Greeted, Hello, Incarnation, Lane, Offer, Welcome, take_hello};
pub use message::Message;

/// Bytes that follow no rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than its place allows, or of no length.
    #[error("a frame of {length} bytes, where 1 to {most} are allowed")]
    Length {
        /// What it claims.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// Ends before its fields do.
    #[error("a frame ends before its fields")]
    Short,
    /// Goes on after its fields.
    #[error("a frame goes on after its fields")]
    Long,
    /// A kind, code or value that does not exist.
    #[error("{what} {value} does not exist")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A text that is no name, or not printable.
    #[error("a {0} that is none")]
    Text(&'static str),
    /// The first bytes are none of this protocol's.
    #[error("a greeting of another protocol")]
    Foreign,
}

impl From<bytes::TryGetError> for WireError {
    fn from(_: bytes::TryGetError) -> WireError {
        WireError::Short
    }
}

/// Takes one body of at most `most` bytes from the front of `buffer`, once all of it is there.
pub(super) fn take_body(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, WireError> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > most {
        return Err(WireError::Length { length, most });
    }
    let whole = 4 + length;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// An envelope around `body`, whose length the caller has bounded.
fn enveloped(body: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::with_capacity(64);
    out.extend_from_slice(&[0; 4]);
    body(&mut out);
    let length = u32::try_from(out.len() - 4).expect("bodies are below 4 GB");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn nothing_left(body: &Bytes) -> Result<(), WireError> {
    if body.is_empty() { Ok(()) } else { Err(WireError::Long) }
}
