//! What follows the greeting.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Message, WireError, enveloped, nothing_left, take_body};
use crate::protocol::bounds::{CHUNK_BYTES_MAX, STREAMS_CEILING};

const RESUME: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const MESSAGE: u8 = 4;
const CONFIRM: u8 = 5;
const ACK: u8 = 6;
const DATA: u8 = 7;
const FIN: u8 = 8;

/// Most streams that a resumption names: those of both openers.
const RESUME_STREAMS_MAX: usize = 2 * STREAMS_CEILING as usize;
const RESUME_STREAM_BYTES: usize = 12;

/// A stream of one session: even if the caller asked for it, odd if the called one did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a chunk's bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Raw,
    /// As one zstd frame.
    Zstd,
}

/// What an end has of one lane, so that its peer goes on exactly there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// Numbered messages received, on the control lane.
    pub messages: u64,
    /// Bytes received of each stream, on a bulk lane.
    pub streams: Vec<(StreamId, u64)>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The caller's first frame, which also shows that the caller is alive: only with it does a
    /// connection take the place of an older one.
    Resume(Resume),
    /// Is somebody there?
    Ping {
        /// The asker's time, for the round trip.
        sent_us: u64,
    },
    /// Yes.
    Pong {
        /// The asker's time, as it was sent.
        sent_us: u64,
    },
    /// What must arrive once, in order, whatever happens to connections.
    Message {
        /// Its number; the first is 1.
        number: u64,
        /// What it says.
        message: Message,
    },
    /// Every message up to this number has arrived.
    Confirm {
        /// The number.
        number: u64,
    },
    /// How far a stream has got.
    Ack {
        /// Which.
        stream: StreamId,
        /// Bytes that have arrived: they need not be kept for resending.
        received: u64,
        /// Bytes that the program's socket has taken: as many more may be sent.
        delivered: u64,
    },
    /// Bytes of a stream.
    Data {
        /// Which.
        stream: StreamId,
        /// Of the first byte, before compression.
        offset: u64,
        /// How many bytes they are, before compression.
        length: u32,
        /// How they are written.
        coding: Coding,
        /// They themselves.
        payload: Bytes,
    },
    /// The stream ends here, in this direction.
    Fin {
        /// Which.
        stream: StreamId,
        /// Its length.
        offset: u64,
    },
}

impl Frame {
    /// Takes a frame from the front of `buffer`, once all of it is there.
    ///
    /// # Errors
    /// It is none, or longer than `most`.
    pub fn take(buffer: &mut BytesMut, most: usize) -> Result<Option<Frame>, WireError> {
        let Some(mut body) = take_body(buffer, most)? else { return Ok(None) };
        let kind = body.try_get_u8()?;
        let frame = match kind {
            RESUME => Frame::Resume(Resume::take(&mut body)?),
            PING => Frame::Ping { sent_us: body.try_get_u64()? },
            PONG => Frame::Pong { sent_us: body.try_get_u64()? },
            MESSAGE => {
                let number = body.try_get_u64()?;
                Frame::Message { number, message: Message::take(&mut body)? }
            }
            CONFIRM => Frame::Confirm { number: body.try_get_u64()? },
            ACK => {
                let stream = StreamId(body.try_get_u32()?);
                let (received, delivered) = (body.try_get_u64()?, body.try_get_u64()?);
                Frame::Ack { stream, received, delivered }
            }
            DATA => take_data(&mut body)?,
            FIN => {
                let stream = StreamId(body.try_get_u32()?);
                Frame::Fin { stream, offset: body.try_get_u64()? }
            }
            other => return Err(WireError::Unknown { what: "frame", value: other.into() }),
        };
        nothing_left(&body)?;
        Ok(Some(frame))
    }

    /// As bytes; a payload's own follow them uncopied.
    #[must_use]
    pub fn encoded(&self) -> (Bytes, Bytes) {
        let mut payload = Bytes::new();
        let mut out = enveloped(|out| match self {
            Frame::Resume(resume) => {
                out.put_u8(RESUME);
                resume.put(out);
            }
            Frame::Ping { sent_us } => put(out, PING, *sent_us),
            Frame::Pong { sent_us } => put(out, PONG, *sent_us),
            Frame::Message { number, message } => {
                put(out, MESSAGE, *number);
                message.put(out);
            }
            Frame::Confirm { number } => put(out, CONFIRM, *number),
            Frame::Ack { stream, received, delivered } => {
                put_of(out, ACK, *stream, *received);
                out.put_u64(*delivered);
            }
            Frame::Data { stream, offset, length, coding, payload: bytes } => {
                put_of(out, DATA, *stream, *offset);
                out.put_u32(*length);
                out.put_u8(u8::from(*coding == Coding::Zstd));
                payload = bytes.clone();
            }
            Frame::Fin { stream, offset } => put_of(out, FIN, *stream, *offset),
        });
        let length = u32::try_from(out.len() - 4 + payload.len()).expect("frames are small");
        out[..4].copy_from_slice(&length.to_be_bytes());
        (out.freeze(), payload)
    }
}

impl Resume {
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.messages);
        out.put_u16(u16::try_from(self.streams.len()).expect("streams are few"));
        for (stream, received) in &self.streams {
            out.put_u32(stream.0);
            out.put_u64(*received);
        }
    }

    pub(super) fn take(body: &mut Bytes) -> Result<Resume, WireError> {
        let messages = body.try_get_u64()?;
        let count = usize::from(body.try_get_u16()?);
        if count > RESUME_STREAMS_MAX {
            return Err(WireError::Unknown { what: "number of streams", value: count as u64 });
        }
        if body.len() < count * RESUME_STREAM_BYTES {
            return Err(WireError::Short);
        }
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            streams.push((StreamId(body.try_get_u32()?), body.try_get_u64()?));
        }
        Ok(Resume { messages, streams })
    }
}

fn put(out: &mut BytesMut, kind: u8, number: u64) {
    out.put_u8(kind);
    out.put_u64(number);
}

fn put_of(out: &mut BytesMut, kind: u8, stream: StreamId, offset: u64) {
    out.put_u8(kind);
    out.put_u32(stream.0);
    out.put_u64(offset);
}

fn take_data(body: &mut Bytes) -> Result<Frame, WireError> {
    let stream = StreamId(body.try_get_u32()?);
    let offset = body.try_get_u64()?;
    let length = body.try_get_u32()?;
    if length == 0 || length as usize > CHUNK_BYTES_MAX {
        return Err(WireError::Unknown { what: "chunk length", value: length.into() });
    }
    let coding = match body.try_get_u8()? {
        0 => Coding::Raw,
        1 => Coding::Zstd,
        other => return Err(WireError::Unknown { what: "coding", value: other.into() }),
    };
    let payload = body.split_off(0);
    let fits = match coding {
        Coding::Raw => payload.len() == length as usize,
        Coding::Zstd => payload.len() < length as usize,
    };
    if !fits {
        return Err(WireError::Unknown { what: "payload length", value: payload.len() as u64 });
    }
    body.clear();
    Ok(Frame::Data { stream, offset, length, coding, payload })
}
