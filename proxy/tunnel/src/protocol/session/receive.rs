//! Bytes that a connection brought.

use bytes::BytesMut;

use super::Session;
use super::connections::{ConnId, Stage};
use super::events::{Closed, Ending, Event, Lost, Violation};
use crate::protocol::bounds::{BULK_FRAME_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, GREETING_BYTES_MAX};
use crate::protocol::grants::Ask;
use crate::protocol::log::Arrived;
use crate::protocol::moment::Moment;
use crate::protocol::stream::{Arrival, Impossible, Phase, Stream, StreamViolation};
use crate::protocol::wire::{Answer, Frame, Lane, Message, StreamId};

impl Session {
    /// Takes every whole frame from the front of `buffer`, and leaves the rest, which is shorter
    /// than the longest frame.
    ///
    /// # Errors
    /// The connection is no longer part of the session; what is in `buffer` is void.
    pub fn receive(
        &mut self,
        conn: ConnId,
        buffer: &mut BytesMut,
        now: Moment,
    ) -> Result<(), Closed> {
        loop {
            let entry = self.conns.get_mut(conn).ok_or(Closed)?;
            entry.heard = now;
            let (lane, stage) = (entry.lane, entry.stage);
            let before = buffer.len();
            let took = match stage {
                Stage::Calling => self.take_answer(conn, lane, buffer, now),
                Stage::Welcomed { .. } => {
                    self.take_frame(conn, lane, GREETING_BYTES_MAX, buffer, now)
                }
                Stage::Up => self.take_frame(conn, lane, frame_bytes_max(lane), buffer, now),
            };
            self.tally.received_bytes += (before - buffer.len()) as u64;
            match took {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(violation) => {
                    // Bytes that are no greeting say nothing about the session, which goes on; a
                    // resumption that does not fit says that it cannot.
                    let stray = matches!(violation, Violation::Wire(_) | Violation::Misplaced(_));
                    if stage != Stage::Up && stray {
                        self.close(conn, Lost::Broken, now);
                        self.events.push_back(Event::Unfit { lane, violation });
                    } else {
                        self.violated(violation, now);
                    }
                    return Err(Closed);
                }
            }
        }
    }

    fn take_answer(
        &mut self,
        conn: ConnId,
        lane: Lane,
        buffer: &mut BytesMut,
        now: Moment,
    ) -> Result<bool, Violation> {
        let Some(answer) = Answer::take(buffer)? else { return Ok(false) };
        self.answered(conn, lane, answer, now)?;
        Ok(true)
    }

    fn take_frame(
        &mut self,
        conn: ConnId,
        lane: Lane,
        most: usize,
        buffer: &mut BytesMut,
        now: Moment,
    ) -> Result<bool, Violation> {
        let Some(frame) = Frame::take(buffer, most)? else { return Ok(false) };
        let is_up = self.conns.get(conn).is_some_and(|entry| entry.stage == Stage::Up);
        if !is_up && !matches!(frame, Frame::Resume(_)) {
            return Err(Violation::Misplaced("frame before the resumption"));
        }
        match (lane, frame) {
            (_, Frame::Resume(resume)) => self.committed(conn, lane, &resume, now)?,
            (_, Frame::Ping { sent_us }) => {
                if let Some(entry) = self.conns.get_mut(conn) {
                    entry.pong = Some(sent_us);
                }
                self.wakes.lane(lane);
            }
            (Lane::Control, Frame::Pong { sent_us }) => {
                self.rtt_us = Some(now.as_micros().saturating_sub(sent_us));
            }
            (Lane::Bulk(_), Frame::Pong { .. }) => {}
            (Lane::Control, Frame::Message { number, message }) => {
                self.wakes.lane(Lane::Control);
                match self.log.arrived(number).map_err(|_| Violation::Messages)? {
                    Arrived::New => self.told(message, now)?,
                    Arrived::Known => {}
                }
            }
            (Lane::Control, Frame::Confirm { number }) => {
                self.log.confirmed(number).map_err(|_| Violation::Messages)?;
            }
            (Lane::Control, Frame::Ack { stream, received, delivered }) => {
                let acked = self.on(stream, |entry| entry.out.acked(received, delivered));
                acked.unwrap_or(Ok(())).map_err(|Impossible| StreamViolation::NeverSent)?;
                self.touch(stream);
            }
            (Lane::Bulk(lane), Frame::Data { stream, offset, length, coding, payload }) => {
                let arrival = Arrival { offset, length, coding, payload };
                self.data(lane, stream, arrival)?;
            }
            (Lane::Bulk(lane), Frame::Fin { stream, offset }) => {
                if let Some(entry) = self.carried_by(lane, stream)? {
                    entry.inc.take_fin(offset)?;
                    self.wakes.stream(stream);
                }
            }
            (Lane::Control, Frame::Data { .. } | Frame::Fin { .. }) => {
                return Err(Violation::Misplaced("stream's bytes"));
            }
            (Lane::Bulk(_), Frame::Message { .. } | Frame::Confirm { .. } | Frame::Ack { .. }) => {
                return Err(Violation::Misplaced("control frame"));
            }
        }
        Ok(true)
    }

    fn data(&mut self, lane: u8, stream: StreamId, arrival: Arrival) -> Result<(), Violation> {
        let window = u64::from(self.limits.window_bytes);
        if self.carried_by(lane, stream)?.is_none() {
            return Ok(());
        }
        let entry = self.streams.get_mut(&stream).expect("just seen");
        entry.inc.take(arrival, window, &mut self.coder)?;
        let owes_ack = entry.inc.owes_ack(window);
        self.wakes.stream(stream);
        if owes_ack {
            self.wakes.lane(Lane::Control);
        }
        Ok(())
    }

    /// The stream, if it still is, and is this lane's.
    fn carried_by(&mut self, lane: u8, stream: StreamId) -> Result<Option<&mut Stream>, Violation> {
        match self.streams.get_mut(&stream) {
            Some(entry) if entry.bulk != lane => {
                Err(Violation::Misplaced("stream of another lane"))
            }
            Some(entry) if entry.phase == Phase::Asked => {
                Err(Violation::Misplaced("byte before its stream was accepted"))
            }
            Some(entry) => Ok(Some(entry)),
            None => {
                self.tally.stray_frames += 1;
                Ok(None)
            }
        }
    }

    fn told(&mut self, message: Message, now: Moment) -> Result<(), Violation> {
        match message {
            Message::Open { stream, ask } => return self.asked(stream, ask, now),
            Message::Opened { stream, compress } => {
                let opened = self.on(stream, |entry| {
                    let asking = entry.phase == Phase::Asking;
                    entry.phase = Phase::Open;
                    entry.compress = compress;
                    (asking, entry.ask.grant.clone())
                });
                if let Some((asking, grant)) = opened {
                    if !asking {
                        return Err(Violation::Misplaced("opening"));
                    }
                    self.events.push_back(Event::Opened { stream, grant });
                    self.touch(stream);
                }
            }
            Message::Refused { stream, refusal } => {
                let asking = |entry: &mut Stream| entry.phase == Phase::Asking;
                if self.on(stream, asking) == Some(false) {
                    return Err(Violation::Misplaced("refusal"));
                }
                self.end(stream, Ending::Refused(refusal));
            }
            Message::Finished { stream } => {
                let finished = self.on(stream, |entry| entry.out.finished());
                finished.unwrap_or(Ok(())).map_err(|Impossible| StreamViolation::NeverSent)?;
                self.wakes.stream(stream);
                self.end_if_complete(stream);
            }
            Message::Reset { stream, reason } => {
                self.end(stream, Ending::Reset { reason, by_peer: true });
            }
            Message::Packets(message) => {
                if !self.carries_packets() {
                    return Err(Violation::Misplaced("packet to an end that carries none"));
                }
                self.events.push_back(Event::Packets(message));
            }
        }
        Ok(())
    }

    fn asked(&mut self, stream: StreamId, ask: Ask, now: Moment) -> Result<(), Violation> {
        let parity = self.peer_stream.0 % 2;
        let theirs = self.streams.keys().filter(|id| id.0 % 2 == parity).count();
        let in_turn = stream.0 % 2 == parity && stream >= self.peer_stream;
        if !in_turn || theirs >= usize::from(self.limits.streams_max) {
            return Err(Violation::Opening);
        }
        self.peer_stream = StreamId(stream.0.checked_add(2).ok_or(Violation::Opening)?);
        let bulk = self.bulk_of(stream);
        self.streams.insert(stream, Stream::new(ask.clone(), Phase::Asked, bulk, now));
        self.events.push_back(Event::Asked { stream, ask });
        Ok(())
    }

    fn on<T>(&mut self, stream: StreamId, then: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.streams.get_mut(&stream).map(then)
    }
}

fn frame_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Control => CONTROL_FRAME_BYTES_MAX,
        Lane::Bulk(_) => BULK_FRAME_BYTES_MAX,
    }
}
