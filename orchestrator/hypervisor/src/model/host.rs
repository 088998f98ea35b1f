//! One VM at one host: its record, its processes and its disks, and what the rules' plans do to
//! them.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_api::agent::{PortCommand, PortRequest};
use orchestrator_api::{
    CopyRequest, OrderKey, OrderRequest, Phase, Place, ProcessDoes, ProcessView, Refusal,
    VmDefinition, VmView,
};
use placement::rules::{self, Alone};
use placement::{
    Answer, Command, Denied, Effect, End, Epoch, Facts, Incarnation, Order, Process, ProcessState,
    Record, Release, Seat, Step, VmName,
};

use super::copy::ModelCopy;
use super::{Inner, orchestrator, refusal};

/// A process of the VM as it really is.
#[derive(Debug, Clone)]
pub(super) struct Qemu {
    pub(super) made_by: Release,
    pub(super) runs: bool,
    pub(super) completed: Option<Epoch>,
    pub(super) is_incoming: bool,
    pub(super) is_loaded: bool,
    pub(super) is_export_open: bool,
    /// Which state of the VM is in it.
    pub(super) state: u64,
}

/// One VM at one host.
pub(super) struct ModelVm {
    pub(super) record: Record,
    pub(super) definition: Option<VmDefinition>,
    pub(super) qemus: Vec<Qemu>,
    /// Which state of the VM lies on each disk, by the disk's name.
    pub(super) disks: BTreeMap<String, u64>,
    pub(super) copy: Option<ModelCopy>,
    pub(super) copies: Vec<CopyRequest>,
    answers: Vec<(OrderKey, Command, Answer)>,
    /// How its port was changed.
    pub(super) port: Vec<PortCommand>,
}

/// Why an effect failed, after the code that the agent's API has for it.
type Failed = String;

impl ModelVm {
    fn unknown(vm: VmName) -> ModelVm {
        ModelVm {
            record: Record::unknown(vm),
            definition: None,
            qemus: Vec::new(),
            disks: BTreeMap::new(),
            copy: None,
            copies: Vec::new(),
            answers: Vec::new(),
            port: Vec::new(),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.record.epoch != Epoch::NONE
    }

    pub(super) fn facts(&self, here: End) -> Facts {
        let fact = |qemu: &Qemu| Process { made_by: qemu.made_by.clone(), state: state(qemu) };
        let processes = self.qemus.iter().map(fact).collect();
        Facts { here, processes, lease_ran_out: false }
    }

    pub(super) fn view(&self) -> Option<VmView> {
        let process = |qemu: &Qemu| ProcessView {
            made_by: qemu.made_by.clone(),
            pid: 1,
            does: match state(qemu) {
                ProcessState::Running => ProcessDoes::Runs,
                ProcessState::Unsure => ProcessDoes::Unsure,
                ProcessState::Stopped => ProcessDoes::Stopped,
                ProcessState::Completed { .. } => ProcessDoes::Completed,
                ProcessState::Incoming { loaded: false } => ProcessDoes::Waits,
                ProcessState::Incoming { loaded: true } => ProcessDoes::Loaded,
            },
        };
        self.is_known().then(|| VmView {
            record: self.record.clone(),
            definition: self.definition.clone(),
            processes: self.qemus.iter().map(process).collect(),
            progress: self.copy.as_ref().map(|copy| copy.progress.clone()),
        })
    }

    pub(super) fn seats_qemu(&mut self) -> Option<&mut Qemu> {
        let made_by = self.record.seat.incarnation()?.made_by.clone();
        self.qemu(&made_by)
    }

    fn qemu(&mut self, made_by: &Release) -> Option<&mut Qemu> {
        self.qemus.iter_mut().find(|qemu| qemu.made_by == *made_by)
    }

    pub(super) fn left_over(&self) -> BTreeSet<String> {
        let seats = self.record.seat.incarnation().map(|seat| seat.made_by.to_string());
        let processes = self.qemus.iter().map(|qemu| qemu.made_by.to_string());
        let strange = |name: &String| Some(name) != seats.as_ref();
        let processes = processes.filter(strange).map(|name| format!("process of {name}"));
        let disks = self.disks.keys().filter(|name| strange(name));
        processes.chain(disks.map(|name| format!("disk of {name}"))).collect()
    }
}

fn state(qemu: &Qemu) -> ProcessState {
    if qemu.is_incoming {
        ProcessState::Incoming { loaded: qemu.is_loaded }
    } else if qemu.runs {
        ProcessState::Running
    } else {
        qemu.completed.map_or(ProcessState::Stopped, |of| ProcessState::Completed { of })
    }
}

impl Inner {
    /// One order, whole or up to the step after which the agent dies.
    pub(super) fn port(
        &mut self,
        place: &Place,
        vm: &VmName,
        asked: &PortRequest,
    ) -> Result<(), Refusal> {
        let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(vm));
        let vm = vm.ok_or_else(|| refusal("unknown_vm", "no record"))?;
        let by = match &vm.record.seat {
            Seat::Started { incarnation, .. } => Some(&incarnation.made_by),
            _ => None,
        };
        if by != Some(&asked.release) {
            return Err(refusal("seat", "it does not run here by that release"));
        }
        if !vm.port.contains(&asked.command) {
            vm.port.push(asked.command.clone());
        }
        Ok(())
    }

    pub(super) fn order(
        &mut self,
        place: &Place,
        asked: &OrderRequest,
        dies_after: Option<usize>,
    ) -> Result<Answer, Refusal> {
        if !asked.is_consistent() {
            return Err(refusal("key_differs", "key and command speak of different moves"));
        }
        let host = self.hosts.get_mut(place).ok_or_else(|| refusal("unknown_vm", "no host"))?;
        let here = host.here.clone();
        let name = &asked.key.vm;
        let vm = host.vms.entry(name.clone()).or_insert_with(|| ModelVm::unknown(name.clone()));
        if let Some((_, command, answer)) = vm.answers.iter().find(|known| known.0 == asked.key) {
            let same = *command == asked.command;
            let reused = || refusal("key_reused", "this key was used for another command");
            return if same { Ok(answer.clone()) } else { Err(reused()) };
        }
        let order = Order { by: orchestrator(), command: asked.command.clone() };
        let plan =
            rules::decide(&vm.record, &vm.facts(here), &order).map_err(|why| denied(&why))?;
        if matches!(asked.command, Command::Place { .. } | Command::Reserve { .. }) {
            let given = asked.definition.as_deref();
            let given = given.ok_or_else(|| refusal("no_definition", "no definition"))?;
            vm.definition = Some(given.clone());
        }
        for (done, step) in plan.steps.into_iter().enumerate() {
            if dies_after.is_some_and(|steps| done >= steps) {
                return Err(refusal("dead", "it died"));
            }
            let carried = self.carry_out(place, name, step);
            carried.map_err(|(code, why)| refusal(code, why))?;
        }
        if let Some(vm) = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name)) {
            vm.answers.push((asked.key.clone(), asked.command.clone(), plan.answer.clone()));
        }
        Ok(plan.answer)
    }

    /// A new agent finds what its predecessor left: records, processes, disks, and no more. A copy
    /// that nobody drives any more is given up, and an accepted start is finished.
    pub(super) fn restart(&mut self, place: &Place) {
        let Some(host) = self.hosts.get_mut(place) else { return };
        let here = host.here.clone();
        let mut owed = Vec::new();
        for (name, vm) in &mut host.vms {
            (vm.copy, vm.copies, vm.answers) = (None, Vec::new(), Vec::new());
            for qemu in &mut vm.qemus {
                qemu.completed = None;
            }
            if let Alone::Do(plan) = rules::when_alone(&vm.record, &vm.facts(here.clone()), false) {
                owed.extend(plan.steps.into_iter().map(|step| (name.clone(), step)));
            }
        }
        for (name, step) in owed {
            if let Err((_, why)) = self.carry_out(place, &name, step) {
                self.wrong.push(format!("{place} cannot finish what it owes: {why}"));
            }
        }
        self.fate.tell(format!("{place} was started again"));
    }

    fn carry_out(
        &mut self,
        place: &Place,
        name: &VmName,
        step: Step,
    ) -> Result<(), (&'static str, Failed)> {
        match step {
            Step::Write(record) => {
                let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name));
                if let Some(vm) = vm {
                    vm.record = *record;
                }
                Ok(())
            }
            Step::Do(effect) => self.act(place, name, effect),
        }
    }

    /// Acts on the world. Every effect may come twice.
    fn act(
        &mut self,
        place: &Place,
        name: &VmName,
        effect: Effect,
    ) -> Result<(), (&'static str, Failed)> {
        let Some(host) = self.hosts.get_mut(place) else { return Ok(()) };
        let room = host.view.disk_free_bytes;
        let can_hold = host.view.networks.iter().all(|network| network.can_hold);
        let Some(vm) = host.vms.get_mut(name) else { return Ok(()) };
        match effect {
            Effect::Boot(incarnation) => self.boot(place, name, &incarnation),
            Effect::Continue(incarnation) => {
                if let Some(copy) = &mut vm.copy {
                    copy.progress.phase = Phase::Cancelled;
                }
                self.run_on(place, name, &incarnation.made_by);
            }
            Effect::Stop(incarnation) => return self.stop(place, name, &incarnation),
            Effect::Hold(_) if !can_hold => {
                return Err(("effect_failed", "this model keeps no packets back".to_owned()));
            }
            Effect::KillOthers(kept) => {
                let killed = self.end(place, name, |qemu| qemu.made_by != kept);
                self.drop_reserved(place, name, &killed);
            }
            Effect::CreateTarget(incarnation) => {
                return create_target(vm, incarnation.made_by, room);
            }
            Effect::KillTarget(made_by) => {
                let _ = self.end(place, name, |qemu| qemu.made_by == made_by);
                self.drop_reserved(place, name, &[made_by]);
            }
            Effect::CloseExport(made_by) => {
                if let Some(qemu) = vm.qemu(&made_by) {
                    qemu.is_export_open = false;
                }
            }
            Effect::Kill(incarnation) => {
                let _ = self.end(place, name, |qemu| qemu.made_by == incarnation.made_by);
            }
            Effect::SetDiskAside { incarnation, left_by } => {
                if let Some(state) = vm.disks.remove(&incarnation.made_by.to_string()) {
                    vm.disks.insert(format!("moved-{}", left_by.epoch), state);
                }
            }
            Effect::DeleteLeftover(left_by) => {
                vm.disks.remove(&format!("moved-{}", left_by.epoch));
            }
            Effect::Hold(_)
            | Effect::PinPort(_)
            | Effect::ReleaseQueue(_)
            | Effect::ClearPort(_) => {}
        }
        Ok(())
    }

    fn boot(&mut self, place: &Place, name: &VmName, incarnation: &Incarnation) {
        let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name));
        let Some(vm) = vm else { return };
        let made_by = &incarnation.made_by;
        if vm.qemu(made_by).is_some() {
            return;
        }
        let newest = self.newest.entry(name.clone()).or_insert(1);
        if incarnation.from.is_none() {
            vm.disks.entry(made_by.to_string()).or_insert(*newest);
        }
        let Some(state) = vm.disks.get(&made_by.to_string()).copied() else {
            self.wrong.push(format!("{place} booted {name} without a disk"));
            return;
        };
        vm.qemus.push(Qemu {
            made_by: made_by.clone(),
            runs: false,
            completed: None,
            is_incoming: false,
            is_loaded: false,
            is_export_open: false,
            state,
        });
        self.run_on(place, name, made_by);
    }

    /// From here on there is a newer state, at this process and on its disk.
    fn run_on(&mut self, place: &Place, name: &VmName, made_by: &Release) {
        let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name));
        let Some(vm) = vm else { return };
        let newest = self.newest.entry(name.clone()).or_insert(1);
        let Some(qemu) = vm.qemus.iter_mut().find(|qemu| qemu.made_by == *made_by) else { return };
        if qemu.runs {
            return;
        }
        if qemu.state != *newest {
            self.wrong.push(format!("{place} ran {name} on from an old state"));
        }
        if qemu.is_export_open {
            self.wrong.push(format!("{place} ran {name} with a second writer on its disk"));
        }
        *newest += 1;
        let state = *newest;
        *qemu = Qemu { runs: true, completed: None, is_incoming: false, state, ..qemu.clone() };
        vm.disks.insert(made_by.to_string(), state);
    }

    fn stop(
        &mut self,
        place: &Place,
        name: &VmName,
        incarnation: &Incarnation,
    ) -> Result<(), (&'static str, Failed)> {
        let (at_stop, left) = (self.copies.at_stop, self.copies.switch_overs);
        let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name));
        let Some(vm) = vm else { return Ok(()) };
        let epoch = vm.record.epoch;
        let copy = vm.copy.as_mut().filter(|copy| copy.progress.epoch == epoch);
        if let Some(copy) = copy.filter(|copy| copy.is_under_way()) {
            if at_stop && left > 0 {
                let mut switched = copy.clone();
                self.switch_over(name, &mut switched);
                if let Some(vm) = self.hosts.get_mut(place).and_then(|h| h.vms.get_mut(name)) {
                    vm.copy = Some(switched);
                }
                return Err(("switched_over", "the VM switched over by itself".to_owned()));
            }
            copy.is_stopped = true;
        }
        if let Some(qemu) = vm.qemu(&incarnation.made_by) {
            qemu.runs = false;
        }
        Ok(())
    }

    fn end(&mut self, place: &Place, name: &VmName, which: impl Fn(&Qemu) -> bool) -> Vec<Release> {
        let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name));
        let Some(vm) = vm else { return Vec::new() };
        if vm.qemus.iter().any(|qemu| which(qemu) && qemu.runs) {
            self.wrong.push(format!("an order killed {name}, which ran at {place}"));
        }
        let ended = vm.qemus.iter().filter(|qemu| which(qemu)).map(|qemu| qemu.made_by.clone());
        let ended = ended.collect();
        vm.qemus.retain(|qemu| !which(qemu));
        ended
    }

    /// Only what never ran: anything else is some VM's disk.
    fn drop_reserved(&mut self, place: &Place, name: &VmName, made_by: &[Release]) {
        let vm = self.hosts.get_mut(place).and_then(|host| host.vms.get_mut(name));
        let Some(vm) = vm else { return };
        let seats = vm.record.seat.incarnation().map(|seat| seat.made_by.clone());
        for made_by in made_by.iter().filter(|made_by| Some(*made_by) != seats.as_ref()) {
            vm.disks.remove(&made_by.to_string());
        }
    }
}

fn create_target(
    vm: &mut ModelVm,
    made_by: Release,
    room: u64,
) -> Result<(), (&'static str, Failed)> {
    vm.qemus.retain(|qemu| qemu.made_by != made_by);
    let disks = vm.definition.iter().flat_map(|definition| &definition.disks);
    let needed: u64 = disks.map(|disk| disk.bytes).sum();
    if needed > room {
        return Err(("effect_failed", format!("{needed} bytes do not fit into {room}")));
    }
    vm.disks.insert(made_by.to_string(), 0);
    vm.qemus.push(Qemu {
        made_by,
        runs: false,
        completed: None,
        is_incoming: true,
        is_loaded: false,
        is_export_open: true,
        state: 0,
    });
    Ok(())
}

/// The rules' refusals go by the names that the real agent's API has for them.
pub(super) fn denied(why: &Denied) -> Refusal {
    let value = serde_json::to_value(why).unwrap_or_default();
    refusal(value["denied"].as_str().unwrap_or("denied"), why.to_string())
}
