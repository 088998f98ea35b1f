//! The datagrams of a checked UDP session.

use super::Token;
use super::session::Counts;

/// Shortest ask.
pub const ASK_BYTES: usize = 32;

/// Shortest answer; an answer is as long as its ask where that is longer.
pub const ANSWER_BYTES: usize = 88;

/// Longest datagram that is sent or read.
pub const DATAGRAM_BYTES_MAX: usize = 9000;

const ASK_MAGIC: [u8; 4] = *b"CwU1";
const ANSWER_MAGIC: [u8; 4] = *b"CwU2";
/// The number of a query: it asks for the counts and is itself not counted.
const QUERY: u64 = u64::MAX;

/// From the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The client's random number for the session.
    pub nonce: u64,
    /// The datagram's number; `None` asks for the counts and is not counted.
    pub number: Option<u64>,
    /// The client's clock, echoed.
    pub sent_us: u64,
}

/// From the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The ask's.
    pub nonce: u64,
    /// The ask's.
    pub number: Option<u64>,
    /// The ask's.
    pub sent_us: u64,
    /// The server's token for the session.
    pub token: Token,
    /// What the server has received of the session.
    pub counts: Counts,
}

impl Ask {
    /// Writes the ask into all of `bytes`, which are at least [`ASK_BYTES`] long.
    pub fn encode(&self, bytes: &mut [u8]) {
        let number = self.number.unwrap_or(QUERY);
        seal(bytes, ASK_MAGIC, &[self.nonce, number, self.sent_us], &[]);
    }

    /// Reads an ask; `None` for anything else, altered ones included.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = open(bytes, ASK_MAGIC, ASK_BYTES)?;
        let [nonce, number, sent_us] = std::array::from_fn(|field| long(bytes, field));
        Some(Self { nonce, number: (number != QUERY).then_some(number), sent_us })
    }
}

impl Answer {
    /// Writes the answer into all of `bytes`, which are at least [`ANSWER_BYTES`] long.
    pub fn encode(&self, bytes: &mut [u8]) {
        let number = self.number.unwrap_or(QUERY);
        let counts = &self.counts;
        let counted =
            [counts.received, counts.highest, counts.duplicates, counts.reordered, counts.ancient];
        let mut fields = [0; 8];
        fields[..3].copy_from_slice(&[self.nonce, number, self.sent_us]);
        fields[3..].copy_from_slice(&counted);
        seal(bytes, ANSWER_MAGIC, &fields, &self.token.0);
    }

    /// Reads an answer; `None` for anything else, altered ones included.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = open(bytes, ANSWER_MAGIC, ANSWER_BYTES)?;
        let [nonce, number, sent_us, received, highest, duplicates, reordered, ancient] =
            std::array::from_fn(|field| long(bytes, field));
        let counts = Counts { received, highest, duplicates, reordered, ancient };
        let token = Token(std::array::from_fn(|i| bytes[72 + i]));
        Some(Self { nonce, number: (number != QUERY).then_some(number), sent_us, token, counts })
    }
}

/// Magic, checksum, fields, tail; what is left of the length is filler that depends on the fields.
fn seal(bytes: &mut [u8], magic: [u8; 4], fields: &[u64], tail: &[u8]) {
    bytes[..4].copy_from_slice(&magic);
    let (head, rest) = bytes[8..].split_at_mut(8 * fields.len());
    for (place, field) in head.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    rest[..tail.len()].copy_from_slice(tail);
    let filler = fields.iter().fold(1_u64, |sum, field| sum.rotate_left(9) ^ field);
    for (at, byte) in rest[tail.len()..].iter_mut().enumerate() {
        *byte = (filler.wrapping_mul(at as u64 * 2 + 1) >> 32) as u8;
    }
    let checksum = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn open(bytes: &[u8], magic: [u8; 4], length_min: usize) -> Option<&[u8]> {
    if bytes.len() < length_min || bytes[..4] != magic {
        return None;
    }
    (bytes[4..8] == crc32fast::hash(&bytes[8..]).to_le_bytes()).then_some(bytes)
}

fn long(bytes: &[u8], field: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + 8 * field + i]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn asks_and_answers_come_back_and_altered_ones_do_not(
            nonce in any::<u64>(), number in proptest::option::of(0_u64..u64::MAX), sent_us in any::<u64>(),
            token in any::<[u8; 16]>(), fields in any::<[u64; 5]>(), extra in 0_usize..100, at in any::<usize>(), bit in 0_u32..8,
        ) {
            let ask = Ask { nonce, number, sent_us };
            let mut bytes = vec![0; ASK_BYTES + extra];
            ask.encode(&mut bytes);
            prop_assert_eq!(Ask::decode(&bytes), Some(ask));
            let length = bytes.len();
            bytes[at % length] ^= 1 << bit;
            prop_assert_eq!(Ask::decode(&bytes), None);

            let [received, highest, duplicates, reordered, ancient] = fields;
            let counts = Counts { received, highest, duplicates, reordered, ancient };
            let answer = Answer { nonce, number, sent_us, token: Token(token), counts };
            let mut bytes = vec![0; ANSWER_BYTES + extra];
            answer.encode(&mut bytes);
            prop_assert_eq!(Answer::decode(&bytes), Some(answer));
            let length = bytes.len();
            bytes[at % length] ^= 1 << bit;
            prop_assert_eq!(Answer::decode(&bytes), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_datagram(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Ask::decode(&bytes), None);
            prop_assert_eq!(Answer::decode(&bytes), None);
        }
    }
}
