//! What a stream and a session have moved, so that the bytes on the wire can be audited.

use std::ops::AddAssign;

/// One direction of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes of the program, once each.
    pub raw_bytes: u64,
    /// The same bytes as chunks carry them, once each.
    pub payload_bytes: u64,
    /// Chunk bytes sent or received again after a reconnection.
    pub again_bytes: u64,
    /// Chunks, once each.
    pub chunks: u64,
}

/// Both directions of a stream, or of all streams of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamTally {
    /// Towards the peer.
    pub sent: Flow,
    /// From the peer.
    pub received: Flow,
    /// Bytes received that the program here has taken.
    pub delivered_bytes: u64,
    /// Bytes sent that the program there has taken, as far as is known.
    pub confirmed_bytes: u64,
}

/// All connections of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionTally {
    /// Bytes of frames given to connections, headers included, before TLS.
    pub sent_bytes: u64,
    /// Bytes of frames taken from connections, before TLS.
    pub received_bytes: u64,
    /// Numbered messages sent again after a reconnection.
    pub messages_again: u64,
    /// Frames for streams that are over, dropped.
    pub stray_frames: u64,
    /// Times that the control connection came back to a session that went on.
    pub resumptions: u64,
}

impl AddAssign for Flow {
    fn add_assign(&mut self, other: Flow) {
        self.raw_bytes += other.raw_bytes;
        self.payload_bytes += other.payload_bytes;
        self.again_bytes += other.again_bytes;
        self.chunks += other.chunks;
    }
}

impl AddAssign for StreamTally {
    fn add_assign(&mut self, other: StreamTally) {
        self.sent += other.sent;
        self.received += other.received;
        self.delivered_bytes += other.delivered_bytes;
        self.confirmed_bytes += other.confirmed_bytes;
    }
}
