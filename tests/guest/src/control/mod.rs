//! The guest's control port: one JSON object to a line, one line of answer to each command.

mod client;
mod port;

pub use client::{Control, ControlError};
pub(crate) use port::ControlPort;

use serde::{Deserialize, Serialize};

use crate::dirty::{DirtyCounters, DirtyRate};
use crate::flows::plan::FlowSpec;
use crate::kernel::KernelDrops;
use crate::log::Log;
use crate::records::RecorderStatus;
use crate::server::{CloseHow, Filter, ServerCounters};
use crate::traffic::Token;

/// Longest line of a command.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Longest line of an answer: a full log.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What the guest can be told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Tell all that was seen.
    Log,
    /// End connections, accepted and opened ones alike.
    Close {
        /// Which.
        #[serde(default)]
        filter: Filter,
        /// How.
        how: CloseHow,
    },
    /// Dirty memory at this rate.
    Dirty(DirtyRate),
    /// Write records at this rate; 0 pauses.
    Records {
        /// Records in each second.
        per_second: u32,
    },
    /// Tell the counters.
    Counters,
    /// Open connections to a neighbour and keep them going.
    Connect(FlowSpec),
    /// Let these opened connections send nothing, or speak again.
    Silence {
        /// Their ids in the log.
        flows: Vec<usize>,
        /// Whether they are to be silent.
        silent: bool,
    },
}

/// What the guest answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// All that was seen.
    Log(Log),
    /// So many things were changed.
    Done {
        /// How many.
        count: usize,
    },
    /// The counters.
    Counters(Box<Counters>),
    /// The command cannot be obeyed; nothing was changed.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What the guest has counted since its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Drawn anew by every start of the guest program; also in its records.
    pub boot: Token,
    /// Milliseconds since the start.
    pub up_ms: u64,
    /// The checked service.
    pub server: ServerCounters,
    /// Connections that we opened ourselves.
    pub opened: usize,
    /// The recorder; unset where there is no disk.
    pub records: Option<RecorderStatus>,
    /// Dirtied memory.
    pub dirty: DirtyCounters,
    /// What the kernel has dropped.
    pub drops: KernelDrops,
}
