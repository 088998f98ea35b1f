//! One VM's record, in memory and on the disk: there first.

use std::sync::{Arc, Mutex, PoisonError};

use daemon::state::{StateError, StateFile, StateFolder};
use placement::VmName;
use tokio::task::spawn_blocking;

use super::VmError;
use super::record::Record;

const VERSION: u32 = 1;

/// A record that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    record: Record,
    file: Arc<Mutex<StateFile<Record>>>,
}

impl Kept {
    /// What was kept last. Blocks on the disk.
    pub(super) fn load(folder: &StateFolder, vm: &VmName) -> Result<Kept, StateError> {
        let file: StateFile<Record> = folder.file(&format!("vm.{vm}"), VERSION);
        let record = file.load()?.unwrap_or_default();
        Ok(Kept { record, file: Arc::new(Mutex::new(file)) })
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Keeps this from now on. What is kept already is not written again.
    pub(super) async fn keep(&mut self, record: Record) -> Result<(), VmError> {
        if record == self.record {
            return Ok(());
        }
        let (file, saved) = (Arc::clone(&self.file), record.clone());
        let save = spawn_blocking(move || {
            file.lock().unwrap_or_else(PoisonError::into_inner).save(&saved)
        });
        save.await.map_err(VmError::Ending)??;
        self.record = record;
        Ok(())
    }
}
