//! How much of everything a control server takes.

use std::time::Duration;

/// The bounds of a control server; `default` is what daemons run with.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Handshakes at a time, from callers of whom nothing is known yet. Further ones wait in the
    /// listener's queue.
    pub handshakes_max: usize,
    /// A handshake may take this long.
    pub handshake_ms_max: u64,
    /// Connections at a time of callers with an identity. Further ones are closed.
    pub connections_max: usize,
    /// A request's head may take this long, counted from the last reply: so long may a connection
    /// lie idle.
    pub head_ms_max: u64,
    /// Bytes of a request's head; a longer one is answered 431.
    pub head_bytes_max: usize,
    /// Header fields of a request.
    pub header_fields_max: usize,
    /// A request's body may take this long.
    pub body_ms_max: u64,
    /// Bytes of a request's body; a longer one is answered 413.
    pub body_bytes_max: usize,
    /// A caller that takes nothing of its reply for this long is gone.
    pub unread_ms_max: u32,
    /// What is being answered when the server stops may take this long.
    pub stop_ms_max: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            handshakes_max: 64,
            handshake_ms_max: 5_000,
            connections_max: 256,
            head_ms_max: 30_000,
            head_bytes_max: 16 * 1024,
            header_fields_max: 64,
            body_ms_max: 10_000,
            body_bytes_max: 1024 * 1024,
            unread_ms_max: 30_000,
            stop_ms_max: 5_000,
        }
    }
}

impl Bounds {
    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms_max)
    }

    pub(super) fn head(&self) -> Duration {
        Duration::from_millis(self.head_ms_max)
    }

    pub(super) fn body(&self) -> Duration {
        Duration::from_millis(self.body_ms_max)
    }

    pub(super) fn stop(&self) -> Duration {
        Duration::from_millis(self.stop_ms_max)
    }
}
