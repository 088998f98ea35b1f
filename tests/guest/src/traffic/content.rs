//! What the payload is: a sequence of 8-byte words, each a reversible mix of its own index under a
//! key made from token and direction.
//!
//! Reversible on purpose: 16 foreign bytes tell their own place in the sequence, so that a fault can
//! say "these bytes belong 1448 further on" rather than "wrong byte".

use super::{Direction, Token};

const WORD_BYTES: usize = 8;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const FIRST: u64 = 0xbf58_476d_1ce4_e5b9;
const SECOND: u64 = 0x94d0_49bb_1331_11eb;

/// Bytes that [`Content::place_of`] needs: two whole words at any alignment.
pub const PLACE_BYTES: usize = 3 * WORD_BYTES - 1;

/// The content of one direction of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    key: u64,
}

impl Content {
    /// The content of `direction` of the connection that `token` names.
    #[must_use]
    pub fn new(token: Token, direction: Direction) -> Self {
        let (high, low) = token.0.split_at(WORD_BYTES);
        let way = match direction {
            Direction::Up => 1,
            Direction::Down => 2,
        };
        Self { key: mix(word(high)) ^ mix(word(low).wrapping_add(way)) }
    }

    /// Writes the bytes from `offset` on into `bytes`.
    pub fn fill(&self, offset: u64, bytes: &mut [u8]) {
        let start = lead(offset);
        let (head, rest) = bytes.split_at_mut(start.min(bytes.len()));
        self.fill_few(offset, head);
        let mut index = offset.wrapping_add(start as u64) / WORD_BYTES as u64;
        let mut words = rest.chunks_exact_mut(WORD_BYTES);
        for chunk in words.by_ref() {
            chunk.copy_from_slice(&self.word(index).to_le_bytes());
            index = index.wrapping_add(1);
        }
        self.fill_few(index.wrapping_mul(WORD_BYTES as u64), words.into_remainder());
    }

    /// Where `bytes` first differ from the content at `offset`: an index into `bytes`.
    #[must_use]
    pub fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let start = lead(offset).min(bytes.len());
        let (head, rest) = bytes.split_at(start);
        if let Some(at) = self.difference_in_few(offset, head) {
            return Some(at);
        }
        let mut at = start;
        let mut index = offset.wrapping_add(start as u64) / WORD_BYTES as u64;
        let mut words = rest.chunks_exact(WORD_BYTES);
        for chunk in words.by_ref() {
            let expected = self.word(index);
            if word(chunk) != expected {
                let differing = word(chunk) ^ expected;
                return Some(at + differing.trailing_zeros() as usize / WORD_BYTES);
            }
            at += WORD_BYTES;
            index = index.wrapping_add(1);
        }
        let offset = index.wrapping_mul(WORD_BYTES as u64);
        self.difference_in_few(offset, words.remainder()).map(|more| at + more)
    }

    /// The byte at `offset`.
    #[must_use]
    pub fn byte(&self, offset: u64) -> u8 {
        let within = (offset % WORD_BYTES as u64) as usize;
        self.word(offset / WORD_BYTES as u64).to_le_bytes()[within]
    }

    /// The offset at which `bytes` belong, if they are content of this direction at all. Needs
    /// [`PLACE_BYTES`] bytes to be sure of an answer.
    #[must_use]
    pub fn place_of(&self, bytes: &[u8]) -> Option<u64> {
        (0..WORD_BYTES).find_map(|phase| {
            let first = word(bytes.get(phase..phase + WORD_BYTES)?);
            let second = word(bytes.get(phase + WORD_BYTES..phase + 2 * WORD_BYTES)?);
            let index = self.index_of(first);
            let offset = index.checked_mul(WORD_BYTES as u64)?.checked_sub(phase as u64)?;
            (self.index_of(second) == index.wrapping_add(1)).then_some(offset)
        })
    }

    fn word(&self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_mul(STEP)))
    }

    fn index_of(&self, word: u64) -> u64 {
        unmix(word).wrapping_sub(self.key).wrapping_mul(inverse(STEP))
    }

    fn fill_few(&self, offset: u64, bytes: &mut [u8]) {
        for (byte, at) in bytes.iter_mut().zip(offset..) {
            *byte = self.byte(at);
        }
    }

    fn difference_in_few(&self, offset: u64, bytes: &[u8]) -> Option<usize> {
        bytes.iter().zip(offset..).position(|(byte, at)| *byte != self.byte(at))
    }
}

/// Bytes from `offset` to the next word.
fn lead(offset: u64) -> usize {
    (offset.wrapping_neg() % WORD_BYTES as u64) as usize
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("callers cut words of eight bytes"))
}

/// The finaliser of splitmix64: each step can be undone.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(FIRST);
    let word = (word ^ (word >> 27)).wrapping_mul(SECOND);
    word ^ (word >> 31)
}

fn unmix(word: u64) -> u64 {
    let word = unshift(word, 31).wrapping_mul(inverse(SECOND));
    let word = unshift(word, 27).wrapping_mul(inverse(FIRST));
    unshift(word, 30)
}

/// Undoes `x ^ (x >> by)`: three terms are all for shifts of 22 to 31.
fn unshift(word: u64, by: u32) -> u64 {
    word ^ (word >> by) ^ (word >> (2 * by))
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each round doubles the good bits.
const fn inverse(odd: u64) -> u64 {
    let mut guess = odd;
    let mut round = 0;
    while round < 6 {
        guess = guess.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(guess)));
        round += 1;
    }
    guess
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content() -> impl Strategy<Value = Content> {
        (any::<[u8; 16]>(), any::<bool>()).prop_map(|(token, up)| {
            Content::new(Token(token), if up { Direction::Up } else { Direction::Down })
        })
    }

    fn bytes_at(content: &Content, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        content.fill(offset, &mut bytes);
        bytes
    }

    #[test]
    fn the_two_directions_and_two_connections_differ() {
        let up = Content::new(Token([7; 16]), Direction::Up);
        let down = Content::new(Token([7; 16]), Direction::Down);
        let other = Content::new(Token([8; 16]), Direction::Up);
        assert_ne!(bytes_at(&up, 0, 64), bytes_at(&down, 0, 64));
        assert_ne!(bytes_at(&up, 0, 64), bytes_at(&other, 0, 64));
    }

    proptest! {
        #[test]
        fn a_piece_is_the_same_however_it_is_cut(
            content in content(), offset in 0_u64..1 << 40, length in 0_usize..200, cut in 0_usize..200,
        ) {
            let whole = bytes_at(&content, offset, length);
            let cut = cut.min(length);
            let mut parts = bytes_at(&content, offset, cut);
            parts.extend(bytes_at(&content, offset + cut as u64, length - cut));
            prop_assert_eq!(&whole, &parts);
            let single: Vec<u8> = (offset..offset + length as u64).map(|at| content.byte(at)).collect();
            prop_assert_eq!(&whole, &single);
            prop_assert_eq!(content.first_difference(offset, &whole), None);
        }

        #[test]
        fn one_altered_bit_is_found_where_it_is(
            content in content(), offset in 0_u64..1 << 40, length in 1_usize..200, at in any::<usize>(), bit in 0_u32..8,
        ) {
            let mut bytes = bytes_at(&content, offset, length);
            bytes[at % length] ^= 1 << bit;
            prop_assert_eq!(content.first_difference(offset, &bytes), Some(at % length));
        }

        #[test]
        fn bytes_tell_their_own_place(content in content(), offset in 0_u64..1 << 60) {
            let bytes = bytes_at(&content, offset, PLACE_BYTES);
            prop_assert_eq!(content.place_of(&bytes), Some(offset));
        }

        #[test]
        fn mixing_can_be_undone(word in any::<u64>()) {
            prop_assert_eq!(unmix(mix(word)), word);
        }

        #[test]
        fn foreign_bytes_have_no_place_and_no_panic(
            content in content(), bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            // Two random words in sequence: one chance in 2^60.
            prop_assert_eq!(content.place_of(&bytes), None);
        }
    }
}
