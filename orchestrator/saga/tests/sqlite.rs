//! The SQLite journal: what it promises, on real files.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::Connection;
use saga::journal::sqlite::SqliteJournal;
use saga::journal::{Append, AppendError, Guard, Journal, JournalError};
use saga::{Event, Fence, FenceName, RecordError, SagaName};

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn name(name: &str) -> SagaName {
    SagaName::new(name).unwrap()
}

fn append_of(saga: &str, expected: u64, guard: Guard) -> Append {
    let event = Event::Answered { step: format!("step-{expected}"), answer: "yes".into() };
    Append { saga: name(saga), expected, record: event.encode(1_000 + expected).unwrap(), guard }
}

fn add(journal: &SqliteJournal, saga: &str, expected: u64) -> Result<u64, AppendError> {
    wait(journal.append(append_of(saga, expected, Guard::None)))
}

fn fence(value: u64) -> Fence {
    Fence { name: FenceName::new("light/cape").unwrap(), value }
}

fn complaint(path: &Path) -> String {
    match SqliteJournal::open(path) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_was_appended_is_read_back_in_order_by_the_next_process() {
    let folder = Folder::new();
    let journal = SqliteJournal::open(&folder.journal()).unwrap();
    for expected in 0..5 {
        assert_eq!(add(&journal, "b", expected).unwrap(), expected + 1);
    }
    add(&journal, "a", 0).unwrap();
    drop(journal);
    let journal = SqliteJournal::open(&folder.journal()).unwrap();
    let records = wait(journal.read(&name("b"))).unwrap();
    let expected: Vec<_> = (0..5).map(|at| append_of("b", at, Guard::None).record).collect();
    assert_eq!(records, expected);
    let listed = wait(journal.list()).unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.saga.as_str(), entry.length)).collect();
    assert_eq!(listed, [("a", 1), ("b", 5)]);
    assert!(wait(journal.read(&name("c"))).unwrap().is_empty());
}

#[test]
fn an_append_that_expects_another_length_is_refused_and_writes_nothing() {
    let folder = Folder::new();
    let journal = SqliteJournal::open(&folder.journal()).unwrap();
    add(&journal, "a", 0).unwrap();
    for expected in [0, 2] {
        let refused = add(&journal, "a", expected).unwrap_err();
        assert!(matches!(refused, AppendError::Conflict { found: 1, .. }), "{refused}");
    }
    assert_eq!(wait(journal.read(&name("a"))).unwrap().len(), 1);
}

#[test]
fn a_fence_only_grows_and_a_record_can_depend_on_it() {
    let folder = Folder::new();
    let journal = SqliteJournal::open(&folder.journal()).unwrap();
    let append = |at, guard| wait(journal.append(append_of("a", at, guard)));
    assert_eq!(wait(journal.newest(&fence(0).name)).unwrap(), 0);
    append(0, Guard::Raises(fence(5))).unwrap();
    append(1, Guard::Holds(fence(5))).unwrap();
    for guard in [Guard::Raises(fence(5)), Guard::Raises(fence(4)), Guard::Holds(fence(4))] {
        let refused = append(2, guard).unwrap_err();
        assert!(matches!(refused, AppendError::Fence { newest: 5, .. }), "{refused}");
    }
    wait(journal.append(append_of("other", 0, Guard::Raises(fence(6))))).unwrap();
    assert!(append(2, Guard::Holds(fence(5))).is_err(), "somebody else registered a newer one");
    assert_eq!(wait(journal.newest(&fence(0).name)).unwrap(), 6);
    assert_eq!(wait(journal.read(&name("a"))).unwrap().len(), 2);
}

#[test]
fn of_many_writers_at_once_exactly_one_gets_each_place() {
    let folder = Folder::new();
    let path = folder.journal();
    let writers: u64 = 6;
    let places: u64 = 20;
    let writer = || {
        let path = path.clone();
        move || {
            // Each has a connection of its own, as other processes have.
            let journal = SqliteJournal::open(&path).unwrap();
            let mut won: u64 = 0;
            for place in 0..places {
                match add(&journal, "a", place) {
                    Ok(_) => won += 1,
                    Err(AppendError::Conflict { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            won
        }
    };
    let threads: Vec<_> = (0..writers).map(|_| thread::spawn(writer())).collect();
    let won: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(won, places);
    let journal = SqliteJournal::open(&path).unwrap();
    assert_eq!(wait(journal.read(&name("a"))).unwrap().len() as u64, places);
}

#[test]
fn its_files_are_its_owners_alone_and_one_that_is_open_to_others_is_refused() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = SqliteJournal::open(&path).unwrap();
    add(&journal, "a", 0).unwrap();
    for file in fs::read_dir(folder.folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
    drop(journal);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let shown = path.display();
    assert_eq!(
        complaint(&path),
        format!("journal {shown}: is open to others (mode 0640); run: chmod 600 {shown}")
    );
}

fn made_by(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_newer_schema_is_refused_by_name_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.journal();
    drop(SqliteJournal::open(&path).unwrap());
    made_by(&path, "PRAGMA user_version = 9");
    let said = complaint(&path);
    assert!(said.ends_with("has schema 9, and this release knows up to 1; run the release that wrote it, or a newer one"), "{said}");
    let version: i64 = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 9);
}

#[test]
fn what_is_no_journal_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.journal();
    made_by(&path, "CREATE TABLE theirs (x)");
    let said = complaint(&path);
    assert!(said.contains("is a database of another program"), "{said}");
    let text = folder.folder.path().join("text");
    fs::write(
        &text,
        "some text that is long enough not to be taken for an empty database. ".repeat(20),
    )
    .unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o600)).unwrap();
    let said = complaint(&text);
    assert!(said.contains("is not a sound journal"), "{said}");
    let said = complaint(&folder.folder.path().join("nowhere/journal"));
    assert!(said.contains("making it failed"), "{said}");
}

#[test]
fn a_full_journal_says_so_keeps_what_it_has_and_goes_on_when_it_may_grow() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = SqliteJournal::open_bounded(&path, 64 * 1024).unwrap();
    let mut length = 0;
    let refused = loop {
        match add(&journal, "a", length) {
            Ok(now) => length = now,
            Err(error) => break error,
        }
        assert!(length < 10_000, "it is not bounded");
    };
    assert!(matches!(refused, AppendError::Journal(JournalError::Full { .. })), "{refused}");
    assert_eq!(wait(journal.read(&name("a"))).unwrap().len() as u64, length);
    drop(journal);
    let journal = SqliteJournal::open(&path).unwrap();
    assert_eq!(add(&journal, "a", length).unwrap(), length + 1);
}

#[test]
fn a_journal_that_another_keeps_locked_is_waited_for_and_then_named() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = SqliteJournal::open(&path).unwrap();
    add(&journal, "a", 0).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = add(&journal, "a", 1).unwrap_err();
    assert!(
        matches!(&refused, AppendError::Journal(JournalError::Busy { waited_ms: 5_000, .. })),
        "{refused}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(add(&journal, "a", 1).unwrap(), 2);
}

#[test]
fn a_record_of_a_newer_release_is_refused_by_its_version() {
    let mut record = Event::GivingBack.encode(0).unwrap();
    record.version = 2;
    assert!(matches!(Event::decode(&record), Err(RecordError::Newer { found: 2 })));
}
