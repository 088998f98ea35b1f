//! Known bytes to send, and a check of what arrives.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BLOCK: usize = 64 * 1024;

/// Bytes that follow from a seed.
pub(crate) struct Data {
    state: u64,
    /// Every second block repeats one byte, so that half shrinks to nothing.
    mixed: bool,
    count: u64,
}

impl Data {
    pub(crate) fn noise(seed: u64) -> Data {
        Data { state: seed, mixed: false, count: 0 }
    }

    pub(crate) fn mixed(seed: u64) -> Data {
        Data { state: seed, mixed: true, count: 0 }
    }

    fn block(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word = (self.state ^ self.state >> 31).to_le_bytes();
            block.extend_from_slice(&word);
        }
        if self.mixed && self.count.is_multiple_of(2) {
            let byte = block[0];
            block.fill(byte);
        }
        block
    }
}

/// Writes `blocks` blocks, and ends.
pub(crate) async fn send(mut to: impl AsyncWriteExt + Unpin, mut data: Data, blocks: u64) {
    for _ in 0..blocks {
        to.write_all(&data.block()).await.unwrap();
    }
    to.shutdown().await.unwrap();
}

/// Reads to the end; panics at the first byte that is not the sender's.
pub(crate) async fn check(mut from: impl AsyncReadExt + Unpin, mut data: Data, blocks: u64) {
    let mut read = vec![0; BLOCK];
    for number in 0..blocks {
        from.read_exact(&mut read).await.unwrap();
        assert!(read == data.block(), "block {number} of {blocks} differs");
    }
    assert_eq!(from.read(&mut read).await.unwrap(), 0, "more came than was sent");
}

pub(crate) fn bytes(blocks: u64) -> u64 {
    blocks * BLOCK as u64
}

pub(crate) fn blocks(bytes: u64) -> u64 {
    bytes / BLOCK as u64
}
