//! Packet buffers, used again and again.
//!
//! How many there are is bounded by what the links hold ([`crate::PACKETS_HELD_MAX`] each); how many
//! are kept unused, here.

/// How many unused buffers are kept, and made beforehand so that a stream that grows does not wait for
/// memory: 12 MB at an MTU of 1500, the round trip of 1 Gbit/s at 50 ms.
const UNUSED_MAX: usize = 8192;

/// An IP packet in a buffer that has room for the largest.
#[derive(Debug)]
pub(crate) struct Packet {
    buffer: Box<[u8]>,
    length: usize,
}

impl Packet {
    fn new(room_bytes: usize) -> Self {
        // Not zeros: fresh zeros are memory that the kernel has not given yet.
        Self { buffer: vec![0xff; room_bytes].into_boxed_slice(), length: 0 }
    }

    /// Where to read a packet to.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Says how much was read.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length.min(self.buffer.len());
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Buffers of one size.
#[derive(Debug)]
pub(crate) struct Pool {
    room_bytes: usize,
    unused: Vec<Packet>,
}

impl Pool {
    /// A pool whose packets have room for so many bytes.
    pub(crate) fn new(room_bytes: usize) -> Self {
        let unused = (0..UNUSED_MAX).map(|_| Packet::new(room_bytes)).collect();
        Self { room_bytes, unused }
    }

    /// An empty packet.
    pub(crate) fn take(&mut self) -> Packet {
        self.unused.pop().unwrap_or_else(|| Packet::new(self.room_bytes))
    }

    /// Takes a packet back that is no longer needed.
    pub(crate) fn give_back(&mut self, packet: Packet) {
        if self.unused.len() < UNUSED_MAX {
            self.unused.push(packet);
        }
    }
}
