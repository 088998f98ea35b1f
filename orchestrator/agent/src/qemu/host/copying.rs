//! Commands about the copy, which find the right process for it.

use orchestrator_api::{CopyCommand, Progress};

use super::{HostError, QemuHost, definition};
use crate::copy::{self, Copy, CopyError, Source};
use crate::executor::Kept;
use crate::folders::Channel;

impl QemuHost {
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.copy.as_ref().map(Copy::progress)
    }

    /// Acts on the copy. That the caller holds the standing claim, here at its source, is settled.
    pub(crate) async fn copy(
        &mut self,
        command: CopyCommand,
        kept: &Kept,
    ) -> Result<Progress, HostError> {
        let epoch = kept.record.epoch;
        match command {
            CopyCommand::MirrorStart => self.start_copy(kept).await?,
            // Whichever move began it: a claim that has taken the VM over may give it up.
            CopyCommand::Cancel => return self.cancel_copy(kept).await,
            CopyCommand::MemoryStart { .. } | CopyCommand::Finish => {}
        }
        let none = || CopyError::Phase { found: "not begun".to_owned(), wanted: "mirroring" };
        let copy = self.copy.as_mut().filter(|copy| copy.progress().epoch == epoch);
        let copy = copy.ok_or_else(none)?;
        match command {
            CopyCommand::MirrorStart | CopyCommand::Cancel => {}
            CopyCommand::MemoryStart { bytes_per_s, remaining_bytes_max } => {
                copy.start_memory(bytes_per_s, remaining_bytes_max)?;
            }
            CopyCommand::Finish => copy.finish()?,
        }
        Ok(copy.progress())
    }

    /// Of a copy that an earlier agent drove nothing is known but that it is ended.
    async fn cancel_copy(&mut self, kept: &Kept) -> Result<Progress, HostError> {
        if let Some(copy) = &mut self.copy {
            copy.cancel().await?;
            return Ok(copy.progress());
        }
        if let Some(made_by) = kept.record.seat.incarnation().map(|seat| seat.made_by.clone())
            && self.has(&made_by)
        {
            copy::cancel(&self.monitors(&made_by, kept).await?, false).await?;
        }
        Ok(copy::cancelled(kept.record.epoch))
    }

    async fn start_copy(&mut self, kept: &Kept) -> Result<(), HostError> {
        let epoch = kept.record.epoch;
        if let Some(copy) = &self.copy {
            let progress = copy.progress();
            if progress.epoch == epoch && copy.is_under_way() {
                return Ok(());
            }
        }
        let incarnation = kept.record.seat.incarnation();
        let made_by = incarnation.map(|incarnation| incarnation.made_by.clone());
        let made_by = made_by.ok_or(HostError::NoDefinition)?;
        let monitors = self.monitors(&made_by, kept).await?;
        // What an earlier copy may have left behind would be in this one's way.
        copy::cancel(&monitors, false).await?;
        let folders = &self.config.folders;
        let source = Source {
            made_by,
            monitors,
            disks: definition(kept)?.disks.len(),
            disk_socket: folders.channel(&self.vm, epoch, Channel::Disk)?,
            memory_socket: folders.channel(&self.vm, epoch, Channel::Memory)?,
        };
        self.copy = Some(Copy::start(source, epoch));
        Ok(())
    }
}
