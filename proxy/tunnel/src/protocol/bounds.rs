//! Every bound of the protocol, and the ones that an operator may set.

/// What both ends must speak; the first field of every greeting.
pub const PROTOCOL_VERSION: u16 = 1;

/// Most bytes of a stream in one frame, before compression. It is what a stream sends in its turn:
/// at 100 Mbit/s another one waits 10 ms.
pub const CHUNK_BYTES_MAX: usize = 128 * 1024;

/// Longest frame on a bulk connection: a chunk that did not shrink, and its header.
pub const BULK_FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + 32;

/// Longest frame on the control connection. Held packets, at most 9,000 bytes, will fit.
pub const CONTROL_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Longest packet of a VM.
pub const PACKET_BYTES_MAX: usize = 9_000;

/// Most bytes that are held for one VM: at the end that it leaves, and at the one that it comes to.
pub const HOLD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most bytes of datagrams that wait until all that was held has come.
pub const DATAGRAMS_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most messages of held packets that the peer has not confirmed: those of streams never wait behind
/// more.
pub const PACKET_MESSAGES_MAX: usize = 128;

/// How long what was held waits, once the VM runs, for what was left in its port and goes before it.
pub const LEFTOVERS_MS_MAX: u64 = 1_000;

/// Most words about one VM that wait to be said.
pub const NOTES_MAX: usize = 32;

/// Most conversations of one VM that are known of one other place.
pub const TUPLES_MAX: usize = 65_536;

/// How long what was under way is handed on when a VM has left.
pub const RELAY_MS_MAX: u64 = 5_000;

/// How long keys are good after a new control connection, if nothing comes under its own.
pub const OLD_KEYS_MS_MAX: u64 = 2_000;

/// Most packets of one peer of which one part has come.
pub const PARTS_WAITING_MAX: usize = 64;

/// How long a part waits for the other.
pub const PART_MS_MAX: u64 = 500;

/// Longest greeting, before anything is agreed.
pub const GREETING_BYTES_MAX: usize = 4 * 1024;

/// Most bulk connections of a session. With more, BBR fills the bottleneck's queue.
pub const BULK_LANES_MAX: usize = 2;

/// Most streams that either end may ask to have open at once, whatever an operator sets.
pub const STREAMS_CEILING: u16 = 64;

/// Largest window that either end may offer, whatever an operator sets.
pub const WINDOW_BYTES_CEILING: u32 = 64 * 1024 * 1024;

/// Most numbered messages that wait for the peer's word; streams are refused at half of it.
pub const MESSAGES_UNCONFIRMED_MAX: usize = 2_048;

/// Most connections of one session that are still greeting.
pub const GREETINGS_MAX: usize = 8;

/// Longest greeting in time.
pub const GREETING_MS_MAX: u64 = 5_000;

/// A connection that has sent nothing for so long sends a ping.
pub const PING_MS: u64 = 1_000;

/// A connection that has heard nothing for so long is dead, and is dialled again.
pub const SILENCE_MS_MAX: u64 = 3_500;

/// Longest wait for the far end to answer an open: its own dialling is shorter.
pub const OPEN_MS_MAX: u64 = 15_000;

/// Longest text in which an opener names the address that it means.
pub const WANTED_BYTES_MAX: usize = 200;

/// What one end grants itself and offers its peer.
///
/// Memory per session is at most `2 * streams_max * (window_bytes + send_buffer_bytes)`, and comes
/// near it only when every reader has stopped and the WAN is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a stream that this end keeps for a slow reader; what the WAN's bandwidth times its
    /// round trip needs, or the stream is slower than the WAN.
    pub window_bytes: u32,
    /// Bytes of a stream that this end keeps until the peer has them.
    pub send_buffer_bytes: u32,
    /// Streams that the peer may have open at once.
    pub streams_max: u16,
    /// Bulk connections; the smaller of both ends' numbers counts.
    pub bulk_lanes: u8,
    /// How long streams wait for a lost connection before they are reset.
    pub resume_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            window_bytes: 16 * 1024 * 1024,
            send_buffer_bytes: 16 * 1024 * 1024,
            streams_max: 16,
            bulk_lanes: 2,
            resume_ms_max: 60_000,
        }
    }
}

/// A limit that the protocol cannot keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tunnel limit {name} is {value}; write {least} to {most}")]
pub struct LimitError {
    /// Which.
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The smallest that works.
    pub least: u64,
    /// The largest that works.
    pub most: u64,
}

impl Limits {
    /// Whether the protocol can keep them.
    ///
    /// # Errors
    /// The first that it cannot.
    pub fn check(&self) -> Result<(), LimitError> {
        let chunk = CHUNK_BYTES_MAX as u64;
        let within = |name, value: u64, least: u64, most: u64| {
            let fits = (least..=most).contains(&value);
            if fits { Ok(()) } else { Err(LimitError { name, value, least, most }) }
        };
        let window = u64::from(WINDOW_BYTES_CEILING);
        within("window_bytes", self.window_bytes.into(), chunk, window)?;
        within("send_buffer_bytes", self.send_buffer_bytes.into(), chunk, window)?;
        within("streams_max", self.streams_max.into(), 1, STREAMS_CEILING.into())?;
        within("bulk_lanes", self.bulk_lanes.into(), 1, BULK_LANES_MAX as u64)?;
        within("resume_ms_max", self.resume_ms_max, 1_000, 3_600_000)
    }
}
