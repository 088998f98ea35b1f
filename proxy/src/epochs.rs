//! What this proxy remembers of each VM over its own restart: the highest epoch that it has seen,
//! and whose it was. It is on the disk before anybody is answered by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::state::{StateError, StateFile, StateFolder};
use placement::{Authority, Stale, VmName, Watermark};

const FILE: &str = "epochs";
const VERSION: u32 = 1;
/// Most VMs that are remembered.
pub const VMS_MAX: usize = tunnel::protocol::grants::VMS_MAX;

/// Why an epoch is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// It is over, or somebody else's.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// [`VMS_MAX`] are there.
    #[error("{VMS_MAX} vms are remembered here, more are not; is this the right proxy?")]
    Full,
    /// It could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The proxy is ending.
    #[error("the proxy is ending")]
    Ending,
}

type Marks = BTreeMap<VmName, Watermark>;

/// The epochs of all VMs.
#[derive(Debug, Clone)]
pub struct Epochs(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    marks: Marks,
    file: StateFile<Marks>,
}

impl Epochs {
    /// What was remembered last. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read, or is not what was written.
    pub fn load(folder: &StateFolder) -> Result<Epochs, StateError> {
        let file: StateFile<Marks> = folder.file(FILE, VERSION);
        let marks = file.load()?.unwrap_or_default();
        Ok(Epochs(Arc::new(Mutex::new(Kept { marks, file }))))
    }

    /// All of them.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.kept(|kept| kept.marks.clone())
    }

    /// Takes a claim: raises the VM's epoch, and has that on the disk when it returns.
    ///
    /// # Errors
    /// Every [`EpochError`]; nothing has changed then.
    pub async fn claim(&self, vm: VmName, authority: Authority) -> Result<Watermark, EpochError> {
        let epochs = self.clone();
        let claiming =
            tokio::task::spawn_blocking(move || epochs.kept(|kept| kept.claim(vm, &authority)));
        claiming.await.map_err(|_| EpochError::Ending)?
    }

    /// One VM's.
    #[must_use]
    pub fn mark(&self, vm: &VmName) -> Watermark {
        self.kept(|kept| kept.marks.get(vm).cloned().unwrap_or_default())
    }

    /// Whether a claim or a placement would be taken.
    ///
    /// # Errors
    /// [`EpochError::Stale`].
    pub fn may_claim(&self, vm: &VmName, authority: &Authority) -> Result<(), EpochError> {
        self.mark(vm).raised(authority)?;
        Ok(())
    }

    /// Ends a move: nothing of it is taken any more, and that is on the disk when this returns.
    ///
    /// # Errors
    /// Every [`EpochError`]; nothing has changed then.
    pub async fn end(&self, vm: VmName, authority: Authority) -> Result<Watermark, EpochError> {
        let epochs = self.clone();
        let ending =
            tokio::task::spawn_blocking(move || epochs.kept(|kept| kept.end(vm, &authority)));
        ending.await.map_err(|_| EpochError::Ending)?
    }

    /// Whether a command is the standing claim's.
    ///
    /// # Errors
    /// [`EpochError::Stale`].
    pub fn admit(&self, vm: &VmName, authority: &Authority) -> Result<(), EpochError> {
        self.mark(vm).admit(authority)?;
        Ok(())
    }

    fn kept<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn claim(&mut self, vm: VmName, authority: &Authority) -> Result<Watermark, EpochError> {
        let mark = self.marks.get(&vm).cloned().unwrap_or_default();
        let raised = mark.raised(authority)?;
        if raised == mark {
            return Ok(mark);
        }
        if self.marks.len() >= VMS_MAX && !self.marks.contains_key(&vm) {
            return Err(EpochError::Full);
        }
        self.save(vm, raised.clone())?;
        Ok(raised)
    }

    fn end(&mut self, vm: VmName, authority: &Authority) -> Result<Watermark, EpochError> {
        let mark = self.marks.get(&vm).cloned().unwrap_or_default();
        match mark.admit(authority) {
            // Said before.
            Err(Stale::Ended { .. }) => return Ok(mark),
            admitted => admitted?,
        }
        let ended = mark.ending(authority.epoch);
        self.save(vm, ended.clone())?;
        Ok(ended)
    }

    fn save(&mut self, vm: VmName, mark: Watermark) -> Result<(), StateError> {
        let mut marks = self.marks.clone();
        marks.insert(vm, mark);
        self.file.save(&marks)?;
        self.marks = marks;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use placement::{Epoch, Owner};

    use super::*;

    fn authority(epoch: u64, incarnation: u64) -> Authority {
        let owner = Owner { name: "serve".parse().unwrap(), incarnation };
        Authority { epoch: Epoch::new(epoch), owner }
    }

    #[tokio::test]
    async fn a_claim_is_remembered_over_a_restart() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("state");
        let vm: VmName = "web".parse().unwrap();
        let folder = StateFolder::open(&path).unwrap();
        let epochs = Epochs::load(&folder).unwrap();
        assert!(epochs.admit(&vm, &authority(2, 1)).is_err(), "never claimed");
        epochs.claim(vm.clone(), authority(2, 1)).await.unwrap();
        epochs.claim(vm.clone(), authority(2, 1)).await.unwrap();
        drop((epochs, folder));

        let folder = StateFolder::open(&path).unwrap();
        let epochs = Epochs::load(&folder).unwrap();
        epochs.admit(&vm, &authority(2, 1)).unwrap();
        for (epoch, incarnation) in [(1, 1), (2, 9)] {
            let stale = epochs.claim(vm.clone(), authority(epoch, incarnation)).await;
            assert!(matches!(stale, Err(EpochError::Stale(_))), "{epoch} of {incarnation}");
        }
        assert_eq!(epochs.marks()[&vm].epoch(), Epoch::new(2));
    }

    #[tokio::test]
    async fn a_move_that_ended_is_obeyed_no_more_and_may_be_said_to_end_again() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("state");
        let vm: VmName = "web".parse().unwrap();
        let folder = StateFolder::open(&path).unwrap();
        let epochs = Epochs::load(&folder).unwrap();
        let never = epochs.end(vm.clone(), authority(2, 1)).await;
        assert!(matches!(never, Err(EpochError::Stale(Stale::NotClaimed { .. }))), "{never:?}");
        epochs.claim(vm.clone(), authority(2, 1)).await.unwrap();
        let others = epochs.end(vm.clone(), authority(2, 9)).await;
        assert!(matches!(others, Err(EpochError::Stale(Stale::Owned { .. }))), "{others:?}");
        let ended = epochs.end(vm.clone(), authority(2, 1)).await.unwrap();
        assert_eq!(epochs.end(vm.clone(), authority(2, 1)).await.unwrap(), ended);
        drop((epochs, folder));

        let folder = StateFolder::open(&path).unwrap();
        let epochs = Epochs::load(&folder).unwrap();
        assert!(epochs.admit(&vm, &authority(2, 1)).is_err());
        epochs.claim(vm.clone(), authority(3, 1)).await.unwrap();
        epochs.admit(&vm, &authority(3, 1)).unwrap();
    }
}
