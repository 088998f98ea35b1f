//! A journal that forgets: for tests of workflows, with faults on order.
//!
//! It keeps every promise of a [`Journal`] but durability, and it outlives the runner, so that a
//! test kills the runner and resumes from what was written.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{self, Future};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::{Append, AppendError, Entry, Guard, Journal, JournalError, Pending};
use crate::names::{FenceName, SagaName};
use crate::record::Record;

/// What becomes of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is made as it should be.
    None,
    /// It fails for want of room, with nothing written.
    Full,
    /// It is made, and its writer is told that it failed.
    AnswerLost,
    /// It never ends, with nothing written: its writer was killed before.
    KilledBefore,
    /// It never ends, and is made: its writer was killed after.
    KilledAfter,
    /// It is made as it should be, when it is polled once more: others may come first.
    Paused,
}

type Faults = Box<dyn FnMut(&Append) -> Fault + Send>;

#[derive(Default)]
struct Held {
    sagas: BTreeMap<SagaName, Vec<Record>>,
    fences: BTreeMap<FenceName, u64>,
    faults: Option<Faults>,
}

/// A journal in memory.
#[derive(Default)]
pub struct MemoryJournal {
    held: Mutex<Held>,
}

impl MemoryJournal {
    /// An empty journal without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `faults` about each append from now on, before it is made.
    pub fn with_faults(&self, faults: impl FnMut(&Append) -> Fault + Send + 'static) {
        self.held().faults = Some(Box::new(faults));
    }

    /// No faults from now on.
    pub fn without_faults(&self) {
        self.held().faults = None;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A test that panicked elsewhere is no reason to hide what is written here.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJournal").finish_non_exhaustive()
    }
}

impl Held {
    fn append(&mut self, append: Append) -> Result<u64, AppendError> {
        let found = self.sagas.get(&append.saga).map_or(0, Vec::len) as u64;
        if found != append.expected {
            return Err(AppendError::Conflict { expected: append.expected, found });
        }
        if let Guard::Holds(fence) | Guard::Raises(fence) = &append.guard {
            let newest = self.fences.get(&fence.name).copied().unwrap_or(0);
            let raises = matches!(append.guard, Guard::Raises(_));
            let holds = if raises { newest < fence.value } else { newest == fence.value };
            if !holds {
                return Err(AppendError::Fence { wanted: fence.clone(), newest });
            }
            self.fences.insert(fence.name.clone(), fence.value);
        }
        self.sagas.entry(append.saga).or_default().push(append.record);
        Ok(found + 1)
    }
}

/// Pending once.
fn pause() -> impl Future<Output = ()> + Send {
    let mut paused = false;
    future::poll_fn(move |cx| {
        if paused {
            return Poll::Ready(());
        }
        paused = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

fn full() -> AppendError {
    AppendError::Journal(JournalError::Full { journal: "in memory".to_owned() })
}

impl Journal for MemoryJournal {
    fn append(&self, append: Append) -> Pending<'_, Result<u64, AppendError>> {
        let mut held = self.held();
        let fault = held.faults.as_mut().map_or(Fault::None, |faults| faults(&append));
        match fault {
            Fault::None => Box::pin(future::ready(held.append(append))),
            Fault::Full => Box::pin(future::ready(Err(full()))),
            Fault::AnswerLost => {
                let answer = held.append(append).and_then(|_| Err(full()));
                Box::pin(future::ready(answer))
            }
            Fault::Paused => Box::pin(async move {
                pause().await;
                self.held().append(append)
            }),
            Fault::KilledBefore => Box::pin(future::pending()),
            Fault::KilledAfter => match held.append(append) {
                Ok(_) => Box::pin(future::pending()),
                Err(refused) => Box::pin(future::ready(Err(refused))),
            },
        }
    }

    fn read<'a>(&'a self, saga: &'a SagaName) -> Pending<'a, Result<Vec<Record>, JournalError>> {
        let records = self.held().sagas.get(saga).cloned().unwrap_or_default();
        Box::pin(future::ready(Ok(records)))
    }

    fn list(&self) -> Pending<'_, Result<Vec<Entry>, JournalError>> {
        let held = self.held();
        let entry = |(saga, records): (&SagaName, &Vec<Record>)| {
            let last = records.last()?.clone();
            Some(Entry { saga: saga.clone(), length: records.len() as u64, last })
        };
        let entries = held.sagas.iter().filter_map(entry).collect();
        Box::pin(future::ready(Ok(entries)))
    }

    fn newest<'a>(&'a self, fence: &'a FenceName) -> Pending<'a, Result<u64, JournalError>> {
        let newest = self.held().fences.get(fence).copied().unwrap_or(0);
        Box::pin(future::ready(Ok(newest)))
    }
}
