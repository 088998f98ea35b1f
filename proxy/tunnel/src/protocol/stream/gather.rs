//! A queue of bytes whose memory is near its length, however small the pieces that come in.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces below this are copied together: each on its own would cost more in bookkeeping, and keep
/// alive the large buffer that it was cut from.
const PIECE_BYTES_MIN: usize = 16 * 1024;

/// Small pieces are gathered up to this length.
const GATHER_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Gather {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    length: usize,
}

impl Gather {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if bytes.len() >= PIECE_BYTES_MIN {
            self.close_tail();
            self.pieces.push_back(bytes);
            return;
        }
        if self.tail.len() + bytes.len() > GATHER_BYTES {
            self.close_tail();
        }
        self.tail.extend_from_slice(&bytes);
    }

    /// The first bytes, as many as lie together.
    pub(super) fn front(&mut self) -> Option<&Bytes> {
        if self.pieces.is_empty() {
            self.close_tail();
        }
        self.pieces.front()
    }

    /// Drops the first `count` bytes, which must be there.
    pub(super) fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.length, "more taken than there is");
        self.length -= count;
        while count > 0 {
            let Some(front) = self.front() else { return };
            let step = count.min(front.len());
            count -= step;
            let front = self.pieces.front_mut().expect("just seen");
            front.advance(step);
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Takes the first `count` bytes, which must be there, in one piece.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        debug_assert!(count <= self.length, "more taken than there is");
        let front = self.front().map_or(0, Bytes::len);
        if front >= count {
            let front = self.pieces.front_mut().expect("just seen");
            let taken = front.split_to(count);
            if front.is_empty() {
                self.pieces.pop_front();
            }
            self.length -= count;
            return taken;
        }
        let mut whole = BytesMut::with_capacity(count);
        while whole.len() < count {
            let Some(front) = self.front() else { break };
            let step = (count - whole.len()).min(front.len());
            whole.extend_from_slice(&front[..step]);
            self.advance(step);
        }
        whole.freeze()
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_come_out_as_they_went_in() {
        let mut gather = Gather::default();
        let whole: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let mut rest = &whole[..];
        for step in [1, 5, 20_000, 3, 70_000, 40_000, 16_384, 1, 1, 999_999] {
            let (piece, after) = rest.split_at(step.min(rest.len()));
            gather.push(Bytes::copy_from_slice(piece));
            rest = after;
        }
        assert_eq!(gather.len(), whole.len());
        let mut out = Vec::new();
        for step in [2, 30_000, 1, 100_000, 7] {
            out.extend_from_slice(&gather.take(step));
        }
        while let Some(front) = gather.front().cloned() {
            out.extend_from_slice(&front);
            gather.advance(front.len());
        }
        assert_eq!(out, whole);
        assert_eq!(gather.len(), 0);
    }

    #[test]
    fn small_pieces_are_kept_together() {
        let mut gather = Gather::default();
        for _ in 0..GATHER_BYTES {
            gather.push(Bytes::from_static(b"x"));
        }
        assert_eq!(gather.pieces.len(), 0);
        assert_eq!(gather.front().map(Bytes::len), Some(GATHER_BYTES));
    }
}
