//! The journal of one machine: an SQLite file that survives a kill, and a power cut, between any
//! two writes.
//!
//! The connection lives on a thread of its own, and is reached by a bounded queue: an fsync never
//! stands in the way of whoever polls the futures, and no runtime is needed. WAL with
//! `synchronous=FULL`: an acknowledged record is on the disk. Several processes may open the file;
//! each append is one `BEGIN IMMEDIATE` transaction.

mod file;
mod schema;
mod store;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use self::store::Store;
use super::{Append, AppendError, Entry, Journal, JournalError, Pending};
use crate::names::{FenceName, SagaName};
use crate::record::Record;

/// Most requests that wait for the thread; who comes later waits for a place.
pub const REQUESTS_MAX: usize = 64;

/// Longest wait for another process that has the file locked.
pub const BUSY_WAIT_MS_MAX: u64 = 5_000;

/// How large a journal may grow unless said otherwise: about a million records.
pub const JOURNAL_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A journal in an SQLite file.
pub struct SqliteJournal {
    path: PathBuf,
    requests: mpsc::Sender<Request>,
}

enum Request {
    Append(Append, oneshot::Sender<Result<u64, AppendError>>),
    Read(SagaName, oneshot::Sender<Result<Vec<Record>, JournalError>>),
    List(oneshot::Sender<Result<Vec<Entry>, JournalError>>),
    Newest(FenceName, oneshot::Sender<Result<u64, JournalError>>),
}

impl SqliteJournal {
    /// Opens the journal at `path`, and makes it, readable by its owner alone, if there is none.
    /// Its folder must exist. Blocks until it is open.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_bounded(path, JOURNAL_BYTES_MAX)
    }

    /// The same, with another bound on its size. An append beyond it fails with
    /// [`JournalError::Full`], and writes nothing.
    pub fn open_bounded(path: &Path, bytes_max: u64) -> Result<Self, JournalError> {
        let store = Store::open(path, bytes_max)?;
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        thread::Builder::new()
            .name("saga-journal".to_owned())
            .spawn(move || serve(store, queue))
            .map_err(|source| system(path, "starting its thread", source))?;
        Ok(Self { path: path.to_owned(), requests })
    }

    async fn ask<T, E: From<JournalError>>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        let gone = || JournalError::Unusable {
            journal: self.path.display().to_string(),
            why: "its thread has ended; restart the program, and report it with the log".to_owned(),
        };
        if self.requests.send(request(reply)).await.is_err() {
            return Err(gone().into());
        }
        answer.await.unwrap_or_else(|_| Err(gone().into()))
    }
}

/// Ends when the journal is dropped. Nobody may wait for an answer any more (its asker was
/// dropped); the request was made all the same, as with any process that is killed.
fn serve(mut store: Store, mut queue: mpsc::Receiver<Request>) {
    while let Some(request) = queue.blocking_recv() {
        match request {
            Request::Append(append, reply) => drop(reply.send(store.append(&append))),
            Request::Read(saga, reply) => drop(reply.send(store.read(&saga))),
            Request::List(reply) => drop(reply.send(store.list())),
            Request::Newest(fence, reply) => drop(reply.send(store.newest(&fence))),
        }
    }
}

fn system(
    path: &Path,
    action: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> JournalError {
    JournalError::System { journal: path.display().to_string(), action, source: Box::new(source) }
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Journal for SqliteJournal {
    fn append(&self, append: Append) -> Pending<'_, Result<u64, AppendError>> {
        Box::pin(self.ask(|reply| Request::Append(append, reply)))
    }

    fn read<'a>(&'a self, saga: &'a SagaName) -> Pending<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(self.ask(|reply| Request::Read(saga.clone(), reply)))
    }

    fn list(&self) -> Pending<'_, Result<Vec<Entry>, JournalError>> {
        Box::pin(self.ask(Request::List))
    }

    fn newest<'a>(&'a self, fence: &'a FenceName) -> Pending<'a, Result<u64, JournalError>> {
        Box::pin(self.ask(|reply| Request::Newest(fence.clone(), reply)))
    }
}
