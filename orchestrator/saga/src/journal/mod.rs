//! The write-ahead journal: where a saga's records lie, and the one way to add to them.
//!
//! A journal promises four things, and a saga's safety rests on nothing else:
//!
//! - **Append compares.** A record is added only if the saga has as many as the writer believes.
//!   Of two runners that drive one saga, the first to write wins, and the other is told before its
//!   next effect.
//! - **An acknowledged record is durable**, over a crash of the process and of the machine.
//! - **Fences only grow**, and a record can be made to depend on one: raised, or still the newest,
//!   in the same transaction as the record itself.
//! - **Names are unique for ever**: a saga begins with an append that expects no record.
//!
//! A refused append has written nothing. One that failed ([`JournalError`]) may have: whoever
//! drives the saga stops, and reads again before going on.

pub mod memory;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::names::{Fence, SagaName};
use crate::record::Record;

/// A future in a box, so that journals and clocks can be chosen at run time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Most records of one saga. A step that is tried for weeks stays far below; a loop does not.
pub const RECORDS_MAX: u64 = 1_000_000;

/// One record to be added, and on what conditions.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose record.
    pub saga: SagaName,
    /// How many records the saga has, as its writer believes. 0 makes the saga.
    pub expected: u64,
    /// The record.
    pub record: Record,
    /// What else must hold, or comes to hold with it.
    pub guard: Guard,
}

/// What an append does with a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    None,
    /// The record is added only while the counter has exactly this value.
    Holds(Fence),
    /// The counter takes this value with the record, and only if its present one is lower. One that
    /// nobody registered is at 0.
    Raises(Fence),
}

/// An append that was not made.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has written to the saga. Whoever is told so drives it no longer.
    #[error("the saga has {found} records, its writer believed {expected}")]
    Conflict {
        /// What the writer believed.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The counter does not have the value, or has it already or more.
    #[error("the newest value of {} is {newest}, not {}", wanted.name, wanted.value)]
    Fence {
        /// What was wanted.
        wanted: Fence,
        /// What there is.
        newest: u64,
    },
    /// It failed, and may have been made.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A journal that cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No room.
    #[error("journal {journal}: is full; make room on its disk, or raise its size limit")]
    Full {
        /// Which journal.
        journal: String,
    },
    /// Another process kept it locked for too long.
    #[error(
        "journal {journal}: another process has kept it locked for {waited_ms} ms; find out which one (fuser {journal}) and end it"
    )]
    Busy {
        /// Which journal.
        journal: String,
        /// How long was waited.
        waited_ms: u64,
    },
    /// It is not a journal, or a broken one.
    #[error("journal {journal}: {why}")]
    Unusable {
        /// Which journal.
        journal: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The system refused.
    #[error("journal {journal}: {action} failed; check its disk and the rights to its folder")]
    System {
        /// Which journal.
        journal: String,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A saga in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub saga: SagaName,
    /// How many records it has.
    pub length: u64,
    /// The newest of them, which says whether it has ended.
    pub last: Record,
}

/// Where records lie.
pub trait Journal: Send + Sync + fmt::Debug {
    /// Adds a record, durably, if its conditions hold. Returns the saga's new length.
    fn append(&self, append: Append) -> Pending<'_, Result<u64, AppendError>>;

    /// All records of a saga, in order; none if there is no such saga.
    fn read<'a>(&'a self, saga: &'a SagaName) -> Pending<'a, Result<Vec<Record>, JournalError>>;

    /// All sagas, by name.
    fn list(&self) -> Pending<'_, Result<Vec<Entry>, JournalError>>;

    /// The newest value of a counter, 0 if nobody has registered it.
    fn newest<'a>(
        &'a self,
        fence: &'a crate::names::FenceName,
    ) -> Pending<'a, Result<u64, JournalError>>;
}
