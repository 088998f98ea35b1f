//! The header before each piece of payload.

use super::Token;

/// The length of a header.
pub const HEADER_BYTES: usize = 48;

/// Longest payload of one frame. Nothing is allocated for it: payload is checked as it passes.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;

const MAGIC: [u8; 4] = *b"CwF1";

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the client: answer this with one frame of `want` bytes.
    Ask,
    /// From the server: the answer to the ask of the same number.
    Answer,
    /// The last frame of a direction; a FIN follows. A server's has answered every ask.
    End,
    /// The last frame of a server that was told to end the connection, whatever is still asked.
    Leave,
}

/// One frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// Frames of this direction before it.
    pub number: u64,
    /// Payload bytes of this direction before it.
    pub payload_offset: u64,
    /// Payload bytes that follow, at most [`PAYLOAD_BYTES_MAX`].
    pub length: u32,
    /// Payload bytes wanted in answer, at most [`PAYLOAD_BYTES_MAX`].
    pub want: u32,
    /// Payload bytes of the other direction that the sender has verified so far.
    pub verified: u64,
}

impl Header {
    /// The header as bytes. `token` enters the checksum alone, so that a frame of one connection is
    /// none of another.
    #[must_use]
    pub fn encode(&self, token: Token) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = match self.kind {
            Kind::Ask => 1,
            Kind::Answer => 2,
            Kind::End => 3,
            Kind::Leave => 4,
        };
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.want.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.verified.to_le_bytes());
        let checksum = checksum(&bytes, token);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header of the connection that `token` names; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES], token: Token) -> Option<Self> {
        if bytes[..4] != MAGIC || bytes[44..] != checksum(bytes, token).to_le_bytes() {
            return None;
        }
        let kind = match bytes[4] {
            1 => Kind::Ask,
            2 => Kind::Answer,
            3 => Kind::End,
            4 => Kind::Leave,
            _ => return None,
        };
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let header = Self {
            kind,
            number: long(8),
            payload_offset: long(16),
            length: short(24),
            want: short(28),
            verified: long(32),
        };
        let bounded = header.length <= PAYLOAD_BYTES_MAX && header.want <= PAYLOAD_BYTES_MAX;
        bounded.then_some(header)
    }
}

fn checksum(bytes: &[u8; HEADER_BYTES], token: Token) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&token.0);
    hasher.update(&bytes[..44]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_comes_back_for_its_own_connection_only(
            kind in prop_oneof![Just(Kind::Ask), Just(Kind::Answer), Just(Kind::End), Just(Kind::Leave)],
            number in any::<u64>(), payload_offset in any::<u64>(), verified in any::<u64>(),
            length in 0..=PAYLOAD_BYTES_MAX, want in 0..=PAYLOAD_BYTES_MAX,
            token in any::<[u8; 16]>(), at in 0..HEADER_BYTES, bit in 0_u32..8,
        ) {
            let header = Header { kind, number, payload_offset, length, want, verified };
            let mut bytes = header.encode(Token(token));
            prop_assert_eq!(Header::decode(&bytes, Token(token)), Some(header));
            let mut other = token;
            other[at % 16] ^= 1 << bit;
            prop_assert_eq!(Header::decode(&bytes, Token(other)), None);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Header::decode(&bytes, Token(token)), None);
        }

        #[test]
        fn no_header_promises_more_than_the_bound(bytes in any::<[u8; HEADER_BYTES]>(), length in any::<u32>()) {
            let token = Token([0; 16]);
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4] = 1;
            bytes[24..28].copy_from_slice(&length.to_le_bytes());
            let sum = checksum(&bytes, token);
            bytes[44..].copy_from_slice(&sum.to_le_bytes());
            if let Some(header) = Header::decode(&bytes, token) {
                prop_assert!(header.length <= PAYLOAD_BYTES_MAX && header.want <= PAYLOAD_BYTES_MAX);
            }
        }
    }
}
