//! One host: an agent with its record, and the processes and disks that outlive it.

use std::collections::{BTreeMap, VecDeque};

use placement::order::Speaker;
use placement::*;

use crate::dice::Dice;

/// A process of the VM as it really is, which its agent need not know.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    pub(crate) made_by: Release,
    pub(crate) runs: bool,
    /// A command to run that was sent and is not carried out yet.
    pub(crate) cont_under_way: bool,
    pub(crate) completed: Option<Epoch>,
    pub(crate) incoming: bool,
    pub(crate) loaded: bool,
    pub(crate) export_open: bool,
}

/// An order being carried out, step by step.
#[derive(Debug, Clone)]
pub(crate) struct Busy {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) answer: Answer,
    pub(crate) to: Option<ReplyTo>,
}

/// Who waits for an answer.
#[derive(Debug, Clone)]
pub(crate) enum ReplyTo {
    /// By its incarnation.
    Orchestrator(u64),
    Agent {
        host: usize,
        boot: u64,
        plan: AgentPlan,
    },
}

/// Why an agent asked by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AgentPlan {
    RunOnRefusal,
    BootOnSeat,
    RefuseIdle,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) here: End,
    pub(crate) record: Record,
    pub(crate) qemus: Vec<Qemu>,
    /// State of the VM on each disk, by what made the disk.
    pub(crate) disks: BTreeMap<String, u64>,
    pub(crate) busy: Option<Busy>,
    pub(crate) boot: u64,
    pub(crate) must_look_after_boot: bool,
}

fn disk(made_by: &Release) -> String {
    made_by.to_string()
}

fn aside(left_by: &Release) -> String {
    format!("moved by {left_by}")
}

impl Host {
    pub(crate) fn new(name: &str) -> Host {
        let here = End {
            site: name.parse().unwrap(),
            agent: "hv1".parse().unwrap(),
            address: "192.0.2.1:7443".parse().unwrap(),
            proxy: "px1".parse().unwrap(),
        };
        Host {
            here,
            record: Record::unknown("web".parse().unwrap()),
            qemus: Vec::new(),
            disks: BTreeMap::new(),
            busy: None,
            boot: 0,
            must_look_after_boot: false,
        }
    }

    pub(crate) fn speaker(&self) -> Speaker {
        Speaker { site: self.here.site.clone(), agent: self.here.agent.clone() }
    }

    /// What the agent can see. A command to run that it does not know the end of may still come.
    pub(crate) fn facts(&self, dice: &mut Dice) -> Facts {
        let state = |qemu: &Qemu| {
            if qemu.cont_under_way {
                ProcessState::Unsure
            } else if qemu.incoming {
                ProcessState::Incoming { loaded: qemu.loaded }
            } else if qemu.runs {
                ProcessState::Running
            } else {
                qemu.completed.map_or(ProcessState::Stopped, |of| ProcessState::Completed { of })
            }
        };
        let process = |qemu: &Qemu| Process { made_by: qemu.made_by.clone(), state: state(qemu) };
        let processes = self.qemus.iter().map(process).collect();
        Facts { here: self.here.clone(), processes, lease_ran_out: dice.one_in(20) }
    }

    pub(crate) fn qemu(&mut self, made_by: &Release) -> Option<&mut Qemu> {
        self.qemus.iter_mut().find(|qemu| qemu.made_by == *made_by)
    }

    pub(crate) fn state_on_disk(&mut self, made_by: &Release) -> &mut u64 {
        self.disks.entry(disk(made_by)).or_insert(0)
    }

    /// Acts on the world. Every effect may come twice.
    pub(crate) fn act(&mut self, effect: Effect, now: u64, dice: &mut Dice) {
        match effect {
            Effect::Boot(incarnation) => self.boot_from(&incarnation, now),
            Effect::Continue(incarnation) => {
                if let Some(qemu) = self.qemu(&incarnation.made_by) {
                    qemu.cont_under_way = true;
                    if !dice.one_in(5) {
                        self.cont_arrives(&incarnation.made_by, now);
                    }
                }
            }
            Effect::Stop(incarnation) => {
                if let Some(qemu) = self.qemu(&incarnation.made_by) {
                    qemu.runs = false;
                }
            }
            Effect::KillOthers(kept) => self.end(|qemu| qemu.made_by != kept),
            Effect::CreateTarget(incarnation) => self.create_target(incarnation.made_by),
            Effect::KillTarget(made_by) => {
                self.end(|qemu| qemu.made_by == made_by);
                self.disks.remove(&disk(&made_by));
            }
            Effect::CloseExport(made_by) => {
                if let Some(qemu) = self.qemu(&made_by) {
                    qemu.export_open = false;
                }
            }
            Effect::Kill(incarnation) => self.end(|qemu| qemu.made_by == incarnation.made_by),
            Effect::SetDiskAside { incarnation, left_by } => {
                if let Some(state) = self.disks.remove(&disk(&incarnation.made_by)) {
                    self.disks.insert(aside(&left_by), state);
                }
            }
            Effect::DeleteLeftover(left_by) => {
                self.disks.remove(&aside(&left_by));
            }
            // Packets are another test's.
            Effect::Hold(_)
            | Effect::PinPort(_)
            | Effect::ReleaseQueue(_)
            | Effect::ClearPort(_) => {}
        }
    }

    fn create_target(&mut self, made_by: Release) {
        self.end(|qemu| qemu.made_by == made_by);
        *self.state_on_disk(&made_by) = 0;
        self.qemus.push(Qemu {
            made_by,
            runs: false,
            cont_under_way: false,
            completed: None,
            incoming: true,
            loaded: false,
            export_open: true,
        });
    }

    fn boot_from(&mut self, incarnation: &Incarnation, now: u64) {
        if self.qemu(&incarnation.made_by).is_some() {
            return;
        }
        if incarnation.from.is_none() {
            self.disks.entry(disk(&incarnation.made_by)).or_insert(now);
        }
        let state = self.disks.get(&disk(&incarnation.made_by)).copied();
        assert_eq!(state, Some(now), "booted from an old state, or from no disk");
        self.qemus.push(Qemu {
            made_by: incarnation.made_by.clone(),
            runs: true,
            cont_under_way: false,
            completed: None,
            incoming: false,
            loaded: false,
            export_open: false,
        });
    }

    /// A command to run is carried out, now or long after its agent died.
    pub(crate) fn cont_arrives(&mut self, made_by: &Release, now: u64) {
        let state = *self.state_on_disk(made_by);
        let Some(qemu) = self.qemu(made_by) else { return };
        if !qemu.cont_under_way {
            return;
        }
        assert_eq!(state, now, "ran on from an old state");
        assert!(!qemu.export_open, "ran with a second writer on its disk");
        *qemu = Qemu { runs: true, cont_under_way: false, completed: None, ..qemu.clone() };
        qemu.incoming = false;
    }

    fn end(&mut self, which: impl Fn(&Qemu) -> bool) {
        let running = self.qemus.iter().find(|qemu| which(qemu) && qemu.runs);
        assert!(running.is_none(), "an order killed the running VM: {running:?}");
        self.qemus.retain(|qemu| !which(qemu));
    }

    pub(crate) fn runs(&self) -> usize {
        self.qemus.iter().filter(|qemu| qemu.runs).count()
    }
}
