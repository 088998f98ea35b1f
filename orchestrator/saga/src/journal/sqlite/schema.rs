//! The tables, their version, and how an older file becomes a newer one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::super::JournalError;
use super::store::failed;

/// Marks the file as one of ours ("SAGA").
const APPLICATION_ID: i64 = 0x5341_4741;

/// Each entry makes a file of the version that is its place here into the next. Entries are only
/// ever added: files of every older version are out there.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE record (
        saga TEXT NOT NULL,
        position INTEGER NOT NULL,
        version INTEGER NOT NULL,
        at_unix_ms INTEGER NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (saga, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE fence (
        name TEXT PRIMARY KEY NOT NULL,
        newest INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Checks whose file it is and brings it to this release's schema, in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |error| failed(path, "reading its schema", error);
    let migration =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let known = MIGRATIONS.len();
    let found = version_of(&migration, path)?;
    if found > known {
        let why = format!(
            "has schema {found}, and this release knows up to {known}; run the release that wrote it, or a newer one"
        );
        return Err(JournalError::Unusable { journal: path.display().to_string(), why });
    }
    for step in &MIGRATIONS[found..] {
        migration.execute_batch(step).map_err(failed)?;
    }
    migration.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    migration.pragma_update(None, "user_version", known as i64).map_err(failed)?;
    migration.commit().map_err(failed)
}

/// 0 for an empty file; another program's database is refused.
fn version_of(connection: &Connection, path: &Path) -> Result<usize, JournalError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| failed(path, "reading its schema", error))
    };
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let ours = application == APPLICATION_ID;
    match usize::try_from(version) {
        Ok(version) if ours => Ok(version),
        Ok(0) if application == 0 && tables == 0 => Ok(0),
        _ => Err(JournalError::Unusable {
            journal: path.display().to_string(),
            why: "is a database of another program; give the path of a journal, or of a new file"
                .to_owned(),
        }),
    }
}
