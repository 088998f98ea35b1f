//! Effects on the VM's ports, with the process whose taps they are.

use std::io;

use network::port::Announced;
use network::{NetworkError, TapQueue};
use orchestrator_api::agent::{self, PortCommand, WatchView};
use placement::{Authority, Incarnation, Release, Seat};
use proxy_api::GrantChannel;

use super::{HostError, QemuHost, definition, system};
use crate::executor::Kept;
use crate::port::{PortError, Taps};
use crate::qemu::process::Process;

impl QemuHost {
    pub(super) async fn hold(&mut self, kept: &Kept) -> Result<(), HostError> {
        let claim = claim_of(kept)?;
        let incarnation = kept.record.seat.incarnation().ok_or(HostError::NoDefinition)?;
        let QemuHost { processes, port, .. } = self;
        let process = find(processes, &incarnation.made_by)?;
        Ok(port.hold(definition(kept)?, process, &claim).await?)
    }

    pub(super) async fn ship_leftovers(
        &mut self,
        incarnation: &Incarnation,
        kept: &Kept,
    ) -> Result<(), HostError> {
        let claim = claim_of(kept)?;
        let QemuHost { processes, port, .. } = self;
        let process = find(processes, &incarnation.made_by)?;
        Ok(port.ship_leftovers(definition(kept)?, process, &claim).await?)
    }

    pub(super) async fn pin(
        &mut self,
        incarnation: &Incarnation,
        kept: &Kept,
    ) -> Result<(), HostError> {
        let taps = self.taps(incarnation)?;
        Ok(self.port.pin(definition(kept)?, &taps).await?)
    }

    /// Where no process is, there is no port that anything could follow to.
    pub(super) async fn release_queue(&mut self, kept: &Kept) -> Result<(), HostError> {
        let incarnation = kept.record.seat.incarnation().ok_or(HostError::NoDefinition)?;
        let taps = match self.taps(incarnation) {
            Err(HostError::NoProcess(_)) => return Ok(()),
            taps => taps?,
        };
        Ok(self.port.release(definition(kept)?, &taps, &claim_of(kept)?).await?)
    }

    /// The VM is elsewhere: first what is for it finds its way without QEMU, then QEMU ends.
    pub(super) async fn forget(
        &mut self,
        incarnation: &Incarnation,
        kept: &Kept,
    ) -> Result<(), HostError> {
        self.port.outlive(definition(kept)?).await?;
        self.kill(&incarnation.made_by).await?;
        self.port_of_none(kept).await
    }

    /// After a process has ended: what stands at the port without one.
    pub(super) async fn port_of_none(&mut self, kept: &Kept) -> Result<(), HostError> {
        if self.processes.is_empty()
            && let Some(definition) = &kept.definition
        {
            self.port.ended(definition).await?;
        }
        Ok(())
    }

    /// What leads the VM's neighbours to where it went. A VM that is here again, or went once more
    /// since, needs it still.
    pub(super) async fn clear_port(
        &mut self,
        left_by: &Release,
        kept: &Kept,
    ) -> Result<(), HostError> {
        let is_last = matches!(&kept.record.seat, Seat::Gone { release, .. }
            if release.epoch <= left_by.epoch);
        if is_last
            && self.processes.is_empty()
            && let Some(definition) = &kept.definition
        {
            self.port.reclaim(definition).await?;
        }
        Ok(())
    }

    /// With the export goes its channel. Where the proxy cannot be told, the export is closed all the
    /// same, and a later claim ends the channel.
    pub(super) async fn close_disk_channel(&mut self, made_by: &Release, kept: &Kept) {
        let target = kept.record.target.as_ref().filter(|target| target.made_by == *made_by);
        let Some(from) = target.and_then(|target| target.from.as_ref()) else { return };
        let grant = GrantChannel {
            authority: Authority { epoch: made_by.epoch, owner: made_by.owner.clone() },
            from: from.site.clone(),
            to: self.here.site.clone(),
            compress: false,
        };
        let channel = "disk".parse().expect("a name");
        if let Err(error) = self.port.close_channel(&channel, &grant).await {
            let why = daemon::with_causes(&error);
            tracing::warn!(vm = %self.vm, why, "the disk's channel stays open until a later claim");
        }
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.port.is_holding()
    }

    /// Changes what stands for a VM that runs here, once a move has ended.
    pub(crate) async fn change_port(
        &mut self,
        command: &PortCommand,
        kept: &Kept,
    ) -> Result<(), HostError> {
        let incarnation = kept.record.seat.incarnation().ok_or(HostError::NoDefinition)?;
        let taps = self.taps(incarnation)?;
        let definition = definition(kept)?;
        match command {
            PortCommand::ComeHome => self.port.come_home(definition, &taps).await?,
            PortCommand::LiftTakeOver { announced } => {
                let those: Vec<Announced> = announced.iter().map(announced_of).collect();
                self.port.lift_take_over(definition, &taps, &those).await?;
            }
        }
        Ok(())
    }

    /// What may wait until nobody asks anything of the VM.
    pub(crate) async fn tidy(&mut self, kept: &Kept) {
        if let Some(definition) = &kept.definition
            && let Err(error) = self.port.tidy(definition).await
        {
            let why = daemon::with_causes(&error);
            tracing::warn!(vm = %self.vm, why, "something unused stays at the VM's port");
        }
    }

    pub(crate) async fn watched(&mut self, kept: &Kept) -> Result<WatchView, PortError> {
        match &kept.definition {
            Some(definition) => self.port.watched(definition).await,
            None => Ok(WatchView {
                since_s: None,
                conversations: Vec::new(),
                peers: Vec::new(),
                is_whole: true,
            }),
        }
    }

    fn taps(&self, incarnation: &Incarnation) -> Result<Vec<String>, HostError> {
        let process = find(&self.processes, &incarnation.made_by)?;
        process.taps().map_err(system("asked for its taps"))
    }
}

fn announced_of(machine: &agent::Announced) -> Announced {
    Announced {
        address: machine.address,
        mac: machine.mac.bytes().into(),
        is_router: machine.is_router,
    }
}

impl Taps for Process {
    fn names(&self) -> io::Result<Vec<String>> {
        self.taps()
    }

    fn queue(&self, tap: &str) -> Result<TapQueue, NetworkError> {
        self.tap_queue(tap)
    }
}

/// The standing claim's; where it was given back, the one that the VM came here by.
fn claim_of(kept: &Kept) -> Result<Authority, PortError> {
    let record = &kept.record;
    if let Some(owner) = &record.owner {
        return Ok(Authority { epoch: record.epoch, owner: owner.clone() });
    }
    let made_by = record.seat.incarnation().map(|incarnation| incarnation.made_by.clone());
    let Release { epoch, owner } = made_by.ok_or(PortError::NoClaim)?;
    Ok(Authority { epoch, owner })
}

fn find<'p>(processes: &'p [Process], made_by: &Release) -> Result<&'p Process, HostError> {
    let found = processes.iter().find(|process| process.made_by == *made_by);
    found.ok_or_else(|| HostError::NoProcess(made_by.clone()))
}
