//! A target: a process that receives, on disks that never ran, until a start makes them the VM's own.

use placement::{Incarnation, Release};
use serde_json::json;

use super::{HostError, QemuHost, definition};
use crate::copy::{self, no_arguments};
use crate::executor::Kept;
use crate::folders::{Channel, Kind};
use crate::qemu::command_line::Begin;

impl QemuHost {
    pub(super) async fn create_target(
        &mut self,
        incarnation: &Incarnation,
        kept: &Kept,
    ) -> Result<(), HostError> {
        let made_by = &incarnation.made_by;
        // One that is there is of an attempt that did not come to its end.
        self.kill_target(made_by).await?;
        let definition = definition(kept)?;
        self.folder(made_by).make(definition, &self.config.qemu.user, Kind::Target)?;
        let begun = self.receive(made_by, kept, definition.disks.len()).await;
        if begun.is_err() {
            self.kill_target(made_by).await?;
            self.port_of_none(kept).await?;
        }
        begun
    }

    async fn receive(
        &mut self,
        made_by: &Release,
        kept: &Kept,
        disks: usize,
    ) -> Result<(), HostError> {
        self.start(made_by, kept, Begin::Receive).await?;
        let work = self.monitors(made_by, kept).await?.work;
        copy::memory::capabilities(&work).await?;
        let folders = &self.config.folders;
        let disk_socket = folders.channel(&self.vm, made_by.epoch, Channel::Disk)?;
        let memory_socket = folders.channel(&self.vm, made_by.epoch, Channel::Memory)?;
        let address = json!({ "type": "unix", "data": { "path": disk_socket } });
        work.execute("nbd-server-start", json!({ "addr": address })).await?;
        for index in 0..disks {
            let name = format!("disk{index}");
            let export = json!({ "type": "nbd", "id": name, "node-name": name, "name": name,
                                 "writable": true });
            work.execute("block-export-add", export).await?;
        }
        let uri = format!("unix:{}", memory_socket.display());
        work.execute("migrate-incoming", json!({ "uri": uri })).await?;
        Ok(())
    }

    pub(super) async fn kill_target(&mut self, made_by: &Release) -> Result<(), HostError> {
        self.kill(made_by).await?;
        self.drop_reserved(made_by)
    }

    /// Only what never ran: anything else is some VM's disk.
    pub(super) fn drop_reserved(&self, made_by: &Release) -> Result<(), HostError> {
        let folder = self.folder(made_by);
        if folder.is_reserved() {
            folder.remove()?;
        }
        Ok(())
    }

    pub(super) async fn close_export(
        &mut self,
        made_by: &Release,
        kept: &Kept,
    ) -> Result<(), HostError> {
        let work = self.monitors(made_by, kept).await?.work;
        let exports = work.execute("query-block-exports", no_arguments()).await?;
        if exports.as_array().is_some_and(|exports| !exports.is_empty()) {
            work.execute("nbd-server-stop", no_arguments()).await?;
        }
        self.close_disk_channel(made_by, kept).await;
        Ok(())
    }
}
