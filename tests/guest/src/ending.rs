//! How a connection ended, in words that both ends' logs share.

use std::io;

use serde::{Deserialize, Serialize};

use crate::traffic::Fault;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// The one that opened it.
    Client,
    /// The one that accepted it.
    Server,
}

/// How a connection ended, if it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case")]
pub enum Ending {
    /// It has not.
    Open,
    /// Both directions came to their end frame and FIN.
    Fin {
        /// Whose FIN came first.
        by: Party,
    },
    /// A RST.
    Rst {
        /// Who sent it, as far as this end can know.
        by: Party,
    },
    /// Nobody answered, until TCP gave up.
    TimedOut,
    /// The connection was not accepted.
    Refused,
    /// Something was wrong with what came; this end then sent RST.
    Faulted {
        /// What, and where.
        fault: Fault,
    },
    /// Another error of the system.
    Failed {
        /// What it said.
        error: String,
    },
}

impl Ending {
    /// What a socket's `error` means at the end that has `peer` at the other one.
    #[must_use]
    pub fn of_error(error: &io::Error, peer: Party) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Rst { by: peer },
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Failed { error: error.to_string() },
        }
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }
}
