//! What a client reports of its flows and sessions.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::plan::Mode;
use crate::ending::Ending;
use crate::traffic::Token;
use crate::traffic::session::Counts;

/// When a flow's socket was opened: no other is opened after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// With the start.
    Start,
    /// By a later command.
    New,
}

/// One TCP flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Counts the flows of this client.
    pub id: usize,
    /// When its socket was opened.
    pub pool: Pool,
    /// What it does.
    pub mode: Mode,
    /// Our address; unset where the connection never came to be.
    pub local: Option<SocketAddr>,
    /// The server's address, as we called it.
    pub peer: SocketAddr,
    /// Our address as the server sees it.
    pub seen: Option<SocketAddr>,
    /// The server's token.
    pub token: Option<Token>,
    /// When it was opened, in milliseconds of the Unix epoch.
    pub opened_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Messages sent.
    pub asks: u64,
    /// Messages answered.
    pub answers: u64,
    /// Messages that were due while too many waited for their answer.
    pub skipped: u64,
    /// Payload bytes sent, of whole messages.
    pub sent: u64,
    /// Of these, how many the server has said it verified.
    pub verified_up: u64,
    /// Payload bytes that came and were right.
    pub verified_down: u64,
    /// Longest time without a byte while an answer was owed.
    pub stall_us_max: u64,
    /// How it ended, if it did.
    pub ending: Ending,
}

/// One UDP session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Counts the sessions of this client.
    pub id: usize,
    /// Our address.
    pub local: SocketAddr,
    /// The server's address, as we called it.
    pub peer: SocketAddr,
    /// Our random number for the session.
    pub nonce: u64,
    /// The server's token, from its first answer.
    pub token: Option<Token>,
    /// A second token: the server had forgotten the session.
    pub token_changed: Option<Token>,
    /// Numbered datagrams sent.
    pub sent: u64,
    /// Numbered datagrams that the system would not take.
    pub unsent: u64,
    /// What the server has counted, as of its latest answer.
    pub at_server: Counts,
    /// What we have counted of its answers.
    pub answers: Counts,
    /// Datagrams that were no answer to us: altered, or foreign.
    pub foreign: u64,
    /// Whether the server has told its counts after our last datagram; without it `at_server` may
    /// lag behind.
    pub settled: bool,
    /// Longest time without an answer while one was owed.
    pub stall_us_max: u64,
    /// The first error of the system, such as an ICMP message.
    pub error: Option<String>,
}

impl SessionRecord {
    /// Datagrams lost on the way to the server.
    #[must_use]
    pub fn lost_up(&self) -> u64 {
        self.sent.saturating_sub(self.at_server.received + self.at_server.ancient)
    }

    /// Answers lost on the way back.
    #[must_use]
    pub fn lost_down(&self) -> u64 {
        let (there, here) = (&self.at_server, &self.answers);
        let answered = there.received + there.duplicates + there.ancient;
        answered.saturating_sub(here.received + here.duplicates + here.ancient)
    }

    /// Whether the server still knows the session as the one it was.
    #[must_use]
    pub fn still_known(&self) -> bool {
        self.token.is_some() && self.token_changed.is_none()
    }
}

/// Everything, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// TCP, in the order of their ids.
    pub flows: Vec<FlowRecord>,
    /// UDP, in the order of their ids.
    pub sessions: Vec<SessionRecord>,
    /// Sockets opened with the start.
    pub sockets_at_start: usize,
    /// Sockets opened since, by command.
    pub sockets_new: usize,
}
