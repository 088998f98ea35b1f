//! How far a model copy is: each phase takes a time, and fails or switches over as planned.

use std::time::Duration;

use orchestrator_api::{CopyCommand, CopyRequest, Phase, Place, Progress, Refusal};
use placement::{Authority, Command, Order, Release, rules};
use tokio::time::Instant;

use super::host::denied;
use super::{Inner, orchestrator, refusal};

/// How copies go.
#[derive(Debug, Clone, Copy)]
pub struct CopyPlan {
    /// Until the mirrors are in step.
    pub mirror_ms: u64,
    /// Until little enough of memory remains.
    pub memory_ms: u64,
    /// From the stop until all is at the target.
    pub finish_ms: u64,
    /// So many copies end with a VM that has switched over by itself: those of memory before they
    /// are ready, and then, where `at_stop`, those that were ready, as the VM is stopped.
    pub switch_overs: u32,
    /// The switching over shows at the stop.
    pub at_stop: bool,
    /// A copy that comes into this phase fails.
    pub fails_in: Option<Phase>,
}

impl Default for CopyPlan {
    fn default() -> CopyPlan {
        CopyPlan {
            mirror_ms: 3_000,
            memory_ms: 2_000,
            finish_ms: 100,
            switch_overs: 0,
            at_stop: false,
            fails_in: None,
        }
    }
}

/// The copy of one move, at its source.
#[derive(Debug, Clone)]
pub(super) struct ModelCopy {
    pub(super) progress: Progress,
    pub(super) since: Instant,
    pub(super) to: Place,
    /// The target, by what made it.
    pub(super) target: Release,
    pub(super) is_stopped: bool,
}

impl ModelCopy {
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.progress.phase, Phase::Completed | Phase::Cancelled | Phase::Failed)
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.progress.phase = phase;
        self.since = now;
    }

    pub(super) fn fail(&mut self, why: &str, has_switched_over: bool) {
        self.progress.phase = Phase::Failed;
        self.progress.failure = Some(why.to_owned());
        self.progress.has_switched_over = has_switched_over;
    }
}

impl Inner {
    /// Lets every copy come as far as the time that has passed.
    pub(super) fn settle(&mut self, now: Instant) {
        let places: Vec<Place> = self.hosts.keys().cloned().collect();
        for place in places {
            let Some(host) = self.hosts.get_mut(&place) else { continue };
            let vms: Vec<_> = host.vms.keys().cloned().collect();
            for vm in vms {
                let copy = self.hosts.get_mut(&place).and_then(|host| host.vms.get_mut(&vm));
                let Some(mut copy) = copy.and_then(|vm| vm.copy.take()) else { continue };
                if copy.is_under_way() {
                    self.advance(&place, &vm, &mut copy, now);
                }
                if let Some(vm) = self.hosts.get_mut(&place).and_then(|host| host.vms.get_mut(&vm))
                {
                    vm.copy = Some(copy);
                }
            }
        }
    }

    fn advance(
        &mut self,
        from: &Place,
        vm: &placement::VmName,
        copy: &mut ModelCopy,
        now: Instant,
    ) {
        let target = self.hosts.get_mut(&copy.to).and_then(|host| host.vms.get_mut(vm));
        let stands = target.is_some_and(|vm| {
            vm.qemus.iter().any(|qemu| qemu.made_by == copy.target && qemu.is_incoming)
        });
        if !stands {
            return copy.fail("the target is gone", false);
        }
        if self.copies.fails_in == Some(copy.progress.phase) {
            return copy.fail("as planned", false);
        }
        let passed = |ms| now.duration_since(copy.since) >= Duration::from_millis(ms);
        match copy.progress.phase {
            Phase::Mirroring if passed(self.copies.mirror_ms) => {
                copy.progress.disk_done_bytes = copy.progress.disk_bytes;
                copy.enter(Phase::InStep, now);
            }
            Phase::Copying if passed(self.copies.memory_ms) => {
                if self.copies.switch_overs > 0 && !self.copies.at_stop {
                    return self.switch_over(vm, copy);
                }
                copy.progress.memory_remaining_bytes = 1 << 20;
                copy.enter(Phase::Ready, now);
            }
            Phase::Finishing if passed(self.copies.finish_ms) => {
                copy.progress.memory_remaining_bytes = 0;
                copy.enter(Phase::Completed, now);
                self.complete(from, vm, copy);
            }
            _ => {}
        }
    }

    /// The VM switched over by itself: it runs on, and the target's process is gone.
    pub(super) fn switch_over(&mut self, vm: &placement::VmName, copy: &mut ModelCopy) {
        self.copies.switch_overs -= 1;
        copy.fail("the VM switched over by itself", true);
        if let Some(vm) = self.hosts.get_mut(&copy.to).and_then(|host| host.vms.get_mut(vm)) {
            vm.qemus.retain(|qemu| qemu.made_by != copy.target);
        }
    }

    fn complete(&mut self, from: &Place, vm: &placement::VmName, copy: &ModelCopy) {
        let epoch = copy.progress.epoch;
        let source = self.hosts.get_mut(from).and_then(|host| host.vms.get_mut(vm));
        let Some(source) = source.and_then(|vm| vm.seats_qemu()) else { return };
        source.completed = Some(epoch);
        let state = source.state;
        let target = self.hosts.get_mut(&copy.to).and_then(|host| host.vms.get_mut(vm));
        let Some(target) = target else { return };
        target.disks.insert(copy.target.to_string(), state);
        for qemu in target.qemus.iter_mut().filter(|qemu| qemu.made_by == copy.target) {
            (qemu.is_loaded, qemu.state) = (true, state);
        }
    }

    /// A command about the copy, as the agent carries it out.
    pub(super) fn copy(&mut self, place: &Place, asked: &CopyRequest) -> Result<Progress, Refusal> {
        let now = Instant::now();
        let host = self.hosts.get_mut(place).ok_or_else(|| refusal("unknown_vm", "no host"))?;
        let here = host.here.clone();
        let vm = host.vms.get_mut(&asked.key.vm).filter(|vm| vm.is_known());
        let vm = vm.ok_or_else(|| refusal("unknown_vm", "no record"))?;
        if let Some(known) = vm.copies.iter().find(|known| known.key == asked.key) {
            if known.command != asked.command {
                return Err(refusal("key_reused", "this key was used for another command"));
            }
            if let Some(copy) = &vm.copy {
                return Ok(copy.progress.clone());
            }
        }
        let owner = asked.key.owner.clone().ok_or_else(|| refusal("key_differs", "no owner"))?;
        let authority = Authority { epoch: asked.key.epoch, owner };
        let command = Command::Hold { authority: authority.clone() };
        let order = Order { by: orchestrator(), command };
        rules::decide(&vm.record, &vm.facts(here), &order).map_err(|why| denied(&why))?;
        let progress = vm.copy_command(asked.command, &authority, now)?;
        vm.copies.push(asked.clone());
        Ok(progress)
    }
}

impl super::host::ModelVm {
    fn copy_command(
        &mut self,
        command: CopyCommand,
        authority: &Authority,
        now: Instant,
    ) -> Result<Progress, Refusal> {
        let epoch = authority.epoch;
        if command == CopyCommand::MirrorStart {
            self.begin_copy(authority, now)?;
        }
        if command == CopyCommand::Cancel {
            // Whichever move began it.
            let Some(copy) = &mut self.copy else {
                return Ok(progress(epoch, Phase::Cancelled, 0, 0));
            };
            copy.enter(Phase::Cancelled, now);
            return Ok(copy.progress.clone());
        }
        let fits = self.copy.as_mut().filter(|copy| copy.progress.epoch == epoch);
        let copy = fits.ok_or_else(|| refusal("copy_phase", "the copy is not begun"))?;
        let phase = copy.progress.phase;
        match command {
            CopyCommand::MemoryStart { .. } if phase == Phase::InStep => {
                copy.progress.memory_done_bytes = 1 << 20;
                copy.enter(Phase::Copying, now);
            }
            CopyCommand::Finish if matches!(phase, Phase::Finishing | Phase::Completed) => {}
            CopyCommand::Finish if copy.is_stopped && copy.is_under_way() => {
                copy.enter(Phase::Finishing, now);
            }
            CopyCommand::MirrorStart | CopyCommand::Cancel => {}
            CopyCommand::MemoryStart { .. } | CopyCommand::Finish => {
                return Err(refusal("copy_phase", format!("the copy is {phase:?}")));
            }
        }
        Ok(copy.progress.clone())
    }

    fn begin_copy(&mut self, authority: &Authority, now: Instant) -> Result<(), Refusal> {
        let stands = self.copy.as_ref();
        if stands.is_some_and(|copy| copy.progress.epoch == authority.epoch && copy.is_under_way())
        {
            return Ok(());
        }
        let definition = self.definition.as_ref();
        let definition = definition.ok_or_else(|| refusal("effect_failed", "no definition"))?;
        let pair = self.record.pair.as_ref().ok_or_else(|| refusal("copy_phase", "no claim"))?;
        let disk_bytes = definition.disks.iter().map(|disk| disk.bytes).sum();
        let memory_bytes = definition.memory_kib * 1024;
        self.copy = Some(ModelCopy {
            progress: progress(authority.epoch, Phase::Mirroring, disk_bytes, memory_bytes),
            since: now,
            to: Place::from(&pair.to),
            target: Release::from(authority.clone()),
            is_stopped: false,
        });
        Ok(())
    }
}

fn progress(epoch: placement::Epoch, phase: Phase, disk_bytes: u64, memory_bytes: u64) -> Progress {
    Progress {
        epoch,
        phase,
        disk_bytes,
        disk_done_bytes: 0,
        memory_done_bytes: 0,
        memory_remaining_bytes: memory_bytes,
        failure: None,
        has_switched_over: false,
    }
}
