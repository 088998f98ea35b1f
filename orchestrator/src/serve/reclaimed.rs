//! Which places were given back, and which VMs came home, on the disk: a small file for each move,
//! written once all of it is done. What died before that is done again, and finds done what was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::state::{StateError, StateFile, StateFolder};
use orchestrator_api::operator::{CallKey, MoveId, MoveReclaimed, VmAtHome};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Their folders, in the state folder.
const RECLAIMED: &str = "reclaimed";
const HOMES: &str = "homes";

const VERSION: u32 = 1;

/// One move's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    /// By which call.
    pub(crate) key: CallKey,
    /// What was done.
    pub(crate) done: MoveReclaimed,
}

/// What moves have left and was given back.
pub(crate) type GivenBack = ByMove<Given>;
/// VMs that came home, by the move by which they had come.
pub(crate) type Homes = ByMove<VmAtHome>;

/// One thing of each move.
#[derive(Debug)]
pub(crate) struct ByMove<T> {
    folder: StateFolder,
    known: Arc<Mutex<BTreeMap<MoveId, T>>>,
}

impl GivenBack {
    /// Reads what earlier services wrote.
    pub(crate) fn open(state_folder: &Path) -> Result<GivenBack, StateError> {
        ByMove::of_folder(&state_folder.join(RECLAIMED))
    }
}

impl Homes {
    /// Reads what earlier services wrote.
    pub(crate) fn open(state_folder: &Path) -> Result<Homes, StateError> {
        ByMove::of_folder(&state_folder.join(HOMES))
    }
}

impl<T: Clone + Serialize + DeserializeOwned> ByMove<T> {
    fn of_folder(path: &Path) -> Result<ByMove<T>, StateError> {
        let path = path.to_owned();
        let folder = StateFolder::open(&path)?;
        let unread = |source| StateError::System { path: path.clone(), action: "listed", source };
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&path).map_err(unread)? {
            let name = entry.map_err(unread)?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<MoveId>().ok()) else {
                continue;
            };
            let file: StateFile<T> = folder.file(&id.to_string(), VERSION);
            if let Some(one) = file.load()? {
                known.insert(id, one);
            }
        }
        Ok(ByMove { folder, known: Arc::new(Mutex::new(known)) })
    }

    pub(crate) fn of(&self, id: &MoveId) -> Option<T> {
        self.lock().get(id).cloned()
    }

    /// Blocks on the disk.
    pub(crate) fn keep(&self, id: &MoveId, one: T) -> Result<(), StateError> {
        self.folder.file(&id.to_string(), VERSION).save(&one)?;
        self.lock().insert(id.clone(), one);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MoveId, T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use orchestrator_api::Place;
    use orchestrator_api::operator::LeftDisk;
    use placement::Epoch;

    use super::*;

    #[test]
    fn what_was_given_back_is_known_to_the_next_service_and_a_changed_file_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let given = GivenBack::open(outer.path()).unwrap();
        let id: MoveId = "web.1".parse().unwrap();
        assert_eq!(given.of(&id), None);
        let done = MoveReclaimed {
            id: id.clone(),
            release: Epoch::new(2),
            at: Place { site: "a".parse().unwrap(), agent: "hv1".parse().unwrap() },
            disk: LeftDisk::Kept { name: "web.moved-2".to_owned() },
            broken_off: Vec::new(),
            at_unix_ms: 1,
            by: "ada".to_owned(),
        };
        let written = Given { key: "key-1".parse().unwrap(), done };
        given.keep(&id, written.clone()).unwrap();
        drop(given);
        let later = GivenBack::open(outer.path()).unwrap();
        assert_eq!(later.of(&id), Some(written));
        assert_eq!(later.of(&"web.2".parse().unwrap()), None);
        drop(later);
        fs::write(outer.path().join(RECLAIMED).join("web.1"), "nothing of ours").unwrap();
        assert!(GivenBack::open(outer.path()).is_err());
    }
}
