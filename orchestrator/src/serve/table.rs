//! All moves that the service knows of, as they are told: those under way, and those of the past.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestrator_api::MoveProgress;
use orchestrator_api::operator::{CallKey, MoveId, MoveView};
use placement::{Release, VmName};
use saga::{Control, Notice, SagaName, Watcher};
use tokio::sync::{Notify, watch};

use super::clock::unix_ms;
use super::ordered::Ordered;
use super::telling::Telling;
use crate::report::{Figures, Recorder};

/// One move: what is told of it, and what its driver listens to.
pub(crate) struct Entry {
    pub(crate) ordered: Ordered,
    /// What was sampled of it.
    pub(crate) figures: Recorder,
    telling: watch::Sender<Telling>,
    /// The driver's, while there is one.
    pub(crate) control: watch::Sender<Option<Control>>,
    /// Wakes a driver that waits before it tries again.
    pub(crate) wake: Notify,
}

impl Entry {
    /// With what an earlier service has sampled of it.
    pub(crate) fn new(ordered: Ordered, telling: Telling, figures: &Figures) -> Entry {
        let (telling, control) = (watch::Sender::new(telling), watch::Sender::new(None));
        let figures = Recorder::after(figures);
        Entry { ordered, figures, telling, control, wake: Notify::new() }
    }

    pub(crate) fn view(&self) -> MoveView {
        self.telling.borrow().view().clone()
    }

    /// Returns when the view is of another version.
    pub(crate) async fn changed_from(&self, version: u64) {
        let mut seen = self.telling.subscribe();
        // Fails only if the sender is gone, which is in `self`.
        let _ = seen.wait_for(|telling| telling.view().version != version).await;
    }

    /// The word by which the VM left, once the move's source has given it.
    pub(crate) fn release(&self) -> Option<Release> {
        self.telling.borrow().release().cloned()
    }

    pub(crate) fn tell(&self, how: impl FnOnce(&mut Telling)) {
        self.telling.send_modify(how);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("view", &self.view()).finish_non_exhaustive()
    }
}

/// The driver of one move tells its entry.
impl Watcher for Entry {
    fn notice(&self, notice: &Notice<'_>) {
        match notice {
            Notice::Recorded { saga, attempt, event } => {
                tracing::info!(%saga, attempt, event = event.name(), what = ?event, "move");
                self.tell(|telling| telling.tell(event, unix_ms()));
            }
            Notice::Progress { key, note } => {
                match serde_json::from_value::<MoveProgress>(note.clone()) {
                    Ok(progress) => {
                        if let Some(told) = &progress.told {
                            tracing::info!(%key, told, "move");
                        }
                        self.figures.progress(unix_ms(), &progress);
                        self.tell(|telling| telling.progress(progress));
                    }
                    Err(error) => tracing::warn!(%key, %error, "a step's progress is not known"),
                }
            }
        }
    }
}

/// Every move, by its name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    moves: Mutex<BTreeMap<MoveId, Arc<Entry>>>,
}

impl Table {
    pub(crate) fn get(&self, id: &MoveId) -> Option<Arc<Entry>> {
        self.lock().get(id).cloned()
    }

    pub(crate) fn put(&self, id: MoveId, entry: Arc<Entry>) {
        self.lock().insert(id, entry);
    }

    /// Forgets a move that never was.
    pub(crate) fn remove(&self, id: &MoveId) {
        self.lock().remove(id);
    }

    /// The newest first.
    pub(crate) fn views(&self) -> Vec<MoveView> {
        let mut views: Vec<MoveView> = self.lock().values().map(|entry| entry.view()).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.began_at_unix_ms));
        views
    }

    /// Every move of a VM, the oldest first.
    pub(crate) fn of(&self, vm: &VmName) -> Vec<(MoveId, Arc<Entry>)> {
        let moves = self.lock();
        let of_vm = moves.iter().filter(|(id, _)| id.vm == *vm);
        let mut of_vm: Vec<_> = of_vm.map(|(id, entry)| (id.clone(), Arc::clone(entry))).collect();
        of_vm.sort_by_key(|(id, _)| id.number);
        of_vm
    }

    /// Every VM that has moves.
    pub(crate) fn vms(&self) -> BTreeSet<VmName> {
        self.lock().keys().map(|id| id.vm.clone()).collect()
    }

    /// The move that this call began.
    pub(crate) fn begun_by(&self, key: &CallKey) -> Option<(MoveId, Arc<Entry>)> {
        let moves = self.lock();
        let found = moves.iter().find(|(_, entry)| entry.ordered.key == *key);
        found.map(|(id, entry)| (id.clone(), Arc::clone(entry)))
    }

    /// The move of this VM that has not ended.
    pub(crate) fn under_way(&self, vm: &VmName) -> Option<MoveId> {
        let moves = self.lock();
        let of_vm = moves.iter().filter(|(id, _)| id.vm == *vm);
        let mut open = of_vm.filter(|(_, entry)| !entry.view().state.has_ended());
        open.next().map(|(id, _)| id.clone())
    }

    /// What the VM's next move is to be called.
    pub(crate) fn next_of(&self, vm: &VmName) -> MoveId {
        let moves = self.lock();
        let last = moves.keys().filter(|id| id.vm == *vm).map(|id| id.number).max();
        MoveId { vm: vm.clone(), number: last.unwrap_or(0) + 1 }
    }

    pub(crate) fn at_gate(&self, saga: &SagaName, gate: Option<String>) {
        if let Some(entry) = saga.as_str().parse().ok().and_then(|id| self.get(&id)) {
            entry.tell(|telling| telling.at_gate(gate));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MoveId, Arc<Entry>>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
