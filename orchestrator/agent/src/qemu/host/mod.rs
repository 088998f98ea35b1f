//! The effects of fencing on real processes, disks and ports, and the facts that decisions need.

mod copying;
mod error;
mod looking;
mod ports;
mod target;

use std::io;
use std::sync::Arc;

use network::OpenTap;
use orchestrator_api::VmDefinition;
use placement::{Effect, End, Facts, Incarnation, Process as Fact, Release, VmName};

use super::command_line::{Begin, Given};
use super::process::Process;
use super::spawn;
use crate::config::{Accelerator, Config};
use crate::copy::{self, Copy, CopyError, no_arguments};
use crate::executor::{Host, Kept};
use crate::folders::{Kind, Monitor as Which, ProcessFolder};
use crate::port::{self, For, VmPort};
pub use error::HostError;

/// Memory of a multiple of this much is corrupted by moves under TCG in QEMU 7.2.
const EVEN_KIB: u64 = 256;

/// One VM on this host.
pub(crate) struct QemuHost {
    config: Arc<Config>,
    here: End,
    vm: VmName,
    processes: Vec<Process>,
    copy: Option<Copy>,
    port: VmPort,
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
            Effect::Hold(_) => self.hold(kept).await,
            Effect::KillOthers(but) => self.kill_others(but).await,
            Effect::CreateTarget(incarnation) => self.create_target(incarnation, kept).await,
            Effect::KillTarget(made_by) => {
                self.kill_target(made_by).await?;
                self.port_of_none(kept).await
            }
            Effect::CloseExport(made_by) => self.close_export(made_by, kept).await,
            Effect::PinPort(incarnation) => self.pin(incarnation, kept).await,
            Effect::ReleaseQueue(_) => self.release_queue(kept).await,
            Effect::Kill(incarnation) => self.forget(incarnation, kept).await,
            Effect::SetDiskAside { incarnation, left_by } => {
                let leftover = self.config.folders.leftover(&self.vm, left_by);
                Ok(self.folder(&incarnation.made_by).move_to(&leftover)?)
            }
            Effect::DeleteLeftover(left_by) => {
                Ok(self.config.folders.leftover(&self.vm, left_by).remove()?)
            }
            Effect::ClearPort(left_by) => self.clear_port(left_by, kept).await,
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
        port: VmPort,
    ) -> Result<QemuHost, HostError> {
        let vm = kept.record.vm.clone();
        let mut host = QemuHost { config, here, vm, processes: Vec::new(), copy: None, port };
        let Some(definition) = &kept.definition else { return Ok(host) };
        if let Err(error) = host.port.reconcile(definition).await {
            let why = daemon::with_causes(&error);
            tracing::error!(vm = %host.vm, why, "the VM's neighbours are not led to where it is");
        }
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
        if let Some(copy) = self.copy.as_mut().filter(|copy| copy.is_of(&incarnation.made_by)) {
            copy.cancel().await?;
        }
        let work = self.monitors(&incarnation.made_by, kept).await?.work;
        self.folder(&incarnation.made_by).keep()?;
        work.execute("cont", no_arguments()).await?;
        Ok(())
    }

    async fn stop(&mut self, incarnation: &Incarnation, kept: &Kept) -> Result<(), HostError> {
        let stopped = self.stand_still(incarnation, kept).await;
        if let Err(HostError::Copy(CopyError::SwitchedOver)) = &stopped {
            // It runs on, so that nothing is to be kept back for it any more.
            self.release_queue(kept).await?;
        }
        stopped?;
        self.ship_leftovers(incarnation, kept).await
    }

    async fn stand_still(
        &mut self,
        incarnation: &Incarnation,
        kept: &Kept,
    ) -> Result<(), HostError> {
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

    async fn kill(&mut self, made_by: &Release) -> Result<(), HostError> {
        if let Ok(process) = self.process(made_by) {
            process.kill().await.map_err(system("ended"))?;
        }
        self.processes.retain(|process| process.made_by != *made_by);
        self.forget_copy_of(made_by);
        Ok(self.config.folders.remove_sockets(&self.vm, made_by.epoch)?)
    }

    /// A copy ends with the process that it was made of.
    fn forget_copy_of(&mut self, made_by: &Release) {
        self.copy.take_if(|copy| copy.is_of(made_by));
    }

    async fn start(
        &mut self,
        made_by: &Release,
        kept: &Kept,
        begin: Begin,
    ) -> Result<(), HostError> {
        self.forget_copy_of(made_by);
        let (config, definition) = (Arc::clone(&self.config), definition(kept)?);
        let folder = self.folder(made_by);
        let image = config.image(&definition.boot.image);
        let image = image.ok_or_else(|| HostError::NoImage(definition.boot.image.to_string()))?;
        config.folders.remove_sockets(&self.vm, made_by.epoch)?;
        let (mut taps, mut names) = (Vec::new(), Vec::new());
        for (index, card) in definition.cards.iter().enumerate() {
            let network = config.network(&card.network);
            let network = network.ok_or_else(|| HostError::NoNetwork(card.network.to_string()))?;
            let alias = format!("causeway {} card {index} epoch {}", self.vm, made_by.epoch);
            let tap = OpenTap::of(&port::tag(&self.vm, index)?, &network.bridge, &alias)?;
            names.push(tap.name().to_owned());
            taps.push(tap.into_descriptor());
        }
        let what_for = match begin {
            Begin::Boot => For::Running,
            Begin::Receive => For::Target,
        };
        self.port.begin(definition, &names, what_for).await?;
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
