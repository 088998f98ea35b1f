//! The connection, and the four things that are asked of it. Runs on the journal's thread.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior};

use super::super::{Append, AppendError, Entry, Guard, JournalError};
use super::{BUSY_WAIT_MS_MAX, file, schema, system};
use crate::names::{Fence, FenceName, SagaName};
use crate::record::Record;

/// An open journal file.
pub(super) struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Self, JournalError> {
        file::prepare(path)?;
        let failed = |error| failed(path, "opening it", error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_millis(BUSY_WAIT_MS_MAX)).map_err(failed)?;
        make_durable(&connection, path)?;
        schema::migrate(&mut connection, path)?;
        bound(&connection, path, bytes_max)?;
        Ok(Self { path: path.to_owned(), connection })
    }

    pub(super) fn append(&mut self, append: &Append) -> Result<u64, AppendError> {
        let Self { path, connection } = self;
        let failed = |error| failed(path, "adding a record", error);
        let change =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let found = length(&change, &append.saga).map_err(failed)?;
        if found != append.expected {
            return Err(AppendError::Conflict { expected: append.expected, found });
        }
        match &append.guard {
            Guard::None => {}
            Guard::Holds(wanted) => {
                let newest = newest(&change, &wanted.name).map_err(failed)?;
                if newest != wanted.value {
                    return Err(AppendError::Fence { wanted: wanted.clone(), newest });
                }
            }
            Guard::Raises(wanted) => raise(&change, wanted).map_err(failed)??,
        }
        insert(&change, append).map_err(failed)?;
        change.commit().map_err(failed)?;
        Ok(found + 1)
    }

    pub(super) fn read(&self, saga: &SagaName) -> Result<Vec<Record>, JournalError> {
        let sql =
            "SELECT version, at_unix_ms, payload FROM record WHERE saga = ? ORDER BY position";
        let records = || {
            let mut query = self.connection.prepare(sql)?;
            query.query_map([saga.as_str()], record)?.collect::<Result<_, _>>()
        };
        records().map_err(|error| failed(&self.path, "reading a saga", error))
    }

    pub(super) fn list(&self) -> Result<Vec<Entry>, JournalError> {
        let sql = "SELECT version, at_unix_ms, payload, saga, position FROM record AS newest
             WHERE position = (SELECT max(position) FROM record WHERE saga = newest.saga)
             ORDER BY saga";
        let entries = || {
            let mut query = self.connection.prepare(sql)?;
            query.query_map([], entry)?.collect::<Result<_, _>>()
        };
        entries().map_err(|error| failed(&self.path, "listing sagas", error))
    }

    pub(super) fn newest(&self, fence: &FenceName) -> Result<u64, JournalError> {
        newest(&self.connection, fence)
            .map_err(|error| failed(&self.path, "reading a fence", error))
    }
}

/// What an acknowledged record rests on. SQLite falls back in silence where a file system cannot
/// do it, so the answers are checked.
fn make_durable(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |error| failed(path, "making it durable", error);
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let synchronous: i64 =
        connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(failed)?;
    let full = 2;
    if mode == "wal" && synchronous == full {
        return Ok(());
    }
    let why = format!(
        "its file system does not carry a write-ahead log (journal mode {mode}, synchronous {synchronous}); put it on a local disk"
    );
    Err(JournalError::Unusable { journal: path.display().to_string(), why })
}

fn bound(connection: &Connection, path: &Path, bytes_max: u64) -> Result<(), JournalError> {
    let pages = || {
        let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages_max = (bytes_max / page_bytes.unsigned_abs().max(1)).min(u64::from(u32::MAX) / 2);
        // It answers with the bound in force, which is never below what the file already has.
        let sql = format!("PRAGMA max_page_count = {}", pages_max.max(1));
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0))
    };
    pages().map(drop).map_err(|error| failed(path, "bounding its size", error))
}

fn length(connection: &Connection, saga: &SagaName) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(position) + 1, 0) FROM record WHERE saga = ?";
    connection.query_row(sql, [saga.as_str()], |row| row.get(0))
}

fn newest(connection: &Connection, fence: &FenceName) -> rusqlite::Result<u64> {
    let sql = "SELECT newest FROM fence WHERE name = ?";
    let found = connection.query_row(sql, [fence.as_str()], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

fn raise(connection: &Connection, wanted: &Fence) -> rusqlite::Result<Result<(), AppendError>> {
    let newest = newest(connection, &wanted.name)?;
    if newest >= wanted.value {
        return Ok(Err(AppendError::Fence { wanted: wanted.clone(), newest }));
    }
    let sql = "INSERT INTO fence (name, newest) VALUES (?, ?)
         ON CONFLICT (name) DO UPDATE SET newest = excluded.newest";
    connection.execute(sql, rusqlite::params![wanted.name.as_str(), wanted.value])?;
    Ok(Ok(()))
}

fn insert(connection: &Connection, append: &Append) -> rusqlite::Result<()> {
    let Append { saga, expected, record, .. } = append;
    let sql = "INSERT INTO record (saga, position, version, at_unix_ms, payload)
         VALUES (?, ?, ?, ?, ?)";
    let values = rusqlite::params![
        saga.as_str(),
        expected,
        record.version,
        record.at_unix_ms,
        record.payload
    ];
    connection.execute(sql, values).map(drop)
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record { version: row.get(0)?, at_unix_ms: row.get(1)?, payload: row.get(2)? })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let name: String = row.get(3)?;
    let saga = SagaName::new(name).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let position: u64 = row.get(4)?;
    Ok(Entry { saga, length: position + 1, last: record(row)? })
}

/// What an error of SQLite means for whoever drives a saga.
pub(super) fn failed(path: &Path, action: &'static str, error: rusqlite::Error) -> JournalError {
    let journal = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full { journal },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            JournalError::Busy { journal, waited_ms: BUSY_WAIT_MS_MAX }
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => JournalError::Unusable {
            journal,
            why: "is not a sound journal; restore it from a backup".to_owned(),
        },
        _ => system(path, action, error),
    }
}
