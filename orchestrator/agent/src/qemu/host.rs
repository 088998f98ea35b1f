//! The effects of fencing on real processes, disks and ports, and the facts that decisions need.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use network::{OpenTap, TapError};
use orchestrator_api::{CopyCommand, Mac, ProcessDoes, ProcessView, Progress, VmDefinition};
use placement::{Effect, Facts, Incarnation, ProcessState, Release, VmName};
use placement::{End, Process as Fact};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::command_line::{Begin, Given};
use super::process::{ConnectError, Process};
use super::spawn;
use crate::config::{Accelerator, Config};
use crate::copy::{self, Copy, CopyError, Source, no_arguments};
use crate::executor::{Host, Kept};
use crate::folders::{Channel, FolderError, Kind, Monitor as Which, ProcessFolder};
use crate::port::{Port, PortError};

/// Memory of a multiple of this much is corrupted by moves under TCG in QEMU 7.2.
const EVEN_KIB: u64 = 256;

/// How long a process may take to say what it does. One that waits for a dead link says nothing, and
/// must not keep the order waiting that ends its wait.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Why an effect failed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// This host has no such image.
    #[error("image '{0}' is not configured here; add an [[image]] of that name to the agent")]
    NoImage(String),
    /// This host has no such network.
    #[error("network '{0}' is not configured here; add a [[network]] of that name to the agent")]
    NoNetwork(String),
    /// Memory of a size that moves under TCG corrupt.
    #[error(
        "{0} KiB of memory is a multiple of {EVEN_KIB}, which moves under tcg corrupt; take 64 KiB less"
    )]
    EvenMemory(u64),
    /// The record has no definition.
    #[error("the record has no definition of the VM; send it with place or reserve")]
    NoDefinition,
    /// The process is gone.
    #[error("no process of the VM made by {0} is here")]
    NoProcess(Release),
    /// A process cannot be started, found or ended.
    #[error("QEMU cannot be {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was started, and cannot be reached; it was ended.
    #[error("QEMU does not come up; it says: {complaint}")]
    NotUp {
        /// The end of its log.
        complaint: String,
        /// How that showed.
        #[source]
        source: Box<HostError>,
    },
    /// Files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The network.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Monitors.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl From<super::MonitorError> for HostError {
    fn from(error: super::MonitorError) -> HostError {
        HostError::Connect(ConnectError::Monitor(error))
    }
}

/// One VM on this host.
pub(crate) struct QemuHost {
    config: Arc<Config>,
    here: End,
    vm: VmName,
    processes: Vec<Process>,
    copy: Option<Copy>,
    port: Box<dyn Port>,
}

impl Host for QemuHost {
    type Error = HostError;

    fn accepts(&self, definition: &VmDefinition) -> Result<(), HostError> {
        let boot = &definition.boot.image;
        if self.config.image(boot).is_none() {
            return Err(HostError::NoImage(boot.to_string()));
        }
        let unknown = |card: &&orchestrator_api::Card| self.config.network(&card.network).is_none();
        if let Some(card) = definition.cards.iter().find(unknown) {
            return Err(HostError::NoNetwork(card.network.to_string()));
        }
        let kib = definition.memory_kib;
        if self.config.qemu.accelerator == Accelerator::Tcg && kib.is_multiple_of(EVEN_KIB) {
            return Err(HostError::EvenMemory(kib));
        }
        Ok(())
    }

    async fn facts(&mut self, kept: &Kept) -> Result<Facts, HostError> {
        let mut processes = Vec::new();
        for (made_by, _, state) in self.look(kept).await {
            processes.push(Fact { made_by, state });
        }
        // Leases are not kept yet: an owner that fell silent is taken over by order alone.
        Ok(Facts { here: self.here.clone(), processes, lease_ran_out: false })
    }

    async fn perform(&mut self, effect: &Effect, kept: &Kept) -> Result<(), HostError> {
        match effect {
            Effect::Boot(incarnation) => self.boot(incarnation, kept).await,
            Effect::Continue(incarnation) => self.run_on(incarnation, kept).await,
            Effect::Stop(incarnation) => self.stop(incarnation, kept).await,
            Effect::Hold(epoch) => Ok(self.port.hold(&self.vm, *epoch)?),
            Effect::KillOthers(but) => self.kill_others(but).await,
            Effect::CreateTarget(incarnation) => self.create_target(incarnation, kept).await,
            Effect::KillTarget(made_by) => self.kill_target(made_by).await,
            Effect::CloseExport(made_by) => self.close_export(made_by, kept).await,
            Effect::PinPort(incarnation) => self.pin(incarnation, kept),
            Effect::ReleaseQueue(epoch) => Ok(self.port.release_queue(&self.vm, *epoch)?),
            Effect::Kill(incarnation) => self.kill(&incarnation.made_by).await,
            Effect::SetDiskAside { incarnation, left_by } => {
                let leftover = self.config.folders.leftover(&self.vm, left_by);
                Ok(self.folder(&incarnation.made_by).move_to(&leftover)?)
            }
            Effect::DeleteLeftover(left_by) => {
                Ok(self.config.folders.leftover(&self.vm, left_by).remove()?)
            }
        }
    }
}

impl QemuHost {
    /// The VM as it stands on this host: processes that outlived an earlier agent are found again,
    /// and a copy that was under way then, which nobody drives any more, is given up.
    pub(crate) async fn adopt(
        config: Arc<Config>,
        here: End,
        kept: &Kept,
        port: Box<dyn Port>,
    ) -> Result<QemuHost, HostError> {
        let vm = kept.record.vm.clone();
        let mut host = QemuHost { config, here, vm, processes: Vec::new(), copy: None, port };
        let Some(definition) = &kept.definition else { return Ok(host) };
        let found = Process::find(&host.vm, definition, &host.config.qemu.user);
        host.processes = found.map_err(system("found again"))?;
        for process in &host.processes {
            let (vm, pid) = (&host.vm, process.pid);
            tracing::info!(%vm, pid, made_by = %process.made_by, "process found again");
        }
        if let Some(incarnation) =
            kept.record.seat.is_here().then(|| kept.record.seat.incarnation())
            && let Some(made_by) = incarnation.map(|incarnation| incarnation.made_by.clone())
            && host.has(&made_by)
            && let Ok(monitors) = host.monitors(&made_by, kept).await
        {
            // A VM that stands still was stopped by an order: whether it runs on is an order too.
            // One that cannot be ended now is ended by the next order to cancel or to run.
            if let Err(error) = copy::cancel(&monitors, false).await {
                let why = daemon::with_causes(&error);
                tracing::warn!(vm = %host.vm, why, "a copy of an earlier agent is still there");
            }
        }
        Ok(host)
    }

    /// What the VM's processes do, as last looked at: now.
    pub(crate) async fn view(&mut self, kept: &Kept) -> Vec<ProcessView> {
        let looked = self.look(kept).await;
        let view = |(made_by, pid, state)| ProcessView { made_by, pid, does: does(state) };
        looked.into_iter().map(view).collect()
    }

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
        if let CopyCommand::MirrorStart = command {
            self.start_copy(kept).await?;
        }
        if let (CopyCommand::Cancel, None) = (command, &self.copy) {
            return self.cancel_unknown(kept).await;
        }
        let none = || CopyError::Phase { found: "not begun".to_owned(), wanted: "mirroring" };
        let copy = self.copy.as_mut().filter(|copy| copy.progress().epoch == epoch);
        let copy = copy.ok_or_else(none)?;
        match command {
            CopyCommand::MirrorStart => {}
            CopyCommand::MemoryStart { bytes_per_s, remaining_bytes_max } => {
                copy.start_memory(bytes_per_s, remaining_bytes_max)?;
            }
            CopyCommand::Finish => copy.finish()?,
            CopyCommand::Cancel => copy.cancel().await?,
        }
        Ok(copy.progress())
    }

    /// A copy that an earlier agent drove, if any, is ended; of its progress nothing is known.
    async fn cancel_unknown(&mut self, kept: &Kept) -> Result<Progress, HostError> {
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
            monitors,
            disks: definition(kept)?.disks.len(),
            disk_socket: folders.channel(&self.vm, epoch, Channel::Disk)?,
            memory_socket: folders.channel(&self.vm, epoch, Channel::Memory)?,
        };
        self.copy = Some(Copy::start(source, epoch));
        Ok(())
    }

    async fn look(&mut self, kept: &Kept) -> Vec<(Release, u32, ProcessState)> {
        self.processes.retain_mut(|process| !process.has_ended());
        let mut seen = Vec::new();
        for index in 0..self.processes.len() {
            let Some(process) = self.processes.get(index) else { break };
            let (made_by, pid) = (process.made_by.clone(), process.pid);
            let state = match timeout(LOOK_MAX, self.state(&made_by, kept)).await {
                Ok(Ok(state)) => state,
                Ok(Err(_)) | Err(_) => ProcessState::Unsure,
            };
            seen.push((made_by, pid, state));
        }
        seen
    }

    /// What one process does. An error means that it has not answered.
    async fn state(&mut self, made_by: &Release, kept: &Kept) -> Result<ProcessState, HostError> {
        let work = self.monitors(made_by, kept).await?.work;
        let status = work.execute("query-status", no_arguments()).await?;
        let word = status["status"].as_str().unwrap_or_default();
        if status["running"] == Value::Bool(true) {
            return Ok(ProcessState::Running);
        }
        if self.folder(made_by).is_reserved() {
            let migration = work.execute("query-migrate", no_arguments()).await?;
            let loaded = word != "inmigrate" && migration["status"] == "completed";
            return Ok(ProcessState::Incoming { loaded });
        }
        let is_seats = kept.record.seat.incarnation().is_some_and(|seat| seat.made_by == *made_by);
        let copy = self.copy.as_ref().filter(|_| is_seats);
        let progress = copy.map(|copy| (copy.progress(), copy.is_stopped()));
        Ok(match (word, progress) {
            ("postmigrate", Some((progress, true)))
                if progress.phase == orchestrator_api::Phase::Completed =>
            {
                ProcessState::Completed { of: progress.epoch }
            }
            // It stopped itself to switch over, and runs on by itself when that fails.
            ("finish-migrate", Some((_, false)) | None) => ProcessState::Unsure,
            _ => ProcessState::Stopped,
        })
    }

    async fn boot(&mut self, incarnation: &Incarnation, kept: &Kept) -> Result<(), HostError> {
        let made_by = &incarnation.made_by;
        if self.has(made_by) {
            return Ok(());
        }
        let (definition, folder) = (definition(kept)?, self.folder(made_by));
        // An empty disk is right only where the VM never ran and no move was ever begun.
        let is_first = incarnation.from.is_none() && kept.record.epoch == made_by.epoch;
        if is_first {
            folder.make(definition, &self.config.qemu.user, Kind::Own)?;
        }
        folder.check(definition)?;
        self.start(made_by, kept, Begin::Boot).await
    }

    /// Whatever was copied from it is old from here on.
    async fn run_on(&mut self, incarnation: &Incarnation, kept: &Kept) -> Result<(), HostError> {
        if let Some(copy) = &mut self.copy {
            copy.cancel().await?;
        }
        let work = self.monitors(&incarnation.made_by, kept).await?.work;
        self.folder(&incarnation.made_by).keep()?;
        work.execute("cont", no_arguments()).await?;
        Ok(())
    }

    async fn stop(&mut self, incarnation: &Incarnation, kept: &Kept) -> Result<(), HostError> {
        if let Some(copy) = &mut self.copy
            && copy.progress().epoch == kept.record.epoch
            && copy.is_under_way()
        {
            return Ok(copy.stop().await?);
        }
        let work = self.monitors(&incarnation.made_by, kept).await?.work;
        work.execute("stop", no_arguments()).await?;
        Ok(())
    }

    async fn kill_others(&mut self, but: &Release) -> Result<(), HostError> {
        let others = self.processes.iter().map(|process| process.made_by.clone());
        let others: Vec<Release> = others.filter(|made_by| made_by != but).collect();
        for made_by in others {
            self.kill(&made_by).await?;
            self.drop_reserved(&made_by)?;
        }
        Ok(())
    }

    async fn create_target(
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

    async fn kill_target(&mut self, made_by: &Release) -> Result<(), HostError> {
        self.kill(made_by).await?;
        self.drop_reserved(made_by)
    }

    /// Only what never ran: anything else is some VM's disk.
    fn drop_reserved(&self, made_by: &Release) -> Result<(), HostError> {
        let folder = self.folder(made_by);
        if folder.is_reserved() {
            folder.remove()?;
        }
        Ok(())
    }

    async fn close_export(&mut self, made_by: &Release, kept: &Kept) -> Result<(), HostError> {
        let work = self.monitors(made_by, kept).await?.work;
        let exports = work.execute("query-block-exports", no_arguments()).await?;
        if exports.as_array().is_some_and(|exports| !exports.is_empty()) {
            work.execute("nbd-server-stop", no_arguments()).await?;
        }
        Ok(())
    }

    fn pin(&mut self, incarnation: &Incarnation, kept: &Kept) -> Result<(), HostError> {
        let process = self.process(&incarnation.made_by)?;
        let taps = process.taps().map_err(system("asked for its taps"))?;
        let macs = definition(kept)?.cards.iter().map(|card| card.mac);
        let ports: Vec<(String, Mac)> = taps.into_iter().zip(macs).collect();
        Ok(self.port.pin(&self.vm, &ports)?)
    }

    async fn kill(&mut self, made_by: &Release) -> Result<(), HostError> {
        if let Ok(process) = self.process(made_by) {
            process.kill().await.map_err(system("ended"))?;
        }
        self.processes.retain(|process| process.made_by != *made_by);
        Ok(self.config.folders.remove_sockets(&self.vm, made_by.epoch)?)
    }

    async fn start(
        &mut self,
        made_by: &Release,
        kept: &Kept,
        begin: Begin,
    ) -> Result<(), HostError> {
        let (config, definition) = (Arc::clone(&self.config), definition(kept)?);
        let folder = self.folder(made_by);
        let image = config.image(&definition.boot.image);
        let image = image.ok_or_else(|| HostError::NoImage(definition.boot.image.to_string()))?;
        config.folders.remove_sockets(&self.vm, made_by.epoch)?;
        let mut taps = Vec::new();
        for (index, card) in definition.cards.iter().enumerate() {
            let network = config.network(&card.network);
            let network = network.ok_or_else(|| HostError::NoNetwork(card.network.to_string()))?;
            let alias = format!("causeway {} card {index} epoch {}", self.vm, made_by.epoch);
            taps.push(OpenTap::on(&network.bridge, &alias)?.into_descriptor());
        }
        let monitor = |which| config.folders.monitor(&self.vm, made_by.epoch, which);
        let given = Given {
            process_name: crate::folders::process_name(&self.vm, made_by),
            definition,
            accelerator: config.qemu.accelerator,
            image,
            disks: (0..definition.disks.len()).map(|index| folder.disk(index)).collect(),
            console: folder.console(),
            taps: spawn::numbers(&taps),
            monitors: vec![
                monitor(Which::Work)?,
                monitor(Which::Emergency)?,
                monitor(Which::Watch)?,
            ],
        };
        let (program, user) = (&config.qemu.program, &config.qemu.user);
        let child = spawn::spawn(program, &given.arguments(begin), user, taps, &folder.log()?)
            .map_err(system("started"))?;
        let process = Process::started(made_by.clone(), child).map_err(system("held"))?;
        tracing::info!(vm = %self.vm, pid = process.pid, made_by = %made_by, ?begin, "process started");
        self.processes.push(process);
        if let Err(error) = self.monitors(made_by, kept).await {
            // A process that nobody can reach must not stay: it would count as one that may run.
            self.kill(made_by).await?;
            let complaint = folder.complaint();
            return Err(HostError::NotUp { complaint, source: Box::new(error) });
        }
        Ok(())
    }

    async fn monitors(
        &mut self,
        made_by: &Release,
        kept: &Kept,
    ) -> Result<super::Monitors, HostError> {
        let definition = definition(kept)?;
        let (vm, folders) = (self.vm.clone(), self.config.folders.clone());
        Ok(self.process(made_by)?.connect(&vm, definition, &folders).await?)
    }

    fn has(&mut self, made_by: &Release) -> bool {
        self.process(made_by).is_ok_and(|process| !process.has_ended())
    }

    fn process(&mut self, made_by: &Release) -> Result<&mut Process, HostError> {
        let found = self.processes.iter_mut().find(|process| process.made_by == *made_by);
        found.ok_or_else(|| HostError::NoProcess(made_by.clone()))
    }

    fn folder(&self, made_by: &Release) -> ProcessFolder {
        self.config.folders.of(&self.vm, made_by)
    }
}

fn definition(kept: &Kept) -> Result<&VmDefinition, HostError> {
    kept.definition.as_ref().ok_or(HostError::NoDefinition)
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::System { action, source }
}

fn does(state: ProcessState) -> ProcessDoes {
    match state {
        ProcessState::Running => ProcessDoes::Runs,
        ProcessState::Unsure => ProcessDoes::Unsure,
        ProcessState::Stopped => ProcessDoes::Stopped,
        ProcessState::Completed { .. } => ProcessDoes::Completed,
        ProcessState::Incoming { loaded: false } => ProcessDoes::Waits,
        ProcessState::Incoming { loaded: true } => ProcessDoes::Loaded,
    }
}
