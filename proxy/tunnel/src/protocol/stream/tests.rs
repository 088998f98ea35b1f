use bytes::Bytes;

use super::outgoing::CHUNKS_MAX;
use super::*;
use crate::protocol::bounds::CHUNK_BYTES_MAX;
use crate::protocol::chunk::{Chunk, Coder};

const WINDOW: u64 = 2 * CHUNK_BYTES_MAX as u64;

fn chunk(out: &mut Outgoing) -> Option<Chunk> {
    match out.next(WINDOW, true, &mut Coder::new()) {
        Some(Piece::Chunk(chunk)) => Some(chunk),
        Some(Piece::Fin { .. }) => panic!("an end where bytes were due"),
        None => None,
    }
}

fn arrival(chunk: &Chunk) -> Arrival {
    let length = u32::try_from(chunk.length).unwrap();
    let (offset, coding) = (chunk.offset, chunk.coding);
    Arrival { offset, length, coding, payload: chunk.payload.clone() }
}

fn filled(length: usize) -> Outgoing {
    let mut out = Outgoing::default();
    out.write(Bytes::from(vec![7; length]));
    out
}

#[test]
fn after_a_reconnection_what_the_peer_lacks_goes_again_as_it_was() {
    let mut out = filled(2 * CHUNK_BYTES_MAX);
    let first = chunk(&mut out).unwrap();
    let second = chunk(&mut out).unwrap();
    out.rewind(Some(first.end())).unwrap();
    let again = chunk(&mut out).unwrap();
    assert_eq!((again.offset, again.payload.clone()), (second.offset, second.payload));
    assert_eq!(out.tally.again_bytes, again.payload.len() as u64);
    assert!(chunk(&mut out).is_none());
    out.rewind(None).unwrap();
    assert_eq!(chunk(&mut out).unwrap().offset, first.end());
}

#[test]
fn no_more_goes_out_than_the_window_and_no_crumbs() {
    let mut out = filled(3 * CHUNK_BYTES_MAX);
    assert!(chunk(&mut out).is_some() && chunk(&mut out).is_some());
    assert!(!out.is_ready(WINDOW) && chunk(&mut out).is_none());
    out.acked(2 * CHUNK_BYTES_MAX as u64, 5).unwrap();
    assert!(!out.is_ready(WINDOW), "5 bytes of room are not worth a frame");
    out.acked(2 * CHUNK_BYTES_MAX as u64, CHUNK_BYTES_MAX as u64).unwrap();
    assert_eq!(chunk(&mut out).unwrap().length, CHUNK_BYTES_MAX);
}

#[test]
fn chunks_that_wait_for_the_peer_are_bounded_in_number() {
    let mut out = Outgoing::default();
    let mut coder = Coder::new();
    for _ in 0..CHUNKS_MAX {
        out.write(Bytes::from_static(b"x"));
        assert!(out.next(WINDOW, false, &mut coder).is_some());
    }
    out.write(Bytes::from_static(b"x"));
    assert!(!out.is_ready(WINDOW) && out.next(WINDOW, false, &mut coder).is_none());
    out.acked(1, 1).unwrap();
    assert!(out.is_ready(WINDOW));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_noticed() {
    let mut out = filled(10);
    assert_eq!(out.acked(1, 0), Err(Impossible));
    chunk(&mut out).unwrap();
    assert_eq!(out.acked(10, 11), Err(Impossible));
    assert_eq!(out.acked(11, 0), Err(Impossible));
    assert_eq!(out.rewind(Some(11)), Err(Impossible));
    assert_eq!(out.finished(), Err(Impossible));
    out.acked(10, 10).unwrap();
    assert_eq!((out.kept(), out.delivered()), (0, 10));
}

#[test]
fn duplicates_and_overlaps_change_nothing() {
    let mut out = filled(100);
    let whole = chunk(&mut out).unwrap();
    let mut inc = Incoming::default();
    let mut coder = Coder::new();
    let part = Bytes::from(vec![7; 40]);
    let raw = |offset, payload: Bytes| Arrival {
        offset,
        length: u32::try_from(payload.len()).unwrap(),
        coding: crate::protocol::wire::Coding::Raw,
        payload,
    };
    inc.take(raw(0, part.clone()), WINDOW, &mut coder).unwrap();
    inc.take(raw(0, part), WINDOW, &mut coder).unwrap();
    inc.take(arrival(&whole), WINDOW, &mut coder).unwrap();
    inc.take(arrival(&whole), WINDOW, &mut coder).unwrap();
    assert_eq!((inc.received(), inc.kept()), (100, 100));
    assert_eq!(inc.front(), Some(Bytes::from(vec![7; 100])));
}

#[test]
fn a_peer_that_breaks_the_rules_is_noticed() {
    let mut coder = Coder::new();
    let whole = chunk(&mut filled(100)).unwrap();
    let take = |inc: &mut Incoming, offset, coder: &mut Coder| {
        inc.take(Arrival { offset, ..arrival(&whole) }, 150, coder)
    };
    let mut inc = Incoming::default();
    assert_eq!(take(&mut inc, 1, &mut coder), Err(StreamViolation::Gap));
    take(&mut inc, 0, &mut coder).unwrap();
    assert_eq!(take(&mut inc, 100, &mut coder), Err(StreamViolation::Window));
    assert_eq!(take(&mut inc, u64::MAX, &mut coder), Err(StreamViolation::Window));
    assert_eq!(inc.take_fin(99), Err(StreamViolation::AfterEnd));
    assert_eq!(inc.take_fin(101), Err(StreamViolation::Gap));
    inc.take_fin(100).unwrap();
    inc.take_fin(100).unwrap();
    inc.deliver(100);
    assert!(inc.is_at_end());
    assert_eq!(take(&mut inc, 100, &mut coder), Err(StreamViolation::AfterEnd));
}

#[test]
fn the_end_is_told_again_until_the_far_program_knows_it() {
    let mut out = Outgoing::default();
    out.finish();
    let mut coder = Coder::new();
    let mut end = |out: &mut Outgoing| out.next(WINDOW, false, &mut coder);
    assert!(matches!(end(&mut out), Some(Piece::Fin { offset: 0 })));
    assert!(end(&mut out).is_none());
    out.rewind(Some(0)).unwrap();
    assert!(matches!(end(&mut out), Some(Piece::Fin { offset: 0 })));
    out.finished().unwrap();
    out.rewind(Some(0)).unwrap();
    assert!(end(&mut out).is_none() && out.is_finished());
}
