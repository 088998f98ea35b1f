//! One pair of proxies: what survives while connections come and go.
//!
//! Bytes and time in, bytes and events out. A driver
//! - gives each connection its [`ConnId`] by [`Session::dial`] or [`Session::accept`], feeds it by
//!   [`Session::receive`], drains it by [`Session::transmit`], and reports its end by
//!   [`Session::broken`];
//! - moves the bytes of programs by [`Session::write`], [`Session::read`], [`Session::deliver`];
//! - calls [`Session::tick`] at [`Session::next_deadline`];
//! - and after each call takes [`Session::take_wakes`] and [`Session::next_event`].
//!
//! The caller's control connection makes the session; bulk connections join it. Each lane resumes
//! by itself: both ends say what they have of it, and go on there. A lane's connection is replaced
//! only by a later one whose caller has shown that it is alive.

mod clock;
mod connections;
mod events;
mod receive;
#[cfg(test)]
mod tests;
mod transmit;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::bounds::{BULK_LANES_MAX, CHUNK_BYTES_MAX, Limits, MESSAGES_UNCONFIRMED_MAX};
use super::channel::Grant;
use super::chunk::Coder;
use super::grants::Ask;
use super::log::Log;
use super::moment::Moment;
use super::packets::PacketMessage;
use super::refusal::{Refusal, ResetReason};
use super::stream::{Phase, Stream};
use super::tally::{SessionTally, StreamTally};
use super::wire::{Incarnation, Lane, Message, Offer, StreamId};

pub use connections::ConnId;
use connections::Connections;
pub use events::{Closed, Ending, Event, Gone, Lost, OpenError, Violation, Wakes};
pub use transmit::Transmit;

/// Who dials. Exactly one end of a pair does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This end.
    Caller,
    /// The peer.
    Called,
}

/// What a program can read of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// These bytes come next; say how many were taken by [`Session::deliver`].
    Bytes(Bytes),
    /// The far program has ended; say that this one knows by [`Session::deliver_end`].
    End,
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Finished,
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    side: Side,
    own: Incarnation,
    peer: Option<Incarnation>,
    limits: Limits,
    own_offer: Offer,
    /// The peer's.
    offer: Offer,
    conns: Connections,
    log: Log,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: StreamId,
    /// The lowest number that the peer may use next.
    peer_stream: StreamId,
    /// The stream that each bulk lane served last.
    served: [StreamId; BULK_LANES_MAX],
    coder: Coder,
    events: VecDeque<Event>,
    wakes: Wakes,
    tally: SessionTally,
    rtt_us: Option<u64>,
}

impl Session {
    /// A session that has met nobody yet. `own` is drawn at random and is not 0; the limits have
    /// been checked. `packets`: this end carries packets too.
    #[must_use]
    pub fn new(
        side: Side,
        own: Incarnation,
        limits: Limits,
        packets: bool,
        now: Moment,
    ) -> Session {
        let (next_stream, peer_stream) = first_streams(side);
        Session {
            side,
            own,
            peer: None,
            limits,
            own_offer: Offer::of(&limits, packets),
            offer: Offer::of(&limits, false),
            conns: Connections::new(now),
            log: Log::default(),
            streams: BTreeMap::new(),
            next_stream,
            peer_stream,
            served: [StreamId(0); BULK_LANES_MAX],
            coder: Coder::new(),
            events: VecDeque::new(),
            wakes: Wakes::default(),
            tally: SessionTally::default(),
            rtt_us: None,
        }
    }

    /// Asks the peer for a stream. Bytes may be written at once; they wait for its answer.
    ///
    /// # Errors
    /// The peer is out of reach, or takes no more.
    pub fn open(&mut self, ask: Ask, now: Moment) -> Result<StreamId, OpenError> {
        if self.peer.is_none() || self.outage_is_over_long(now) {
            return Err(OpenError::OutOfReach);
        }
        let stream = self.next_stream;
        let parity = stream.0 % 2;
        let ours = self.streams.keys().filter(|id| id.0 % 2 == parity).count();
        let next = stream.0.checked_add(2).ok_or(OpenError::Busy)?;
        let most = usize::from(self.offer.streams_max);
        if ours >= most || self.log.len() >= MESSAGES_UNCONFIRMED_MAX / 2 {
            return Err(OpenError::Busy);
        }
        self.next_stream = StreamId(next);
        let bulk = self.bulk_of(stream);
        self.streams.insert(stream, Stream::new(ask.clone(), Phase::Asking, bulk, now));
        self.say(Message::Open { stream, ask }, now);
        self.wakes.deadline = true;
        Ok(stream)
    }

    /// Answers an ask: the far end has been dialled here. `compress` is this end's wish; the
    /// opener's must agree.
    ///
    /// # Errors
    /// The stream has ended meanwhile.
    pub fn accept(&mut self, stream: StreamId, compress: bool, now: Moment) -> Result<(), Gone> {
        let entry = self.stream(stream)?;
        if entry.phase != Phase::Asked {
            return Err(Gone);
        }
        entry.phase = Phase::Open;
        entry.compress = compress && entry.ask.compress;
        let compress = entry.compress;
        self.say(Message::Opened { stream, compress }, now);
        self.touch(stream);
        Ok(())
    }

    /// Answers an ask: no.
    pub fn refuse(&mut self, stream: StreamId, refusal: Refusal, now: Moment) {
        if self.stream(stream).is_ok_and(|entry| entry.phase == Phase::Asked) {
            self.say(Message::Refused { stream, refusal }, now);
            self.end(stream, Ending::Refused(refusal));
        }
    }

    /// How many bytes a stream takes now.
    ///
    /// # Errors
    /// It is over.
    pub fn room(&mut self, stream: StreamId) -> Result<usize, Gone> {
        let most = u64::from(self.limits.send_buffer_bytes);
        let entry = self.stream(stream)?;
        let room = most.saturating_sub(entry.out.kept());
        Ok(usize::try_from(room).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX))
    }

    /// Takes bytes of a program, as many as fit; the rest, if any, was not taken.
    ///
    /// # Errors
    /// The stream is over, or its program has ended it.
    pub fn write(&mut self, stream: StreamId, mut bytes: Bytes) -> Result<usize, Gone> {
        bytes.truncate(self.room(stream)?);
        let entry = self.stream(stream)?;
        if entry.out.is_ended() {
            return Err(Gone);
        }
        let taken = bytes.len();
        entry.out.write(bytes);
        self.touch_lane(stream);
        Ok(taken)
    }

    /// The program writes no more.
    ///
    /// # Errors
    /// The stream is over.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), Gone> {
        self.stream(stream)?.out.finish();
        self.touch_lane(stream);
        Ok(())
    }

    /// What the program can read next.
    ///
    /// # Errors
    /// The stream is over.
    pub fn read(&mut self, stream: StreamId) -> Result<Read, Gone> {
        let entry = self.stream(stream)?;
        Ok(match entry.inc.front() {
            Some(bytes) => Read::Bytes(bytes),
            None if entry.inc.is_finished() => Read::Finished,
            None if entry.inc.is_at_end() => Read::End,
            None => Read::Nothing,
        })
    }

    /// The program's socket has taken so many bytes.
    ///
    /// # Errors
    /// The stream is over.
    pub fn deliver(&mut self, stream: StreamId, count: usize) -> Result<(), Gone> {
        self.stream(stream)?.inc.deliver(count);
        self.wakes.lane(Lane::Control);
        Ok(())
    }

    /// The program knows that the far one has ended.
    ///
    /// # Errors
    /// The stream is over.
    pub fn deliver_end(&mut self, stream: StreamId, now: Moment) -> Result<(), Gone> {
        let entry = self.stream(stream)?;
        if entry.inc.is_at_end() {
            entry.inc.finish();
            self.say(Message::Finished { stream }, now);
            self.end_if_complete(stream);
        }
        Ok(())
    }

    /// Bytes that the program has written so far, and those of them that the far program's socket
    /// has taken.
    ///
    /// # Errors
    /// The stream is over.
    pub fn progress(&mut self, stream: StreamId) -> Result<(u64, u64), Gone> {
        let out = &self.stream(stream)?.out;
        Ok((out.written(), out.delivered()))
    }

    /// Cuts a stream off at both ends.
    pub fn reset(&mut self, stream: StreamId, reason: ResetReason, now: Moment) {
        if self.streams.contains_key(&stream) {
            self.say(Message::Reset { stream, reason }, now);
            self.end(stream, Ending::Reset { reason, by_peer: false });
        }
    }

    /// Cuts off every stream of a grant, at both ends.
    pub fn reset_channel(&mut self, grant: &Grant, reason: ResetReason, now: Moment) {
        for stream in self.streams_where(|stream| stream.ask.grant == *grant) {
            self.reset(stream, reason, now);
        }
    }

    /// Cuts off every stream, at both ends.
    pub fn reset_all(&mut self, reason: ResetReason, now: Moment) {
        for stream in self.streams_where(|_| true) {
            self.reset(stream, reason, now);
        }
    }

    /// Whether a message of packets would be taken: the peer carries them, and has confirmed most of
    /// those before.
    #[must_use]
    pub fn takes_packets(&self) -> bool {
        self.carries_packets() && self.log.has_room_for_packets()
    }

    /// Whether both ends carry packets, as far as they have met.
    #[must_use]
    pub fn carries_packets(&self) -> bool {
        let both = self.own_offer.features & self.offer.features;
        self.peer.is_some() && both & Offer::PACKETS != 0
    }

    /// Tells the peer something of packets; they are taken when [`Session::takes_packets`] says so.
    pub fn say_packets(&mut self, message: PacketMessage, now: Moment) {
        self.say(Message::Packets(message), now);
    }

    /// The peer has confirmed everything that was said to it.
    #[must_use]
    pub fn has_said_all(&self) -> bool {
        self.log.len() == 0
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Who may have something to do; nobody is named twice for one reason.
    pub fn take_wakes(&mut self) -> Wakes {
        std::mem::take(&mut self.wakes)
    }

    /// What the session has moved.
    #[must_use]
    pub fn tally(&self) -> SessionTally {
        self.tally
    }

    /// The last round trip of a ping over the control connection.
    #[must_use]
    pub fn rtt_us(&self) -> Option<u64> {
        self.rtt_us
    }

    /// Every stream that is not over: number, grant, what it moved, and the bytes kept for
    /// resending and for a slow reader.
    pub fn streams(&self) -> impl Iterator<Item = StreamState<'_>> {
        self.streams.iter().map(|(stream, entry)| StreamState {
            stream: *stream,
            grant: &entry.ask.grant,
            tally: entry.tally(),
            send_kept_bytes: entry.out.kept(),
            receive_kept_bytes: entry.inc.kept(),
        })
    }

    /// This end's limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn stream(&mut self, stream: StreamId) -> Result<&mut Stream, Gone> {
        self.streams.get_mut(&stream).ok_or(Gone)
    }

    fn streams_where(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<StreamId> {
        let wanted = self.streams.iter().filter(|(_, entry)| wanted(entry));
        wanted.map(|(stream, _)| *stream).collect()
    }

    /// Queues a numbered message. A peer that confirms none of so many follows no protocol.
    fn say(&mut self, message: Message, now: Moment) {
        if self.log.push(message).is_err() {
            self.violated(Violation::Messages, now);
        }
        self.wakes.lane(Lane::Control);
    }

    fn end(&mut self, stream: StreamId, ending: Ending) {
        if let Some(entry) = self.streams.remove(&stream) {
            let tally = entry.tally();
            let grant = entry.ask.grant;
            self.events.push_back(Event::Ended { stream, grant, ending, tally });
            self.wakes.stream(stream);
        }
    }

    fn end_if_complete(&mut self, stream: StreamId) {
        if self.stream(stream).is_ok_and(|entry| entry.is_complete()) {
            self.end(stream, Ending::Complete);
        }
    }

    fn bulk_lanes(&self) -> u8 {
        self.limits.bulk_lanes.min(self.offer.bulk_lanes)
    }

    fn bulk_of(&self, stream: StreamId) -> u8 {
        let turn = (stream.0 / 2) % u32::from(self.bulk_lanes());
        u8::try_from(turn).expect("lanes are few")
    }

    fn touch_lane(&mut self, stream: StreamId) {
        if let Some(entry) = self.streams.get(&stream) {
            self.wakes.lane(Lane::Bulk(entry.bulk));
        }
    }

    fn touch(&mut self, stream: StreamId) {
        self.wakes.stream(stream);
        self.touch_lane(stream);
    }
}

/// A stream as [`Session::streams`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState<'a> {
    /// Its number.
    pub stream: StreamId,
    /// Its grant.
    pub grant: &'a Grant,
    /// What it has moved so far.
    pub tally: StreamTally,
    /// Bytes kept until the peer has them; at most [`Limits::send_buffer_bytes`].
    pub send_kept_bytes: u64,
    /// Bytes kept until the program here takes them; at most [`Limits::window_bytes`].
    pub receive_kept_bytes: u64,
}

fn first_streams(side: Side) -> (StreamId, StreamId) {
    match side {
        Side::Caller => (StreamId(0), StreamId(1)),
        Side::Called => (StreamId(1), StreamId(0)),
    }
}
