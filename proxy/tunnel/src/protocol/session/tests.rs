use bytes::{Bytes, BytesMut};
use placement::Epoch;

use super::*;
use crate::protocol::bounds::{PACKET_MESSAGES_MAX, SILENCE_MS_MAX, STREAMS_CEILING};
use crate::protocol::packets::message::Told;
use crate::protocol::refusal::Rejection;
use crate::protocol::wire::{Frame, Greeted, Hello, take_hello};

const START: Moment = Moment::from_micros(1_000_000);

/// A caller and a called end, joined by hand.
struct Pair {
    ends: [Session; 2],
    now: Moment,
}

fn session(side: Side, own: u64) -> Session {
    Session::new(side, Incarnation(own), Limits::default(), true, START)
}

fn ask() -> Ask {
    let grant = Grant {
        vm: "web".parse().unwrap(),
        epoch: Epoch::new(2),
        from: "a".parse().unwrap(),
        to: "b".parse().unwrap(),
        channel: "mirror".parse().unwrap(),
    };
    Ask { grant, wanted: None, compress: false }
}

fn sent(session: &mut Session, conn: ConnId, now: Moment) -> BytesMut {
    let mut bytes = BytesMut::new();
    while let Ok(Some(Transmit { head, payload })) = session.transmit(conn, now) {
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&payload);
    }
    bytes
}

fn hello(bytes: &mut BytesMut) -> Hello {
    match take_hello(bytes) {
        Ok(Some(Greeted::Hello(hello))) => hello,
        other => panic!("{other:?}"),
    }
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.next_event()).collect()
}

impl Pair {
    fn new() -> Pair {
        Pair { ends: [session(Side::Caller, 10), session(Side::Called, 20)], now: START }
    }

    /// Dials a lane, and lets the called end see the hello.
    fn dial(&mut self, lane: Lane) -> (ConnId, Result<ConnId, Rejection>) {
        let conn = self.ends[0].dial(lane, self.now).unwrap();
        let hello = hello(&mut sent(&mut self.ends[0], conn, self.now));
        (conn, self.ends[1].accept_conn(&hello, self.now))
    }

    /// Passes everything back and forth until both are quiet.
    fn pass(&mut self, conns: (ConnId, ConnId)) {
        let conns = [conns.0, conns.1];
        loop {
            let mut any = false;
            for side in [0, 1] {
                let mut bytes = sent(&mut self.ends[side], conns[side], self.now);
                any |= !bytes.is_empty();
                let _ = self.ends[1 - side].receive(conns[1 - side], &mut bytes, self.now);
            }
            if !any {
                return;
            }
        }
    }

    fn up(&mut self, lane: Lane) -> (ConnId, ConnId) {
        let (caller, called) = self.dial(lane);
        let conns = (caller, called.unwrap());
        self.pass(conns);
        conns
    }

    /// A stream that is open at both ends, its control connection and its bulk connection.
    fn with_stream(&mut self) -> (StreamId, (ConnId, ConnId), (ConnId, ConnId)) {
        let control = self.up(Lane::Control);
        let bulk = self.up(Lane::Bulk(0));
        let stream = self.ends[0].open(ask(), self.now).unwrap();
        self.pass(control);
        self.ends[1].accept(stream, true, self.now).unwrap();
        self.pass(control);
        for end in &mut self.ends {
            events(end);
        }
        (stream, control, bulk)
    }
}

#[test]
fn a_late_greeting_takes_nobodys_place() {
    let mut pair = Pair::new();
    let first = pair.ends[0].dial(Lane::Control, pair.now).unwrap();
    let late = hello(&mut sent(&mut pair.ends[0], first, pair.now));
    let (second, called) = pair.dial(Lane::Control);
    let welcomed = pair.ends[1].accept_conn(&late, pair.now).unwrap();
    let called = called.unwrap();
    pair.pass((second, called));
    assert!(pair.ends[1].is_up(Lane::Control));
    assert_eq!(pair.ends[1].accept_conn(&late, pair.now), Err(Rejection::Stale));
    let mut resumption = BytesMut::from(&Frame::Resume(Default::default()).encoded().0[..]);
    assert_eq!(pair.ends[1].receive(welcomed, &mut resumption, pair.now), Err(Closed));
    assert_eq!(pair.ends[1].transmit(called, pair.now), Ok(None), "the later one stands");
}

#[test]
fn a_caller_that_died_after_its_hello_changes_nothing() {
    let mut pair = Pair::new();
    let (stream, ..) = pair.with_stream();
    let mut other = session(Side::Caller, 11);
    let dialled = other.dial(Lane::Control, pair.now).unwrap();
    let hello = hello(&mut sent(&mut other, dialled, pair.now));
    pair.ends[1].accept_conn(&hello, pair.now).unwrap();
    assert!(pair.ends[1].progress(stream).is_ok());
    assert!(pair.ends[1].is_up(Lane::Control));
    pair.ends[1].tick(pair.now.after_ms(999_000));
    assert!(events(&mut pair.ends[1]).iter().all(|event| *event != Event::PeerRestarted));
}

#[test]
fn a_caller_that_comes_back_without_memory_ends_every_stream() {
    let mut pair = Pair::new();
    pair.with_stream();
    pair.ends[0] = session(Side::Caller, 11);
    pair.up(Lane::Control);
    let seen = events(&mut pair.ends[1]);
    let reason = ResetReason::PeerRestarted;
    let ended = |event: &Event| matches!(event, Event::Ended { ending: Ending::Reset { reason: r, .. }, .. } if *r == reason);
    assert!(seen.iter().any(ended) && seen.contains(&Event::PeerRestarted), "{seen:?}");
}

#[test]
fn a_called_end_that_comes_back_without_memory_ends_every_stream() {
    let mut pair = Pair::new();
    let (stream, ..) = pair.with_stream();
    pair.ends[1] = session(Side::Called, 21);
    pair.up(Lane::Control);
    assert!(events(&mut pair.ends[0]).contains(&Event::PeerRestarted));
    assert_eq!(pair.ends[0].progress(stream), Err(Gone));
    assert!(pair.ends[0].open(ask(), pair.now).is_ok());
}

#[test]
fn a_bulk_connection_of_another_session_is_turned_away() {
    let mut pair = Pair::new();
    pair.up(Lane::Control);
    pair.ends[1] = session(Side::Called, 21);
    assert_eq!(pair.dial(Lane::Bulk(0)).1, Err(Rejection::NoSession));
}

#[test]
fn a_peer_that_breaks_the_protocol_loses_the_session_and_may_begin_another() {
    let mut pair = Pair::new();
    let (stream, control, _) = pair.with_stream();
    let mut gap = BytesMut::new();
    let message = Message::Finished { stream };
    gap.extend_from_slice(&Frame::Message { number: 99, message }.encoded().0);
    assert_eq!(pair.ends[1].receive(control.1, &mut gap, pair.now), Err(Closed));
    assert!(events(&mut pair.ends[1]).contains(&Event::Violated(Violation::Messages)));
    assert_eq!(pair.ends[1].progress(stream), Err(Gone));
    let control = pair.up(Lane::Control);
    assert_eq!(pair.ends[0].progress(stream), Err(Gone));
    pair.ends[0].open(ask(), pair.now).unwrap();
    pair.pass(control);
    let asked = |event: &Event| matches!(event, Event::Asked { .. });
    assert!(events(&mut pair.ends[1]).iter().any(asked));
}

#[test]
fn a_connection_that_greets_with_rubbish_goes_alone() {
    let mut pair = Pair::new();
    let (stream, ..) = pair.with_stream();
    let (_, called) = pair.dial(Lane::Control);
    let mut rubbish = BytesMut::from(&b"\0\0\0\x04rubbish"[..]);
    assert_eq!(pair.ends[1].receive(called.unwrap(), &mut rubbish, pair.now), Err(Closed));
    assert!(pair.ends[1].progress(stream).is_ok());
    let unfit = |event: &Event| matches!(event, Event::Unfit { .. });
    assert!(events(&mut pair.ends[1]).iter().any(unfit));
}

#[test]
fn greetings_that_lead_nowhere_are_bounded_and_end() {
    let mut pair = Pair::new();
    let greeting = || Hello {
        lane: Lane::Control,
        attempt: 1,
        own: Incarnation(1),
        peer: None,
        offer: Offer::of(&Limits::default(), true),
    };
    let accept = |pair: &mut Pair| pair.ends[1].accept_conn(&greeting(), pair.now);
    while accept(&mut pair).is_ok() {}
    assert_eq!(accept(&mut pair), Err(Rejection::Busy));
    pair.now = pair.ends[1].next_deadline().unwrap();
    pair.ends[1].tick(pair.now);
    assert!(accept(&mut pair).is_ok());
}

#[test]
fn a_silent_peer_is_noticed_within_seconds_and_a_living_one_is_not_suspected() {
    let mut pair = Pair::new();
    let (stream, control, bulk) = pair.with_stream();
    for _ in 0..20 {
        pair.now = pair.ends[0].next_deadline().unwrap().max(pair.ends[1].next_deadline().unwrap());
        for end in &mut pair.ends {
            end.tick(pair.now);
        }
        pair.pass(control);
        pair.pass(bulk);
    }
    assert!(pair.ends.iter().all(|end| end.is_up(Lane::Control) && end.is_up(Lane::Bulk(0))));
    assert!(pair.now >= START.after_ms(SILENCE_MS_MAX), "long enough to be suspected");
    let silent_since = pair.now;
    while pair.ends[0].is_up(Lane::Control) {
        pair.now = pair.ends[0].next_deadline().unwrap();
        pair.ends[0].tick(pair.now);
    }
    assert!(pair.now <= silent_since.after_ms(SILENCE_MS_MAX));
    assert!(pair.ends[0].progress(stream).is_ok(), "its streams wait");
}

#[test]
fn a_stream_that_cannot_resume_in_time_is_reset_with_the_reason() {
    let mut pair = Pair::new();
    let (_, control, bulk) = pair.with_stream();
    pair.ends[0].broken(control.0, pair.now);
    pair.ends[0].broken(bulk.0, pair.now);
    let bound = pair.now.after_ms(Limits::default().resume_ms_max);
    assert_eq!(pair.ends[0].next_deadline(), Some(bound));
    pair.ends[0].tick(bound);
    let outage = ResetReason::Outage;
    let ended = |event: &Event| matches!(event, Event::Ended { ending: Ending::Reset { reason, .. }, .. } if *reason == outage);
    assert!(events(&mut pair.ends[0]).iter().any(ended));
    assert_eq!(pair.ends[0].open(ask(), bound), Err(OpenError::OutOfReach));
    pair.now = bound;
    pair.up(Lane::Control);
    assert!(events(&mut pair.ends[1]).iter().any(ended), "the other end hears of it");
}

#[test]
fn streams_of_one_lane_take_turns() {
    let mut pair = Pair::new();
    let (first, control, bulk) = pair.with_stream();
    let skipped = pair.ends[0].open(ask(), pair.now).unwrap(); // On the other lane.
    let second = pair.ends[0].open(ask(), pair.now).unwrap();
    pair.pass(control);
    pair.ends[1].refuse(skipped, Refusal::Unreachable, pair.now);
    pair.ends[1].accept(second, true, pair.now).unwrap();
    pair.pass(control);
    for stream in [first, second] {
        for _ in 0..8 {
            pair.ends[0].write(stream, Bytes::from(vec![0; CHUNK_BYTES_MAX])).unwrap();
        }
    }
    let mut served = Vec::new();
    while let Ok(Some(Transmit { head, .. })) = pair.ends[0].transmit(bulk.0, pair.now) {
        served.push(u32::from_be_bytes(head[5..9].try_into().unwrap()));
    }
    let turns = [second.0, first.0].repeat(8);
    assert_eq!(served, turns);
}

#[test]
fn no_more_streams_are_asked_for_than_the_peer_takes() {
    let mut pair = Pair::new();
    let control = pair.up(Lane::Control);
    let most = Limits::default().streams_max;
    assert!(most < STREAMS_CEILING);
    for _ in 0..most {
        pair.ends[0].open(ask(), pair.now).unwrap();
    }
    assert_eq!(pair.ends[0].open(ask(), pair.now), Err(OpenError::Busy));
    pair.pass(control);
    let stream = StreamId(0);
    pair.ends[1].refuse(stream, Refusal::NoGrant, pair.now);
    pair.pass(control);
    assert!(pair.ends[0].open(ask(), pair.now).is_ok());
}

#[test]
fn what_a_slow_reader_leaves_stays_within_its_window() {
    let mut pair = Pair::new();
    let (stream, control, bulk) = pair.with_stream();
    let chunk = Bytes::from(vec![1; CHUNK_BYTES_MAX]);
    let mut taken = 0;
    loop {
        let now = pair.ends[0].write(stream, chunk.clone()).unwrap();
        taken += now;
        pair.pass(bulk);
        pair.pass(control);
        if now == 0 {
            break;
        }
    }
    let Limits { window_bytes, send_buffer_bytes, .. } = Limits::default();
    assert_eq!(taken as u64, u64::from(window_bytes) + u64::from(send_buffer_bytes));
    let kept = |end: &Session| {
        let state = end.streams().next().unwrap();
        (state.send_kept_bytes, state.receive_kept_bytes)
    };
    assert_eq!(kept(&pair.ends[0]), (send_buffer_bytes.into(), 0));
    assert_eq!(kept(&pair.ends[1]), (0, window_bytes.into()));
}

#[test]
fn packets_that_were_held_keep_nothing_short_waiting_and_are_bounded() {
    let mut pair = Pair::new();
    let control = pair.up(Lane::Control);
    assert!(pair.ends.iter().all(Session::takes_packets));
    let message = PacketMessage {
        vm: "web".parse().unwrap(),
        epoch: Epoch::new(2),
        told: Told::Held { first: 0, packets: vec![Bytes::from_static(&[7; 1_500]); 10] },
    };
    let mut said = 0;
    while pair.ends[0].takes_packets() {
        pair.ends[0].say_packets(message.clone(), pair.now);
        said += 1;
    }
    assert_eq!(said, PACKET_MESSAGES_MAX);
    pair.ends[0].open(ask(), pair.now).unwrap();
    let mut ping = BytesMut::from(&Frame::Ping { sent_us: 77 }.encoded().0[..]);
    pair.ends[0].receive(control.0, &mut ping, pair.now).unwrap();
    let Ok(Some(first)) = pair.ends[0].transmit(control.0, pair.now) else { panic!("nothing") };
    assert_eq!(first.head, Frame::Pong { sent_us: 77 }.encoded().0);
    pair.pass(control);
    let told = events(&mut pair.ends[1]);
    let packets = told.iter().filter(|event| matches!(event, Event::Packets(it) if *it == message));
    assert_eq!(packets.count(), said);
    assert!(matches!(told.last(), Some(Event::Asked { .. })));
    assert!(pair.ends[0].takes_packets(), "they are confirmed");
}

#[test]
fn an_end_that_carries_no_packets_is_sent_none() {
    let without = Session::new(Side::Called, Incarnation(20), Limits::default(), false, START);
    let mut pair = Pair { ends: [session(Side::Caller, 10), without], now: START };
    let control = pair.up(Lane::Control);
    assert!(!pair.ends.iter().any(Session::takes_packets));
    let message =
        PacketMessage { vm: "web".parse().unwrap(), epoch: Epoch::new(2), told: Told::End };
    let frame = Frame::Message { number: 1, message: Message::Packets(message) };
    let mut bytes = BytesMut::from(&frame.encoded().0[..]);
    assert_eq!(pair.ends[1].receive(control.1, &mut bytes, pair.now), Err(Closed));
}
