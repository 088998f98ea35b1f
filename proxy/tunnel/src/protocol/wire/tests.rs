use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use placement::Epoch;
use proptest::prelude::*;

use super::*;
use crate::protocol::bounds::{
    BULK_FRAME_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, GREETING_BYTES_MAX, PROTOCOL_VERSION,
};
use crate::protocol::channel::Grant;
use crate::protocol::grants::{Ask, Wanted};
use crate::protocol::packets::message::Told;
use crate::protocol::packets::{PacketMessage, Tuple};
use crate::protocol::refusal::{Refusal, Rejection, ResetReason};

fn whole(frame: &Frame) -> BytesMut {
    let (head, payload) = frame.encoded();
    let mut bytes = BytesMut::from(&head[..]);
    bytes.extend_from_slice(&payload);
    bytes
}

fn grant() -> impl Strategy<Value = Grant> {
    let name = "[a-z0-9]{1,63}";
    (name, any::<u64>(), name, name, name).prop_map(|(vm, epoch, from, to, channel)| Grant {
        vm: vm.parse().unwrap(),
        epoch: Epoch::new(epoch),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        channel: channel.parse().unwrap(),
    })
}

fn packet_message() -> impl Strategy<Value = PacketMessage> {
    let packet = || proptest::collection::vec(any::<u8>(), 1..1_600).prop_map(Bytes::from);
    let packets = || proptest::collection::vec(packet(), 0..10);
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ];
    let tuple = (any::<bool>(), address.clone(), any::<u16>(), address, any::<u16>()).prop_map(
        |(is_tcp, vm, vm_port, peer, peer_port)| Tuple { is_tcp, vm, vm_port, peer, peer_port },
    );
    let told = prop_oneof![
        any::<u64>().prop_map(|queue| Told::Begin { queue }),
        (any::<u64>(), packets()).prop_map(|(first, packets)| Told::Held { first, packets }),
        (any::<u64>(), packets()).prop_map(|(first, packets)| Told::Leftovers { first, packets }),
        proptest::collection::vec(tuple, 0..256).prop_map(Told::Tuples),
        Just(Told::Stopped),
        Just(Told::End),
        Just(Told::Released),
        Just(Told::Done),
        Just(Told::CalledOff),
    ];
    ("[a-z]{1,20}", any::<u64>(), told).prop_map(|(vm, epoch, told)| PacketMessage {
        vm: vm.parse().unwrap(),
        epoch: Epoch::new(epoch),
        told,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let stream = any::<u32>().prop_map(StreamId);
    let ask = (grant(), proptest::option::of("[!-~]{1,200}"), any::<bool>()).prop_map(
        |(grant, wanted, compress)| Ask { grant, wanted: wanted.and_then(Wanted::new), compress },
    );
    let refusal = prop_oneof![
        Just(Refusal::NoGrant),
        any::<u64>().prop_map(|seen| Refusal::Stale { seen: Epoch::new(seen) }),
        Just(Refusal::NotPermitted),
        Just(Refusal::Unreachable),
        Just(Refusal::Busy),
    ];
    prop_oneof![
        (stream.clone(), ask).prop_map(|(stream, ask)| Message::Open { stream, ask }),
        (stream.clone(), any::<bool>())
            .prop_map(|(stream, compress)| Message::Opened { stream, compress }),
        (stream.clone(), refusal)
            .prop_map(|(stream, refusal)| Message::Refused { stream, refusal }),
        stream.clone().prop_map(|stream| Message::Finished { stream }),
        stream.prop_map(|stream| Message::Reset { stream, reason: ResetReason::Outage }),
        packet_message().prop_map(Message::Packets),
    ]
}

fn resume() -> impl Strategy<Value = Resume> {
    let streams =
        proptest::collection::vec((any::<u32>().prop_map(StreamId), any::<u64>()), 0..128);
    (any::<u64>(), streams).prop_map(|(messages, streams)| Resume { messages, streams })
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = any::<u32>().prop_map(StreamId);
    let payload = proptest::collection::vec(any::<u8>(), 1..5_000).prop_map(Bytes::from);
    prop_oneof![
        resume().prop_map(Frame::Resume),
        any::<u64>().prop_map(|sent_us| Frame::Ping { sent_us }),
        any::<u64>().prop_map(|sent_us| Frame::Pong { sent_us }),
        (any::<u64>(), message()).prop_map(|(number, message)| Frame::Message { number, message }),
        any::<u64>().prop_map(|number| Frame::Confirm { number }),
        (stream.clone(), any::<u64>(), any::<u64>()).prop_map(|(stream, received, delivered)| {
            Frame::Ack { stream, received, delivered }
        }),
        (stream.clone(), any::<u64>(), payload, any::<bool>()).prop_map(
            |(stream, offset, payload, zstd)| Frame::Data {
                stream,
                offset,
                length: payload.len() as u32 + u32::from(zstd),
                coding: if zstd { Coding::Zstd } else { Coding::Raw },
                payload,
            }
        ),
        (stream, any::<u64>()).prop_map(|(stream, offset)| Frame::Fin { stream, offset }),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let lane = prop_oneof![Just(Lane::Control), (0..2_u8).prop_map(Lane::Bulk)];
    let offer = (1_u32 << 17..1 << 26, 1..64_u16, 1..3_u8, any::<u32>()).prop_map(
        |(window_bytes, streams_max, bulk_lanes, features)| Offer {
            window_bytes,
            streams_max,
            bulk_lanes,
            features,
        },
    );
    (lane, any::<u64>(), any::<u64>(), 0..9_u64, offer).prop_map(
        |(lane, attempt, own, peer, offer)| Hello {
            lane,
            attempt,
            own: Incarnation(own),
            peer: Some(peer).filter(|peer| *peer > 0).map(Incarnation),
            offer,
        },
    )
}

proptest! {
    #[test]
    fn a_frame_survives_the_way_through_its_bytes_in_any_pieces(
        frame in frame(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = whole(&frame);
        let cut = cut.index(bytes.len());
        let mut buffer = BytesMut::from(&bytes[..cut]);
        prop_assert_eq!(Frame::take(&mut buffer, BULK_FRAME_BYTES_MAX), Ok(None));
        buffer.extend_from_slice(&bytes[cut..]);
        prop_assert_eq!(Frame::take(&mut buffer, BULK_FRAME_BYTES_MAX), Ok(Some(frame)));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn every_control_frame_fits_its_bound(number in any::<u64>(), message in message()) {
        let mut bytes = whole(&Frame::Message { number, message });
        prop_assert!(Frame::take(&mut bytes, CONTROL_FRAME_BYTES_MAX).is_ok());
    }

    #[test]
    fn a_greeting_survives_the_way_through_its_bytes(hello in hello(), resume in resume()) {
        let mut bytes = BytesMut::from(&hello.encoded()[..]);
        prop_assert_eq!(take_hello(&mut bytes), Ok(Some(Greeted::Hello(hello.clone()))));
        let answer = Answer::Welcome(Welcome { own: hello.own, offer: hello.offer, resume });
        let mut bytes = BytesMut::from(&answer.encoded()[..]);
        prop_assert!(bytes.len() <= GREETING_BYTES_MAX);
        prop_assert_eq!(Answer::take(&mut bytes), Ok(Some(answer)));
    }

    #[test]
    fn any_bytes_are_taken_refused_or_waited_for_within_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        check_decoders(&bytes);
    }

    #[test]
    fn any_body_in_a_true_envelope_too(
        kind in 0..20_u8,
        body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = Vec::new();
        bytes.put_u32(body.len() as u32 + 1);
        bytes.put_u8(kind);
        bytes.extend_from_slice(&body);
        check_decoders(&bytes);
    }

    #[test]
    fn a_broken_frame_is_no_other_frames_downfall(
        frame in frame(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = whole(&frame);
        let at = at.index(bytes.len());
        bytes[at] = to;
        check_decoders(&bytes);
    }
}

fn check_decoders(bytes: &[u8]) {
    for most in [GREETING_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, BULK_FRAME_BYTES_MAX] {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Some(_)) = Frame::take(&mut buffer, most) {}
        assert!(buffer.capacity() <= bytes.len() + 2 * (most + 4), "room for more than a frame");
    }
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = take_hello(&mut buffer) {}
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = Answer::take(&mut buffer) {}
}

#[test]
fn a_length_beyond_its_bound_is_refused_before_anything_is_waited_for() {
    for length in [0, CONTROL_FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        let error = Frame::take(&mut buffer, CONTROL_FRAME_BYTES_MAX);
        assert!(matches!(error, Err(WireError::Length { .. })), "{length}");
        assert!(buffer.capacity() < 1_024);
    }
}

#[test]
fn another_version_is_recognised_whatever_follows() {
    let mut hello = BytesMut::new();
    hello.put_u32(11);
    hello.put_u32(0x4341_5553);
    hello.put_u16(PROTOCOL_VERSION + 1);
    hello.put_slice(&[1, 0xff, 0xff, 0xff, 0xff]);
    let mut called = hello.clone();
    let other = Greeted::OtherVersion(PROTOCOL_VERSION + 1);
    assert_eq!(take_hello(&mut called), Ok(Some(other)));
    hello[10] = 2;
    let told = Answer::Rejected(Rejection::Version { theirs: PROTOCOL_VERSION + 1 });
    assert_eq!(Answer::take(&mut hello), Ok(Some(told)));
}

#[test]
fn another_protocol_is_told_from_ours() {
    let mut buffer = BytesMut::from(&b"\0\0\0\x10GET / HTTP/1.1\r\n"[..]);
    assert_eq!(take_hello(&mut buffer), Err(WireError::Foreign));
}
