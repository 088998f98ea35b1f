//! The guest's own log of its connections, to be held against the clients' reports.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ending::Ending;
use crate::flows::FlowRecord;
use crate::traffic::Token;
use crate::traffic::session::SessionEntry;

/// Ended connections that the log keeps; the oldest ones go first, and are counted.
pub const ENDED_MAX: usize = 65_536;

/// One accepted connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Counts the connections that this server accepted.
    pub id: u64,
    /// Our address.
    pub local: SocketAddr,
    /// The client's address, as seen here.
    pub peer: SocketAddr,
    /// The connection's token.
    pub token: Token,
    /// When it was accepted, in milliseconds of the Unix epoch.
    pub opened_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Asks that were answered.
    pub asks: u64,
    /// Payload bytes that came and were right.
    pub verified: u64,
    /// Payload bytes sent, of whole answers.
    pub sent: u64,
    /// How it ended.
    pub ending: Ending,
}

/// All that one server has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Connections accepted: those that ended, then the open ones.
    pub accepted: Vec<Accepted>,
    /// Ended ones that [`ENDED_MAX`] pushed out of `accepted`.
    pub accepted_dropped: u64,
    /// Connections that we opened ourselves.
    pub opened: Vec<FlowRecord>,
    /// UDP sessions.
    pub sessions: Vec<SessionEntry>,
}

/// Ended connections, at most [`ENDED_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Ended {
    entries: VecDeque<Accepted>,
    dropped: u64,
}

impl Ended {
    pub(crate) fn push(&mut self, entry: Accepted) {
        if self.entries.len() == ENDED_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Accepted> {
        self.entries.iter()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
