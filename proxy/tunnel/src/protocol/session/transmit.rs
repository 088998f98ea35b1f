//! Bytes for a connection, one frame at a time, when it can take them: what is most urgent then
//! goes first, and nothing queues.

use bytes::Bytes;

use super::Session;
use super::connections::{ConnId, Stage};
use super::events::Closed;
use crate::protocol::moment::Moment;
use crate::protocol::stream::Piece;
use crate::protocol::wire::{Frame, Lane, StreamId};

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Its first part.
    pub head: Bytes,
    /// Its second; often empty.
    pub payload: Bytes,
}

impl Session {
    /// The next frame of a connection. None: sleep until its lane is woken.
    ///
    /// # Errors
    /// The connection is no longer part of the session; close it.
    pub fn transmit(&mut self, conn: ConnId, now: Moment) -> Result<Option<Transmit>, Closed> {
        let entry = self.conns.get_mut(conn).ok_or(Closed)?;
        let next = match (entry.first.pop_front(), entry.stage, entry.lane) {
            (Some(head), ..) => Some(Transmit { head, payload: Bytes::new() }),
            (None, Stage::Up, Lane::Control) => self.control_frame(conn, now),
            (None, Stage::Up, Lane::Bulk(lane)) => self.bulk_frame(conn, lane, now),
            (None, ..) => None,
        };
        if let Some(Transmit { head, payload }) = &next {
            self.tally.sent_bytes += (head.len() + payload.len()) as u64;
            if let Some(entry) = self.conns.get_mut(conn) {
                entry.said = now;
            }
        }
        Ok(next)
    }

    fn control_frame(&mut self, conn: ConnId, now: Moment) -> Option<Transmit> {
        // Packets that were held may be many: what is short does not wait until all have gone.
        let packets_next = self.log.is_next_of_packets();
        let message = if packets_next { None } else { self.logged() };
        message.or_else(|| self.short(conn, now)).or_else(|| self.logged())
    }

    fn logged(&mut self) -> Option<Transmit> {
        let (head, again) = self.log.next()?;
        self.tally.messages_again += u64::from(again);
        Some(Transmit { head, payload: Bytes::new() })
    }

    /// What is due on the control connection beside messages.
    fn short(&mut self, conn: ConnId, now: Moment) -> Option<Transmit> {
        if let Some(sign) = self.sign_of_life(conn, now) {
            return Some(encoded(&sign));
        }
        if let Some(number) = self.log.confirmation() {
            return Some(encoded(&Frame::Confirm { number }));
        }
        let window = u64::from(self.limits.window_bytes);
        let owing = self.streams.iter_mut().find(|(_, entry)| entry.inc.owes_ack(window));
        owing.map(|(stream, entry)| {
            let (received, delivered) = entry.inc.ack();
            encoded(&Frame::Ack { stream: *stream, received, delivered })
        })
    }

    fn bulk_frame(&mut self, conn: ConnId, lane: u8, now: Moment) -> Option<Transmit> {
        if let Some(sign) = self.sign_of_life(conn, now) {
            return Some(encoded(&sign));
        }
        let window = u64::from(self.offer.window_bytes);
        let stream = self.next_in_turn(lane, window)?;
        self.served[usize::from(lane)] = stream;
        let entry = self.streams.get_mut(&stream)?;
        let frame = match entry.out.next(window, entry.compress, &mut self.coder)? {
            Piece::Fin { offset } => Frame::Fin { stream, offset },
            Piece::Chunk(chunk) => Frame::Data {
                stream,
                offset: chunk.offset,
                length: u32::try_from(chunk.length).expect("chunks are small"),
                coding: chunk.coding,
                payload: chunk.payload,
            },
        };
        Some(encoded(&frame))
    }

    /// The stream after the one that was served last, among those that have something to send.
    fn next_in_turn(&self, lane: u8, window: u64) -> Option<StreamId> {
        let served = self.served[usize::from(lane)];
        let ready = |id: &StreamId| {
            self.streams.get(id).is_some_and(|entry| entry.bulk == lane && entry.is_ready(window))
        };
        let mut after =
            self.streams.range(StreamId(served.0.saturating_add(1))..).map(|(id, _)| *id);
        let mut before = self.streams.range(..=served).map(|(id, _)| *id);
        after.find(ready).or_else(|| before.find(ready))
    }

    fn sign_of_life(&mut self, conn: ConnId, now: Moment) -> Option<Frame> {
        let entry = self.conns.get_mut(conn)?;
        if let Some(sent_us) = entry.pong.take() {
            return Some(Frame::Pong { sent_us });
        }
        std::mem::take(&mut entry.ping).then_some(Frame::Ping { sent_us: now.as_micros() })
    }
}

fn encoded(frame: &Frame) -> Transmit {
    let (head, payload) = frame.encoded();
    Transmit { head, payload }
}
