//! What was collected of moves, on the disk: two files for each, replaced whole. Bounded in number and
//! bytes; what was written longest ago makes room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use daemon::state::{StateError, StateFile, StateFolder};
use orchestrator_api::operator::MoveId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::collect::Collected;
use super::figures::Figures;

/// Most files, two for each move.
pub const FILES_MAX: usize = 1_000;
/// Most bytes of them all.
pub const BYTES_MAX: u64 = 2 << 30;
/// Longest of them: some hundred thousand flows.
pub const FILE_BYTES_MAX: usize = 512 << 20;

const VERSION: u32 = 1;
const FIGURES: &str = "figures";
const COLLECTED: &str = "collected";

/// The folder of what was collected.
#[derive(Debug)]
pub struct Kept {
    folder: StateFolder,
    path: PathBuf,
    files_max: usize,
    bytes_max: u64,
}

impl Kept {
    /// Opens it, and makes it where it is missing.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Kept, StateError> {
        let folder = StateFolder::open(path)?;
        Ok(Kept { folder, path: path.to_owned(), files_max: FILES_MAX, bytes_max: BYTES_MAX })
    }

    /// What parties told of a move; nothing where they were not asked yet.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn collected(&self, id: &MoveId) -> Result<Option<Collected>, StateError> {
        self.file(id, COLLECTED).load()
    }

    /// What was sampled of it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn figures(&self, id: &MoveId) -> Result<Option<Figures>, StateError> {
        self.file(id, FIGURES).load()
    }

    /// Keeps what parties told. Blocks on the disk.
    ///
    /// # Errors
    /// See [`StateError`]; what was kept before stays then.
    pub fn keep_collected(&self, id: &MoveId, collected: &Collected) -> Result<(), StateError> {
        self.keep(id, COLLECTED, collected)
    }

    /// Keeps what was sampled. Blocks on the disk.
    ///
    /// # Errors
    /// See [`StateError`]; what was kept before stays then.
    pub fn keep_figures(&self, id: &MoveId, figures: &Figures) -> Result<(), StateError> {
        self.keep(id, FIGURES, figures)
    }

    fn keep<T: Serialize + DeserializeOwned>(
        &self,
        id: &MoveId,
        what: &str,
        value: &T,
    ) -> Result<(), StateError> {
        self.file(id, what).save(value)?;
        self.make_room(&name(id, what));
        Ok(())
    }

    fn file<T: Serialize + DeserializeOwned>(&self, id: &MoveId, what: &str) -> StateFile<T> {
        self.folder.file(&name(id, what), VERSION).up_to(FILE_BYTES_MAX)
    }

    /// Deletes what was written longest ago, but never what was written just now.
    fn make_room(&self, just_written: &str) {
        let mut files = self.files();
        files.sort();
        let (mut count, mut bytes) = (files.len(), files.iter().map(|file| file.1).sum::<u64>());
        for (_, length, path) in files {
            if count <= self.files_max && bytes <= self.bytes_max {
                break;
            }
            if path.file_name().is_some_and(|name| name == just_written) {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "an old report's material is gone");
                }
                Err(error) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "an old report's material cannot be deleted");
                }
            }
            (count, bytes) = (count - 1, bytes.saturating_sub(length));
        }
    }

    /// When each was written, how long it is, and where.
    fn files(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_ours =
                [FIGURES, COLLECTED].iter().any(|what| name.ends_with(&format!(".{what}")));
            is_ours && !name.starts_with('.')
        });
        let told = ours.filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        });
        told.collect()
    }
}

fn name(id: &MoveId, what: &str) -> String {
    format!("{id}.{what}")
}

#[cfg(test)]
mod tests {
    use ledger::report::Sample;

    use super::*;

    fn id(number: u64) -> MoveId {
        MoveId { vm: "web".parse().unwrap(), number }
    }

    fn figures(disk_bytes: u64) -> Figures {
        let samples = vec![Sample { at_ms: 1, disk_bytes, ..Sample::default() }];
        Figures { samples, ..Figures::default() }
    }

    fn opened() -> (tempfile::TempDir, Kept) {
        let outer = tempfile::tempdir().unwrap();
        let kept = Kept::open(&outer.path().join("reports")).unwrap();
        (outer, kept)
    }

    #[test]
    fn what_was_kept_last_is_found_by_the_next_service() {
        let (outer, kept) = opened();
        assert_eq!(kept.figures(&id(1)).unwrap(), None);
        kept.keep_figures(&id(1), &figures(1)).unwrap();
        kept.keep_figures(&id(1), &figures(2)).unwrap();
        kept.keep_collected(&id(1), &Collected::default()).unwrap();
        drop(kept);
        let later = Kept::open(&outer.path().join("reports")).unwrap();
        assert_eq!(later.figures(&id(1)).unwrap(), Some(figures(2)));
        assert_eq!(later.collected(&id(1)).unwrap(), Some(Collected::default()));
        assert_eq!(later.collected(&id(2)).unwrap(), None);
    }

    #[test]
    fn what_was_written_longest_ago_makes_room() {
        let (_outer, mut kept) = opened();
        kept.files_max = 3;
        for number in 1..=5 {
            kept.keep_figures(&id(number), &figures(number)).unwrap();
            // Of several in one tick of the file system's clock any is the oldest.
            let path = kept.path.join(name(&id(number), FIGURES));
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
            fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        }
        let found: Vec<u64> =
            (1..=5).filter(|n| kept.figures(&id(*n)).unwrap().is_some()).collect();
        assert_eq!(found, [3, 4, 5]);
        kept.bytes_max = 0;
        kept.keep_figures(&id(6), &figures(6)).unwrap();
        assert_eq!(kept.files().len(), 1);
        assert_eq!(kept.figures(&id(6)).unwrap(), Some(figures(6)));
    }
}
