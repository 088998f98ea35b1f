//! Why a runner stopped before its saga's end. All but one are cured by resuming it.

use std::fmt;

use crate::journal::JournalError;
use crate::names::{Fence, SagaName};
use crate::record::{Kind, RecordError};
use crate::room::Trouble;

/// How far a saga has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Before its release: everything can be undone.
    Revocable,
    /// Its release was given, or may have been, and no verdict on the pivot is known.
    InDoubt,
    /// Past its pivot: it only goes forward.
    PastPivot,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revocable => "before its release; resuming undoes the rest",
            Self::InDoubt => "in doubt between release and pivot; resuming asks again",
            Self::PastPivot => "past its pivot; resuming goes forward",
        })
    }
}

/// A step as a message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepName {
    pub(crate) step: String,
    pub(crate) kind: Option<Kind>,
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Some(Kind::Question) => "question ",
            Some(Kind::Fence) => "fence ",
            Some(Kind::Reversible) => "reversible step ",
            Some(Kind::Release) => "release ",
            Some(Kind::Pivot) => "pivot ",
            Some(Kind::Onward) => "onward step ",
            None => "",
        };
        write!(f, "{kind}{}", self.step)
    }
}

/// Why a runner stopped. Nothing was undone on its account.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Tried often enough for now.
    #[error(
        "saga {saga} gave up for now at {step}: it is {standing}; repair what is named next, then resume it"
    )]
    GaveUp {
        /// The saga.
        saga: SagaName,
        /// Where.
        step: String,
        /// How far it is.
        standing: Standing,
        /// What the last try said.
        #[source]
        source: Trouble,
    },
    /// Another runner has the saga.
    #[error(
        "saga {saga} is driven by another runner (it has {found} records, this one knows {expected}); leave it to that one"
    )]
    Superseded {
        /// The saga.
        saga: SagaName,
        /// What this runner knew.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Another saga has registered the fence, so the pivot was not sent.
    #[error(
        "saga {saga} did not send its pivot: it registered {ours}, and {newest} has been registered since; find out by whom, and resume this saga only if it is to take over again"
    )]
    Fenced {
        /// The saga.
        saga: SagaName,
        /// What it had registered.
        ours: Fence,
        /// What somebody registered since.
        newest: u64,
    },
    /// The journal failed. Whether the last record is in it is not known.
    #[error("saga {saga} cannot use its journal; resume it when the journal works again")]
    Journal {
        /// The saga.
        saga: SagaName,
        /// What it said.
        #[source]
        source: JournalError,
    },
    /// The journal has what this release cannot read, or the saga has what cannot be written.
    #[error("saga {saga}: {what}")]
    Record {
        /// The saga.
        saga: SagaName,
        /// Which record.
        what: String,
        /// What is wrong with it, and what to do.
        #[source]
        source: RecordError,
    },
    /// The saga has as many records as one may have.
    #[error(
        "saga {saga} has {} records, the most that one may have; it can only be ended by hand",
        crate::journal::RECORDS_MAX
    )]
    TooLong {
        /// The saga.
        saga: SagaName,
    },
    /// The workflow is not the one that wrote the journal. Resuming does not cure it.
    #[error(
        "saga {saga}, attempt {attempt}: the program has changed: at place {place} the journal has {journal}, and the program asks for {program}; run the release that began this saga"
    )]
    ProgramChanged {
        /// The saga.
        saga: SagaName,
        /// In which attempt.
        attempt: u32,
        /// Which step of it, from 1.
        place: usize,
        /// What the journal has there.
        journal: StepName,
        /// What the program asks for.
        program: StepName,
    },
}
