//! What a journal holds of a saga: its events, in order, each in a record with a version.
//!
//! Nothing but this file knows how an event is written. A release reads every version that an older
//! one has written, and refuses a newer one by name.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::Fence;

/// The version that this release writes.
pub const RECORD_VERSION: u32 = 1;

/// Longest payload of a record: outcomes are facts about an effect, never its data.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Longest reason that is kept; what is longer is cut.
pub const REASON_BYTES_MAX: usize = 4 * 1024;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How the payload is to be read.
    pub version: u32,
    /// When it was written, by the wall clock, for reports; nothing is decided by it.
    pub at_unix_ms: u64,
    /// The event, as JSON of at most [`PAYLOAD_BYTES_MAX`].
    pub payload: String,
}

/// Why a record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer release wrote it.
    #[error(
        "the record has version {found}, and this release reads up to {RECORD_VERSION}; run the release that wrote it, or a newer one"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// The payload is no event.
    #[error("the record is not readable as an event; restore the journal from a backup")]
    Unreadable(#[source] serde_json::Error),
    /// The value cannot be written as JSON.
    #[error("the value cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// The payload is longer than allowed.
    #[error(
        "the record would take {bytes} bytes, and {PAYLOAD_BYTES_MAX} are allowed; an outcome keeps facts about an effect, not its data"
    )]
    TooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// The events do not follow from each other.
    #[error(
        "the event {event} cannot follow what stands before it; restore the journal from a backup"
    )]
    OutOfPlace {
        /// The event's name.
        event: &'static str,
    },
}

/// What sort of thing a step is to its workflow. Part of what a replay compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A question, without effect.
    Question,
    /// A fence registered in the journal.
    Fence,
    /// A step that can be undone.
    Reversible,
    /// The word given that only evidence takes back.
    Release,
    /// The point of no return.
    Pivot,
    /// A step that only goes forward.
    Onward,
}

/// Why a saga, or one attempt of it, turned back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Cause {
    /// The runner ended in the middle of it. What it did is undone, and the next attempt begins.
    Interrupted,
    /// The runner ended in the middle of it once too often.
    InterruptedTooOften,
    /// A step could not be done.
    Failed {
        /// Its id.
        step: String,
        /// What it said.
        reason: String,
    },
    /// The remote party of the pivot refused.
    Refused {
        /// The pivot's id.
        step: String,
    },
    /// Somebody asked for it.
    Aborted {
        /// Who or why, in their words.
        reason: String,
    },
    /// The workflow itself decided so.
    Decided {
        /// Why.
        reason: String,
    },
}

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum Ended {
    /// It went all the way.
    Completed {
        /// What the workflow returned.
        output: Value,
    },
    /// Nothing of it is left.
    Undone {
        /// Why.
        cause: Cause,
    },
}

/// What happened. Everything that a resumption knows is a fold over these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The saga exists: attempt 1, incarnation 1.
    Opened {
        /// The workflow's name.
        workflow: String,
        /// What it was given.
        input: Value,
    },
    /// Another runner goes on with it.
    Resumed {
        /// Which one, counted from 1.
        incarnation: u32,
    },
    /// That runner registered a fence of its own, to take over what its predecessor began.
    TookOver {
        /// The counter and its new value.
        fence: Fence,
    },
    /// The next attempt begins.
    Began {
        /// Which one, counted from 1.
        attempt: u32,
    },
    /// A question was answered.
    Answered {
        /// The step's id.
        step: String,
        /// The answer.
        answer: Value,
    },
    /// A fence was registered.
    Registered {
        /// The step's id.
        step: String,
        /// The counter and its new value.
        fence: Fence,
    },
    /// A step is about to have its effect. For a pivot: from here on there is no turning back but
    /// by its remote party's refusal.
    Started {
        /// The step's id.
        step: String,
        /// What sort of step.
        kind: Kind,
    },
    /// A step is about to be tried again.
    Again {
        /// The step's id.
        step: String,
        /// Why the last try does not count.
        reason: String,
    },
    /// A step has had its effect.
    Done {
        /// The step's id.
        step: String,
        /// What it brought.
        outcome: Value,
    },
    /// Somebody asked to abort, and was promised it.
    AbortRequested {
        /// Who or why.
        reason: String,
    },
    /// The attempt is undone from here on.
    TurnedBack {
        /// Why.
        cause: Cause,
    },
    /// The pivot is about to be asked to refuse for ever.
    Refusing {
        /// The pivot's id.
        step: String,
    },
    /// The pivot was refused for ever.
    Refused {
        /// The pivot's id.
        step: String,
        /// The refusal.
        evidence: Value,
    },
    /// A step is about to be undone, or once more.
    Undoing {
        /// The step's id.
        step: String,
    },
    /// A step is undone.
    Undone {
        /// The step's id.
        step: String,
    },
    /// The runner stopped trying for now.
    GaveUp {
        /// At which step.
        step: String,
        /// What the last try said.
        reason: String,
    },
    /// What taking over left at the parties is about to be given back.
    GivingBack,
    /// The saga is over.
    Ended(Ended),
}

impl Event {
    /// What the event is called in messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Resumed { .. } => "resumed",
            Self::TookOver { .. } => "took-over",
            Self::Began { .. } => "began",
            Self::Answered { .. } => "answered",
            Self::Registered { .. } => "registered",
            Self::Started { .. } => "started",
            Self::Again { .. } => "again",
            Self::Done { .. } => "done",
            Self::AbortRequested { .. } => "abort-requested",
            Self::TurnedBack { .. } => "turned-back",
            Self::Refusing { .. } => "refusing",
            Self::Refused { .. } => "refused",
            Self::Undoing { .. } => "undoing",
            Self::Undone { .. } => "undone",
            Self::GaveUp { .. } => "gave-up",
            Self::GivingBack => "giving-back",
            Self::Ended(_) => "ended",
        }
    }

    /// Writes the event as a record of this release's version.
    pub fn encode(&self, at_unix_ms: u64) -> Result<Record, RecordError> {
        let payload = serde_json::to_string(self).map_err(RecordError::Unwritable)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(RecordError::TooLarge { bytes: payload.len() });
        }
        Ok(Record { version: RECORD_VERSION, at_unix_ms, payload })
    }

    /// Reads the event of a record.
    pub fn decode(record: &Record) -> Result<Self, RecordError> {
        if record.version > RECORD_VERSION {
            return Err(RecordError::Newer { found: record.version });
        }
        serde_json::from_str(&record.payload).map_err(RecordError::Unreadable)
    }
}

/// Reads the events of a saga, for whoever reports on it.
pub fn events(records: &[Record]) -> Result<Vec<Event>, RecordError> {
    records.iter().map(Event::decode).collect()
}

/// Cuts a reason to what a record keeps of it.
pub(crate) fn bounded(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(end);
    }
    reason
}
