//! One datagram between two proxies: a head that anybody can read, and a body that only the two can.
//!
//! ```text
//! head:  1 byte version, 8 bytes name of the key, 8 bytes number under that key
//! body:  1 byte kind, then a probe's nothing, a packet, or 4 bytes and a part of one; and the tag
//! ```
//!
//! A packet that does not fit goes in two parts, never as fragments of IP.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::keys::{Exhausted, KeyId, Openers, Sealing};
use crate::protocol::Moment;
use crate::protocol::bounds::{PART_MS_MAX, PARTS_WAITING_MAX};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 17;
pub(super) const TAG_BYTES: usize = 16;
/// What is around a packet, beside UDP's and IP's own headers.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + 1 + TAG_BYTES;
const PART_HEAD_BYTES: usize = 4;

/// Longest datagram over IPv4 on a WAN whose packets are 1,500 bytes.
pub const V4_BYTES_MAX: usize = 1_500 - 20 - 8;
/// Longest over IPv6.
pub const V6_BYTES_MAX: usize = 1_500 - 40 - 8;

const PROBE: u8 = 0;
const ANSWER: u8 = 1;
const WHOLE: u8 = 2;
const FIRST: u8 = 3;
const SECOND: u8 = 4;

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// Is the way open? It also tells where an answer goes.
    Probe,
    /// Yes.
    Answer,
    /// A packet.
    Whole(&'a [u8]),
    /// The first part of one.
    First {
        /// Which packet's.
        packet: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The second part.
    Second {
        /// Which packet's.
        packet: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// It is none of this protocol's.
    #[error("no datagram of the tunnel")]
    Malformed,
    /// Under a key that is unknown, or no longer good.
    #[error("under an unknown key")]
    UnknownKey,
    /// It came before, or is far too old.
    #[error("a repetition")]
    Replayed,
    /// It was changed, or made by somebody else.
    #[error("not authentic")]
    Forged,
}

impl Sealing {
    /// Writes a datagram to `out`, which is emptied first.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn write(&mut self, body: Body<'_>, out: &mut BytesMut) -> Result<(), Exhausted> {
        let number = self.number()?;
        out.clear();
        out.put_u8(VERSION);
        out.put_u64(self.id().0);
        out.put_u64(number);
        match body {
            Body::Probe => out.put_u8(PROBE),
            Body::Answer => out.put_u8(ANSWER),
            Body::Whole(packet) => {
                out.put_u8(WHOLE);
                out.put_slice(packet);
            }
            Body::First { packet, bytes } => put_part(out, FIRST, packet, bytes),
            Body::Second { packet, bytes } => put_part(out, SECOND, packet, bytes),
        }
        let (head, body) = out.split_at_mut(HEAD_BYTES);
        let tag = self.seal(number, head, body);
        out.put_slice(&tag);
        Ok(())
    }
}

fn put_part(out: &mut BytesMut, kind: u8, packet: u32, bytes: &[u8]) {
    out.put_u8(kind);
    out.put_u32(packet);
    out.put_slice(bytes);
}

/// The key that a datagram says to be under.
#[must_use]
pub fn key_of(datagram: &[u8]) -> Option<KeyId> {
    let head: &[u8; HEAD_BYTES] = datagram.first_chunk()?;
    let id = u64::from_be_bytes(head[1..9].try_into().expect("8 bytes"));
    (head[0] == VERSION).then_some(KeyId(id))
}

impl Openers {
    /// Reads a datagram; it is decrypted where it is.
    ///
    /// # Errors
    /// See [`Unopened`].
    pub fn read<'a>(&mut self, datagram: &'a mut [u8], now: Moment) -> Result<Body<'a>, Unopened> {
        let id = key_of(datagram).ok_or(Unopened::Malformed)?;
        let (head, sealed) = datagram.split_at_mut(HEAD_BYTES);
        let number = u64::from_be_bytes(head[9..].try_into().expect("8 bytes"));
        let opened = self.open(id, number, head, sealed, now)?;
        let (kind, rest) = opened.split_first().ok_or(Unopened::Malformed)?;
        let part = || {
            let packet = rest.first_chunk::<PART_HEAD_BYTES>().ok_or(Unopened::Malformed)?;
            Ok((u32::from_be_bytes(*packet), &rest[PART_HEAD_BYTES..]))
        };
        match (*kind, rest) {
            (PROBE, []) => Ok(Body::Probe),
            (ANSWER, []) => Ok(Body::Answer),
            (WHOLE, packet) => Ok(Body::Whole(packet)),
            (FIRST, _) => part().map(|(packet, bytes)| Body::First { packet, bytes }),
            (SECOND, _) => part().map(|(packet, bytes)| Body::Second { packet, bytes }),
            _ => Err(Unopened::Malformed),
        }
    }
}

/// A packet as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut<'a> {
    /// In one datagram.
    Whole(&'a [u8]),
    /// In two.
    Halves(&'a [u8], &'a [u8]),
}

/// How a packet goes in datagrams of at most `datagram_bytes_max`; none: it is too long for two.
#[must_use]
pub fn cut(packet: &[u8], datagram_bytes_max: usize) -> Option<Cut<'_>> {
    let room = datagram_bytes_max.checked_sub(OVERHEAD_BYTES)?;
    if packet.len() <= room {
        return Some(Cut::Whole(packet));
    }
    let half = packet.len().div_ceil(2);
    if half + PART_HEAD_BYTES > room {
        return None;
    }
    let (first, second) = packet.split_at(half);
    Some(Cut::Halves(first, second))
}

/// Puts packets together that came in two parts.
#[derive(Debug, Default)]
pub struct Joiner {
    waiting: VecDeque<Part>,
    lost: u64,
}

#[derive(Debug)]
struct Part {
    packet: u32,
    is_first: bool,
    bytes: Bytes,
    until: Moment,
}

impl Joiner {
    /// Takes a part; gives the packet if it was the one that lacked.
    pub fn take(
        &mut self,
        packet: u32,
        is_first: bool,
        bytes: &[u8],
        now: Moment,
    ) -> Option<BytesMut> {
        while self.waiting.front().is_some_and(|part| part.until < now) {
            self.lose_oldest();
        }
        let Some(at) = self.waiting.iter().position(|part| part.packet == packet) else {
            // Only a part that must wait needs a place.
            if self.waiting.len() >= PARTS_WAITING_MAX {
                self.lose_oldest();
            }
            let (bytes, until) = (Bytes::copy_from_slice(bytes), now.after_ms(PART_MS_MAX));
            self.waiting.push_back(Part { packet, is_first, bytes, until });
            return None;
        };
        if self.waiting[at].is_first == is_first {
            return None;
        }
        let other = self.waiting.remove(at)?.bytes;
        let (first, second) = if is_first { (bytes, &other[..]) } else { (&other[..], bytes) };
        let mut whole = BytesMut::with_capacity(first.len() + second.len());
        whole.put_slice(first);
        whole.put_slice(second);
        Some(whole)
    }

    fn lose_oldest(&mut self) {
        self.waiting.pop_front();
        self.lost += 1;
    }

    /// What waits is nobody's any more: numbers begin anew.
    pub fn forget(&mut self) {
        self.lost += self.waiting.len() as u64;
        self.waiting.clear();
    }

    /// Packets of which one part alone came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Which numbers have come: of the newest so many, each; of what is older, all.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// One more than the highest.
    next: u64,
    seen: [u64; Replays::WORDS],
}

impl Replays {
    const WORDS: usize = 16;
    /// How far back a datagram may be overtaken by others.
    const WINDOW: u64 = 64 * (Replays::WORDS as u64 - 1);

    pub(super) fn is_new(&self, number: u64) -> bool {
        if number >= self.next {
            return true;
        }
        let is_within = self.next - number <= Replays::WINDOW;
        is_within && self.seen[Replays::word(number)] & (1 << (number % 64)) == 0
    }

    pub(super) fn mark(&mut self, number: u64) {
        if number >= self.next {
            let (newest, oldest) = (number / 64, self.next.div_ceil(64));
            // Words that are entered anew are emptied: all of them at most.
            for word in oldest.max(newest.saturating_sub(Replays::WORDS as u64 - 1))..=newest {
                self.seen[Replays::word(word * 64)] = 0;
            }
            self.next = number.saturating_add(1);
        }
        self.seen[Replays::word(number)] |= 1 << (number % 64);
    }

    fn word(number: u64) -> usize {
        usize::try_from(number / 64 % Replays::WORDS as u64).expect("below the number of words")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::{Opening, Secret};
    use super::*;
    use crate::protocol::session::Side;

    const NOW: Moment = Moment::from_micros(1);

    fn secret(number: u8) -> Secret {
        let mut bytes = [number; Secret::BYTES];
        bytes[..16].copy_from_slice(&[number ^ 0x55; 16]);
        Secret::new(bytes)
    }

    fn openers(number: u8) -> Openers {
        let mut openers = Openers::default();
        openers.install(Opening::new(&secret(number), Side::Called), NOW);
        openers
    }

    fn sealed(sealing: &mut Sealing, body: Body<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        sealing.write(body, &mut out).unwrap();
        out
    }

    #[test]
    fn a_datagram_is_opened_once_and_by_the_other_end_alone() {
        let mut sealing = Sealing::new(&secret(1), Side::Caller);
        let mut datagram = sealed(&mut sealing, Body::Whole(b"packet"));
        assert_eq!(datagram.len(), OVERHEAD_BYTES + 6);
        assert!(!datagram.windows(6).any(|window| window == b"packet"));
        let mut openers = openers(1);
        assert_eq!(openers.read(&mut datagram.clone(), NOW), Ok(Body::Whole(b"packet")));
        assert_eq!(openers.read(&mut datagram.clone(), NOW), Err(Unopened::Replayed));
        let mut own = Openers::default();
        own.install(Opening::new(&secret(1), Side::Caller), NOW);
        assert_eq!(own.read(&mut datagram, NOW), Err(Unopened::Forged), "reflected");
        let mut foreign = sealed(&mut Sealing::new(&secret(2), Side::Caller), Body::Probe);
        assert_eq!(openers.read(&mut foreign, NOW), Err(Unopened::UnknownKey));
    }

    #[test]
    fn every_changed_byte_is_noticed_and_costs_the_true_one_nothing() {
        let mut sealing = Sealing::new(&secret(1), Side::Caller);
        let part = Body::First { packet: 7, bytes: b"part" };
        let mut datagram = sealed(&mut sealing, part);
        let mut openers = openers(1);
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            assert!(openers.read(&mut changed, NOW).is_err(), "byte {at}");
        }
        assert_eq!(openers.read(&mut datagram, NOW), Ok(part));
    }

    #[test]
    fn old_keys_open_until_the_first_of_the_new_and_not_for_long() {
        let [mut old, mut new] = [1, 2].map(|key| Sealing::new(&secret(key), Side::Caller));
        let mut openers = openers(1);
        openers.install(Opening::new(&secret(2), Side::Called), NOW);
        let at = |ms| NOW.after_ms(ms);
        let read = |openers: &mut Openers, mut datagram: BytesMut, ms| {
            openers.read(&mut datagram, at(ms)).map(|body| body == Body::Answer)
        };
        assert_eq!(read(&mut openers, sealed(&mut old, Body::Answer), 1_999), Ok(true));
        let late = sealed(&mut old, Body::Answer);
        assert_eq!(read(&mut openers, late, 2_001), Err(Unopened::UnknownKey));
        assert_eq!(read(&mut openers, sealed(&mut old, Body::Answer), 10), Ok(true));
        assert_eq!(read(&mut openers, sealed(&mut new, Body::Answer), 11), Ok(true));
        let over = sealed(&mut old, Body::Answer);
        assert_eq!(read(&mut openers, over, 12), Err(Unopened::UnknownKey));
    }

    #[test]
    fn a_key_ends_with_its_numbers() {
        let mut sealing = Sealing::new(&secret(1), Side::Caller).at(u64::MAX - 1);
        let mut out = BytesMut::new();
        assert_eq!(sealing.write(Body::Probe, &mut out), Ok(()));
        assert_eq!(sealing.write(Body::Probe, &mut out), Err(Exhausted));
    }

    #[test]
    fn what_is_overtaken_is_taken_within_the_window() {
        let mut replays = Replays::default();
        for number in [5, 3, 1_000, 41, 999, 5_000] {
            assert!(replays.is_new(number), "{number}");
            replays.mark(number);
            assert!(!replays.is_new(number), "{number}");
        }
        assert!(!replays.is_new(5_001 - Replays::WINDOW - 1), "too old");
        assert!(replays.is_new(5_001 - Replays::WINDOW));
        assert!(replays.is_new(u64::MAX));
    }

    #[test]
    fn packets_go_whole_in_halves_or_not_at_all_and_are_joined() {
        let packet: Vec<u8> = (0..1_500_u32).map(|byte| byte.to_le_bytes()[0]).collect();
        for most in [V4_BYTES_MAX, V6_BYTES_MAX] {
            let room = most - OVERHEAD_BYTES;
            assert_eq!(cut(&packet[..room], most), Some(Cut::Whole(&packet[..room])));
            assert!(matches!(cut(&packet[..=room], most), Some(Cut::Halves(..))));
            let Some(Cut::Halves(first, second)) = cut(&packet, most) else { panic!() };
            let mut joiner = Joiner::default();
            assert_eq!(joiner.take(1, false, second, NOW), None);
            assert_eq!(joiner.take(1, false, second, NOW), None, "the same again");
            assert_eq!(joiner.take(2, true, first, NOW), None);
            assert_eq!(joiner.take(1, true, first, NOW).as_deref(), Some(&packet[..]));
            assert_eq!(joiner.take(2, false, second, NOW.after_ms(600)), None, "too late");
            assert_eq!(joiner.lost(), 1);
        }
        assert_eq!(cut(&[0; 3_000], V4_BYTES_MAX), None);
        assert_eq!(cut(&packet, 10), None);
    }

    #[test]
    fn parts_that_wait_are_bounded() {
        let mut joiner = Joiner::default();
        for packet in 0..10_000 {
            joiner.take(packet, true, b"part", NOW);
        }
        assert!(joiner.waiting.len() <= PARTS_WAITING_MAX);
    }

    #[test]
    fn a_part_that_completes_a_packet_costs_no_other_its_place() {
        let waiting = u32::try_from(PARTS_WAITING_MAX).unwrap();
        let mut joiner = Joiner::default();
        for packet in 0..waiting {
            assert_eq!(joiner.take(packet, true, b"first", NOW), None);
        }
        assert_eq!(joiner.take(0, true, b"first", NOW), None, "the same again");
        for packet in 0..waiting {
            let whole = joiner.take(packet, false, b"second", NOW);
            assert_eq!(whole.as_deref(), Some(&b"firstsecond"[..]), "packet {packet}");
        }
        assert_eq!(joiner.lost(), 0);
    }

    /// As the other end would make it, were it to break the protocol.
    fn sealed_as_is(sealing: &mut Sealing, body: &[u8]) -> Vec<u8> {
        let number = sealing.number().unwrap();
        let mut head = vec![VERSION];
        head.extend(sealing.id().0.to_be_bytes());
        head.extend(number.to_be_bytes());
        let mut body = body.to_vec();
        let tag = sealing.seal(number, &head, &mut body);
        [head, body, tag.to_vec()].concat()
    }

    #[test]
    fn an_authentic_body_that_is_none_is_dropped() {
        let mut sealing = Sealing::new(&secret(1), Side::Caller);
        let mut openers = openers(1);
        let bodies: [&[u8]; 7] =
            [&[], &[PROBE, 0], &[ANSWER, 0], &[FIRST], &[FIRST, 0, 0, 0], &[SECOND, 0, 0], &[9]];
        for body in bodies {
            let mut datagram = sealed_as_is(&mut sealing, body);
            assert_eq!(openers.read(&mut datagram, NOW), Err(Unopened::Malformed), "{body:?}");
        }
        let mut part = sealed_as_is(&mut sealing, &[SECOND, 0, 0, 0, 7]);
        let empty = Body::Second { packet: 7, bytes: &[] };
        assert_eq!(openers.read(&mut part, NOW), Ok(empty));
    }

    proptest! {
        #[test]
        fn a_datagram_of_any_other_bytes_is_dropped(
            at in 0_usize..200,
            change in 1_u8..,
            cut in 0_usize..200,
        ) {
            let mut sealing = Sealing::new(&secret(1), Side::Caller);
            let mut datagram = sealed(&mut sealing, Body::First { packet: 7, bytes: &[3; 100] });
            let length = datagram.len();
            let mut short = datagram.clone();
            short.truncate(cut % length);
            datagram[at % length] ^= change;
            let mut openers = openers(1);
            prop_assert!(openers.read(&mut short, NOW).is_err());
            prop_assert!(openers.read(&mut datagram, NOW).is_err());
        }

        #[test]
        fn no_authentic_body_is_too_strange(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut sealing = Sealing::new(&secret(1), Side::Caller);
            let mut datagram = sealed_as_is(&mut sealing, &body);
            let read = openers(1).read(&mut datagram, NOW).map(|_| ());
            prop_assert!(matches!(read, Ok(()) | Err(Unopened::Malformed)));
        }

        #[test]
        fn each_number_is_new_once(numbers in proptest::collection::vec(0_u64..3_000, 1..400)) {
            let mut replays = Replays::default();
            let mut seen = std::collections::BTreeSet::new();
            for number in numbers {
                if replays.is_new(number) {
                    prop_assert!(seen.insert(number), "{} twice", number);
                    replays.mark(number);
                } else {
                    let is_old = seen.last().is_some_and(|last| last - number >= Replays::WINDOW);
                    prop_assert!(is_old || seen.contains(&number), "{} not taken", number);
                }
            }
        }

        #[test]
        fn strange_datagrams_are_dropped(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(openers(1).read(&mut bytes, NOW).is_err());
        }
    }
}
