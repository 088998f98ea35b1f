//! What can be wrong with a checked stream, and where.

use serde::{Deserialize, Serialize};

use super::Token;

/// A place in one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Where {
    /// Bytes of the TCP stream before it, the server's hello included.
    pub stream_offset: u64,
    /// The number of the frame that holds it.
    pub frame: u64,
    /// Bytes of payload before it.
    pub payload_offset: u64,
}

/// The first thing wrong with a stream. After it nothing of the stream is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A byte of the payload is another one.
    #[error("byte altered at {at:?}: expected {expected:#04x}, found {found:#04x}")]
    Altered {
        /// Where.
        at: Where,
        /// The byte that belongs there.
        expected: u8,
        /// The byte that came.
        found: u8,
    },
    /// Payload of a later place: what lies between is missing.
    #[error("{bytes} bytes lost at {at:?}")]
    Lost {
        /// Where the gap begins.
        at: Where,
        /// Payload bytes missing.
        bytes: u64,
    },
    /// Payload of an earlier place: bytes came again, or out of their order.
    #[error("bytes repeated or out of order at {at:?}: these belong {bytes} bytes before")]
    Repeated {
        /// Where the wrong bytes begin.
        at: Where,
        /// How far back they belong.
        bytes: u64,
    },
    /// A frame's header is none: wrong magic, kind, length or checksum.
    #[error("no frame header at {at:?}")]
    Header {
        /// Where the header should begin.
        at: Where,
    },
    /// A whole header of this connection, but not the one that is due.
    #[error("frame {found} at {at:?} is out of sequence")]
    Sequence {
        /// Where its header begins.
        at: Where,
        /// The number it carries.
        found: u64,
    },
    /// A second hello in the stream: the connection to the server was opened anew in between.
    #[error("re-established at {at:?}: the server now calls it {token}")]
    Reestablished {
        /// Where the hello begins.
        at: Where,
        /// The token of the new connection.
        token: Token,
    },
    /// The first bytes are no hello of the server.
    #[error("the stream does not begin with a hello")]
    NoHello,
    /// The stream ended inside a frame, or before the frame that ends it.
    #[error("the stream ended at {at:?}, not at its end frame")]
    Cut {
        /// Where it ended.
        at: Where,
    },
    /// The other end counted other bytes of ours than we sent.
    #[error("the other end verified {verified} payload bytes; {sent} were sent")]
    Totals {
        /// Its count.
        verified: u64,
        /// Ours.
        sent: u64,
    },
}
