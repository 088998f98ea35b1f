//! The checked clients as a program of their own, told what to do line by line on its standard input.
//!
//! It opens no socket after its start but by [`Command::Open`], and counts those apart. It ends when
//! its input does, so that it does not outlive whoever started it.

mod program;
mod remote;

pub use program::{ProgramError, run};
pub use remote::{Clients, ClientsError};

use serde::{Deserialize, Serialize};

use crate::flows::Report;
use crate::flows::plan::{FlowSpec, Plan};

/// Longest line of a command.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Longest line of an answer: a full report.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What clients can be told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Open all of the plan. Answered once every flow has its hello or has failed, at the latest
    /// after `wait_ms`.
    Start {
        /// What to open.
        plan: Plan,
        /// Longest wait for hellos.
        wait_ms: u64,
    },
    /// Open more flows, counted apart; answered as `Start` is.
    Open {
        /// What to open.
        flows: FlowSpec,
        /// Longest wait for hellos.
        wait_ms: u64,
    },
    /// Send no more messages and datagrams.
    Pause,
    /// Go on after a pause.
    Resume,
    /// End this flow by RST.
    Rst {
        /// Its id in the report.
        flow: usize,
    },
    /// Let these flows send nothing, or speak again.
    Silence {
        /// Their ids in the report.
        flows: Vec<usize>,
        /// Whether they are to be silent.
        silent: bool,
    },
    /// Report, and go on.
    Report,
    /// End every flow in order and ask for the last counts of every session; report when all have
    /// ended, at the latest after `wait_ms`, and exit.
    Stop {
        /// Longest wait for ends.
        wait_ms: u64,
    },
}

/// What clients answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// How things stand.
    Report(Report),
    /// The command cannot be obeyed.
    Refused {
        /// Why.
        reason: String,
    },
}
