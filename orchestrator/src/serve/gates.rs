//! Gates: places at which a move can be held up, for rehearsals and tests. Off unless configured.
//!
//! A gate is closed while a file of its name lies in the configured folder:
//!
//! | file | the move waits |
//! |---|---|
//! | `VM.STEP.started` | when the step's start is in the journal, before it has any effect |
//! | `VM.STEP.done` | when the step has had its effect, before the journal knows of it |
//! | `VM.STEP.undoing` | when the undo's start is in the journal, before it has any effect |
//!
//! They stand at the journal, so that there is one before and one behind every step there is, and no
//! step knows of them. A service that is killed at a gate is killed between just these two things.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use saga::journal::{Append, AppendError, Entry, Journal, JournalError, Pending};
use saga::{Event, FenceName, Record, SagaName};
use tokio::time::sleep;

use super::table::Table;

/// Between two looks at a closed gate.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A journal with gates before and behind it.
pub(crate) struct GatedJournal {
    journal: Arc<dyn Journal>,
    folder: PathBuf,
    table: Arc<Table>,
}

impl GatedJournal {
    /// Gates at `journal`, closed by files in `folder`; the table is told of whoever waits.
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        folder: PathBuf,
        table: Arc<Table>,
    ) -> GatedJournal {
        GatedJournal { journal, folder, table }
    }

    async fn pass(&self, saga: &SagaName, gate: &str) {
        // A move is called VM.NUMBER.
        let vm = saga.as_str().rsplit_once('.').map_or(saga.as_str(), |(vm, _)| vm);
        let gate = format!("{vm}.{gate}");
        let path = self.folder.join(&gate);
        if !path.exists() {
            return;
        }
        tracing::warn!(%saga, gate, "a closed gate holds the move up");
        self.table.at_gate(saga, Some(gate.clone()));
        while path.exists() {
            sleep(LOOK_INTERVAL).await;
        }
        self.table.at_gate(saga, None);
        tracing::info!(%saga, gate, "gate open");
    }
}

impl fmt::Debug for GatedJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedJournal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Journal for GatedJournal {
    fn append(&self, append: Append) -> Pending<'_, Result<u64, AppendError>> {
        Box::pin(async move {
            let saga = append.saga.clone();
            let event = Event::decode(&append.record).ok();
            if let Some(Event::Done { step, .. }) = &event {
                self.pass(&saga, &format!("{step}.done")).await;
            }
            let length = self.journal.append(append).await?;
            match &event {
                Some(Event::Started { step, .. }) => {
                    self.pass(&saga, &format!("{step}.started")).await;
                }
                Some(Event::Undoing { step }) => {
                    self.pass(&saga, &format!("{step}.undoing")).await;
                }
                _ => {}
            }
            Ok(length)
        })
    }

    fn read<'a>(&'a self, saga: &'a SagaName) -> Pending<'a, Result<Vec<Record>, JournalError>> {
        self.journal.read(saga)
    }

    fn list(&self) -> Pending<'_, Result<Vec<Entry>, JournalError>> {
        self.journal.list()
    }

    fn newest<'a>(&'a self, fence: &'a FenceName) -> Pending<'a, Result<u64, JournalError>> {
        self.journal.newest(fence)
    }
}
