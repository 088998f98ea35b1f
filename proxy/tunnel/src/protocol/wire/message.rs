//! Numbered messages: what must arrive once and in order.
//!
//! Numbers from 16 on are those of packets that are held across a pause.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::Epoch;

use super::fields::{put_text, take_flag, take_name, take_text};
use super::{StreamId, WireError};
use crate::protocol::channel::Grant;
use crate::protocol::grants::{Ask, Wanted};
use crate::protocol::packets::PacketMessage;
use crate::protocol::refusal::{Refusal, ResetReason};

const OPEN: u8 = 1;
const OPENED: u8 = 2;
const REFUSED: u8 = 3;
const FINISHED: u8 = 4;
const RESET: u8 = 5;

/// What one end tells the other about a stream, or about a VM's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks for a stream.
    Open {
        /// Its number, higher than all before.
        stream: StreamId,
        /// What for.
        ask: Ask,
    },
    /// The far end has been dialled.
    Opened {
        /// Which.
        stream: StreamId,
        /// Chunks may be compressed, both ways.
        compress: bool,
    },
    /// It has not, and will not.
    Refused {
        /// Which.
        stream: StreamId,
        /// What is missing.
        refusal: Refusal,
    },
    /// Every byte of this direction, and its end, have been given to the program.
    Finished {
        /// Which.
        stream: StreamId,
    },
    /// Over, in both directions.
    Reset {
        /// Which.
        stream: StreamId,
        /// Why.
        reason: ResetReason,
    },
    /// Of a VM's packets; only to a peer that carries them.
    Packets(PacketMessage),
}

impl Message {
    pub(super) fn put(&self, out: &mut BytesMut) {
        let mut head = |kind: u8, stream: &StreamId| {
            out.put_u8(kind);
            out.put_u32(stream.0);
        };
        match self {
            Message::Open { stream, ask } => {
                head(OPEN, stream);
                put_ask(out, ask);
            }
            Message::Opened { stream, compress } => {
                head(OPENED, stream);
                out.put_u8(u8::from(*compress));
            }
            Message::Refused { stream, refusal } => {
                head(REFUSED, stream);
                let (code, detail) = refusal.to_wire();
                out.put_u8(code);
                out.put_u64(detail);
            }
            Message::Finished { stream } => head(FINISHED, stream),
            Message::Reset { stream, reason } => {
                head(RESET, stream);
                out.put_u8(reason.to_wire());
            }
            Message::Packets(message) => message.put(out),
        }
    }

    pub(super) fn take(body: &mut Bytes) -> Result<Message, WireError> {
        let kind = body.try_get_u8()?;
        if let Some(message) = PacketMessage::take(kind, body)? {
            return Ok(Message::Packets(message));
        }
        let stream = StreamId(body.try_get_u32()?);
        Ok(match kind {
            OPEN => Message::Open { stream, ask: take_ask(body)? },
            OPENED => Message::Opened { stream, compress: take_flag(body, "compression")? },
            REFUSED => {
                let (code, detail) = (body.try_get_u8()?, body.try_get_u64()?);
                let unknown = WireError::Unknown { what: "refusal", value: code.into() };
                let refusal = Refusal::from_wire(code, detail).ok_or(unknown)?;
                Message::Refused { stream, refusal }
            }
            FINISHED => Message::Finished { stream },
            RESET => {
                let code = body.try_get_u8()?;
                let unknown = WireError::Unknown { what: "reset", value: code.into() };
                Message::Reset { stream, reason: ResetReason::from_wire(code).ok_or(unknown)? }
            }
            other => return Err(WireError::Unknown { what: "message", value: other.into() }),
        })
    }
}

fn put_ask(out: &mut BytesMut, Ask { grant, wanted, compress }: &Ask) {
    put_text(out, grant.vm.as_str());
    out.put_u64(grant.epoch.get());
    put_text(out, grant.from.as_str());
    put_text(out, grant.to.as_str());
    put_text(out, &grant.channel.to_string());
    put_text(out, wanted.as_ref().map_or("", Wanted::as_str));
    out.put_u8(u8::from(*compress));
}

fn take_ask(body: &mut Bytes) -> Result<Ask, WireError> {
    let grant = Grant {
        vm: take_name(body, "vm name")?,
        epoch: Epoch::new(body.try_get_u64()?),
        from: take_name(body, "site name")?,
        to: take_name(body, "site name")?,
        channel: take_name(body, "channel name")?,
    };
    let wanted = take_text(body, "target")?;
    let wanted = match wanted.is_empty() {
        true => None,
        false => Some(Wanted::new(wanted).ok_or(WireError::Text("target"))?),
    };
    Ok(Ask { grant, wanted, compress: take_flag(body, "compression")? })
}
