//! VMs that move, as this proxy has to do with them: their claims, where they are, what stands for
//! them in the kernel, and what is kept back of theirs.
//!
//! A call passes in this order: the caller and the authority are checked, [`record`] says what the
//! call makes of what is kept, that is put on the disk, and then made so: first where the tunnel sends
//! its packets, then what stands in the kernel, so that none meets a tunnel that does not know it. All
//! calls about one VM are answered one after the other. A call that fails half-way is made again: what
//! is done already is found done.

mod error;
mod home;
mod kept;
mod on;
pub mod record;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::state::StateFolder;
use metrics::gauge;
use network::leg::{Away, VmWanted};
use network::{NetworkError, VmTag};
use placement::{Authority, Epoch, Identity, Pair, VmName, Watermark};
use proxy_api::{
    Diverted, Leftovers, LeftoversTaken, Networks, Redirect, Released, Stage, StandsIn, Vm, VmWay,
    Vms as Told, WayKind, WayPackets,
};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tunnel::driver::PacketError;
use tunnel::protocol::packets::{LeftInPort, Way, WayCounts};

pub use self::error::VmError;
use self::kept::Kept;
use self::record::{Here, Record};
use crate::epochs::{Epochs, VMS_MAX};
use crate::held::Held;
use crate::inter_site::InterSite;
use crate::leg::{Finder, Leg};

/// All VMs that were ever claimed or told here.
#[derive(Debug)]
pub struct Vms {
    here: Here,
    epochs: Epochs,
    inter_site: Arc<InterSite>,
    held: Arc<Held>,
    leg: Option<Arc<Mutex<Leg>>>,
    state: Arc<StateFolder>,
    all: Mutex<BTreeMap<VmName, Arc<Turn<Kept>>>>,
}

impl Vms {
    /// What was kept last, made so in the kernel again: after a crash most of it stands still. Blocks
    /// on disk and kernel.
    ///
    /// # Errors
    /// What is kept cannot be read, or the kernel does not take it.
    pub fn start(
        own: &Identity,
        epochs: Epochs,
        inter_site: &Arc<InterSite>,
        held: &Arc<Held>,
        mut leg: Option<Leg>,
        state: StateFolder,
    ) -> Result<Vms, VmError> {
        let told = leg.as_ref().map(Leg::told);
        let here = Here {
            site: own.site.clone(),
            proxy: own.name.clone(),
            network: told.as_ref().map(|leg| leg.network.clone()),
            gateways: told.as_ref().map(|leg| leg.gateways.clone()).unwrap_or_default(),
            leg: leg.as_ref().map(Leg::subnets).unwrap_or_default(),
        };
        let mut all = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        let mut ways = Vec::new();
        for vm in epochs.marks().into_keys() {
            let kept = Kept::load(&state, &vm)?;
            measure(&vm, kept.record().kind(&here));
            if let Some(way) = kept.record().way(&here) {
                ways.push((vm.clone(), way));
            }
            if let Some(of_vm) = kept.record().wanted(&here) {
                wanted.insert(tag(&vm)?, of_vm);
            }
            all.insert(vm, Arc::new(Turn::new(kept)));
        }
        for (vm, way) in ways {
            if let Err(error) = inter_site.set_way(&vm, Some(way)) {
                tracing::warn!(%vm, %error, "packets of a vm that has moved cannot go their way");
            }
        }
        match &mut leg {
            Some(leg) => leg.kernel().set_all(wanted)?,
            None if wanted.is_empty() => {}
            None => tracing::warn!("vms have moved by a leg that is configured no longer"),
        }
        Ok(Vms {
            here,
            epochs,
            inter_site: Arc::clone(inter_site),
            held: Arc::clone(held),
            leg: leg.map(|leg| Arc::new(Mutex::new(leg))),
            state: Arc::new(state),
            all: Mutex::new(all),
        })
    }

    /// The networks that the proxy has a leg on.
    #[must_use]
    pub fn networks(&self) -> Networks {
        let told =
            |leg: &Arc<Mutex<Leg>>| leg.lock().unwrap_or_else(PoisonError::into_inner).told();
        Networks { legs: self.leg.iter().map(told).collect() }
    }

    /// Every VM, in the order of their names.
    pub async fn told(&self) -> Told {
        let names: Vec<VmName> = self.all().keys().cloned().collect();
        let mut vms = Vec::new();
        for vm in names {
            vms.extend(self.told_of(&vm).await);
        }
        Told { vms }
    }

    /// One VM, where it is known.
    pub async fn told_of(&self, vm: &VmName) -> Option<Vm> {
        let turn = self.all().get(vm).cloned()?;
        let kept = turn.lock().await;
        Some(self.view(vm, kept.record()))
    }

    /// Takes a claim of a VM, and remembers its ends; channels of earlier moves end.
    ///
    /// # Errors
    /// [`VmError::Epoch`], and what cannot be kept.
    pub async fn claim(
        &self,
        vm: &VmName,
        authority: &Authority,
        pair: &Pair,
    ) -> Result<Watermark, VmError> {
        // Before there is anything of it here, so that strangers' names leave nothing.
        self.epochs.may_claim(vm, authority)?;
        let mut kept = self.turn(vm).await?;
        self.epochs.may_claim(vm, authority)?;
        let record = kept.record().clone().claimed(authority, pair);
        // First its ends: without the mark they are nobody's.
        kept.keep(record).await?;
        Ok(self.inter_site.claim(vm, authority).await?)
    }

    /// The move is over: its channels end, and nothing of it is taken any more.
    ///
    /// # Errors
    /// [`VmError::Epoch`].
    pub async fn give_back(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> Result<Watermark, VmError> {
        let _kept = self.turn(vm).await?;
        Ok(self.inter_site.give_back(vm, authority).await?)
    }

    /// The next placement.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn stage(&self, vm: &VmName, stage: Stage) -> Result<Vm, VmError> {
        if !self.here.is_end_of_stage(&stage) && self.all().contains_key(vm) {
            return self.goes_on(vm, &stage).await;
        }
        let mut kept = self.turn_under(vm, &stage.authority).await?;
        let record = kept.record().clone().staged(&self.here, stage)?;
        self.make_so(vm, &mut kept, record).await
    }

    /// The undo of a stage.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn unstage(&self, vm: &VmName, authority: &Authority) -> Result<Vm, VmError> {
        if let Some(told) = self.stays(vm, authority).await? {
            return Ok(told);
        }
        let mut kept = self.turn_under(vm, authority).await?;
        let record = kept.record().clone().unstaged()?;
        self.make_so(vm, &mut kept, record).await
    }

    /// The VM's new placement.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn redirect(&self, vm: &VmName, redirect: &Redirect) -> Result<Vm, VmError> {
        self.epochs.may_claim(vm, &redirect.authority)?;
        let mut kept = self.turn(vm).await?;
        // Only a claim raises the epoch at the proxies of a move; others take it from here.
        let claim = kept.record().claim.as_ref();
        let is_bystander = !claim.is_some_and(|claim| self.here.is_end_of(&claim.pair))
            || claim.is_some_and(|claim| claim.authority.epoch < redirect.authority.epoch);
        let record = kept.record().clone().redirected(&self.here, redirect)?;
        if is_bystander {
            self.inter_site.claim(vm, &redirect.authority).await?;
        } else {
            self.epochs.admit(vm, &redirect.authority)?;
        }
        let told = self.make_so(vm, &mut kept, record).await?;
        self.held.go_on(vm);
        Ok(told)
    }

    /// Nothing is to stand for the VM any more.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn reclaim(&self, vm: &VmName, release: Epoch) -> Result<(), VmError> {
        if !self.all().contains_key(vm) {
            return Ok(());
        }
        let mut kept = self.turn(vm).await?;
        let record = kept.record().clone().reclaimed(release)?;
        self.let_go(vm, &mut kept, record).await
    }

    /// Whether the VM has left from here, so that what begins towards it now came too late.
    pub async fn is_away(&self, vm: &VmName) -> bool {
        let turn = self.all().get(vm).cloned();
        match turn {
            Some(turn) => turn.lock().await.record().is_away(),
            None => false,
        }
    }

    /// Refuses whoever is not the agent of this site that the standing claim names.
    ///
    /// # Errors
    /// [`VmError::NotTheAgent`] and [`VmError::Epoch`].
    pub async fn admit_agent(
        &self,
        vm: &VmName,
        authority: &Authority,
        caller: &Identity,
    ) -> Result<(), VmError> {
        self.turn_of_agent(vm, authority, caller).await.map(drop)
    }

    /// The VM runs here, by its agent's word: where it has arrived, or where it stays after all.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn release(
        &self,
        vm: &VmName,
        authority: &Authority,
        caller: &Identity,
    ) -> Result<Released, VmError> {
        let mut kept = self.turn_of_agent(vm, authority, caller).await?;
        let record = kept.record().clone().released(&self.here);
        self.make_so(vm, &mut kept, record).await?;
        self.held.go_on(vm);
        let packets = self.inter_site.way_counts(vm).map_or(0, |counts| counts.released);
        Ok(Released { packets })
    }

    /// What this proxy has for the VM is kept back from here on, and sent ahead.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn divert(
        &self,
        vm: &VmName,
        authority: &Authority,
        caller: &Identity,
    ) -> Result<Diverted, VmError> {
        let mut kept = self.turn_of_agent(vm, authority, caller).await?;
        let record = kept.record().clone().diverted(&self.here, authority)?;
        if let Some(peer) = record.goes_to(&self.here) {
            let can = self.inter_site.can_carry_to(&peer);
            can.map_err(|source| VmError::NoPacketPath { vm: vm.clone(), source })?;
        }
        self.held.stand_still(vm);
        self.make_so(vm, &mut kept, record).await?;
        Ok(Diverted { legs: self.networks().legs })
    }

    /// This proxy answers for the VM: its port has been turned round.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn stand_in(
        &self,
        vm: &VmName,
        authority: &Authority,
        caller: &Identity,
    ) -> Result<StandsIn, VmError> {
        let mut kept = self.turn_of_agent(vm, authority, caller).await?;
        let record = kept.record().clone().stands_in(&self.here, authority)?;
        self.make_so(vm, &mut kept, record).await?;
        Ok(StandsIn {})
    }

    /// One part of what was left in the VM's port; it goes before all that is kept back.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn leftovers(
        &self,
        vm: &VmName,
        leftovers: Leftovers,
        caller: &Identity,
    ) -> Result<LeftoversTaken, VmError> {
        let Leftovers { head, packets } = leftovers;
        let kept = self.turn_of_agent(vm, &head.authority, caller).await?;
        kept.record().takes_leftovers(&self.here, &head.authority)?;
        let left = LeftInPort {
            epoch: head.authority.epoch,
            part: head.part,
            packets: packets.into_iter().map(Into::into).collect(),
            tuples: head.conversations.iter().map(record::way::tuple).collect(),
            is_last: head.is_last,
        };
        let taken = self.inter_site.leftovers(vm, left);
        let packets = taken.map_err(|source| VmError::NoPacketPath { vm: vm.clone(), source })?;
        Ok(LeftoversTaken { packets })
    }

    /// The tunnel to a proxy stands or does not: VMs that are there can be expected to answer, or
    /// cannot.
    pub async fn peer_is_reached(&self, peer: &Identity, is_reached: bool) {
        for vm in self.inter_site.vms_at(peer) {
            let turn = self.all().get(&vm).cloned();
            let Some(turn) = turn else { continue };
            let kept = turn.lock().await;
            // While it is held it stands still whatever the tunnel does.
            if kept.record().kind(&self.here) == Some(WayKind::Away) {
                match is_reached {
                    true => self.held.go_on(&vm),
                    false => self.held.stand_still(&vm),
                }
            }
        }
    }

    /// Puts `record` on the disk, then makes the tunnel and the kernel so.
    async fn make_so(&self, vm: &VmName, kept: &mut Kept, record: Record) -> Result<Vm, VmError> {
        let diverts = |wanted: &Option<VmWanted>| {
            wanted.as_ref().is_some_and(|wanted| wanted.away.is_some_and(|away| away.diverts))
        };
        let diverted = diverts(&kept.record().wanted(&self.here));
        let (way, wanted) = (record.way(&self.here), record.wanted(&self.here));
        kept.keep(record).await?;
        self.set_way(vm, way)?;
        if diverted && !diverts(&wanted) {
            self.come_home(vm, wanted.clone()).await?;
        }
        self.set(vm, wanted).await?;
        measure(vm, kept.record().kind(&self.here));
        Ok(self.view(vm, kept.record()))
    }

    /// Puts `record` on the disk, and takes away what nothing should stand for any more.
    async fn let_go(&self, vm: &VmName, kept: &mut Kept, record: Record) -> Result<(), VmError> {
        let (way, wanted) = (record.way(&self.here), record.wanted(&self.here));
        kept.keep(record).await?;
        // The routes first: what they lead here would have no way.
        self.set(vm, wanted).await?;
        self.set_way(vm, way)?;
        measure(vm, kept.record().kind(&self.here));
        Ok(())
    }

    /// The VM is here again, and what is here for it stops to go into the tunnel: not before what went
    /// there earlier has come out again, or it would be overtaken.
    async fn come_home(&self, vm: &VmName, wanted: Option<VmWanted>) -> Result<(), VmError> {
        self.inter_site.settled(vm).await;
        let beside = wanted.map(|wanted| VmWanted {
            away: Some(Away { diverts: false, stands_in: true }),
            ..wanted
        });
        if let Some(beside) = beside {
            self.set(vm, Some(beside)).await?;
            self.inter_site.settled(vm).await;
        }
        Ok(())
    }

    fn set_way(&self, vm: &VmName, way: Option<Way>) -> Result<(), VmError> {
        match self.inter_site.set_way(vm, way) {
            // A VM may move without a hold, and then break its connections.
            Err(PacketError::NoPackets) => Ok(()),
            set => set.map_err(|source| VmError::NoPacketPath { vm: vm.clone(), source }),
        }
    }

    async fn set(&self, vm: &VmName, wanted: Option<VmWanted>) -> Result<(), VmError> {
        let Some(leg) = &self.leg else {
            return if wanted.is_none() { Ok(()) } else { Err(VmError::NoLeg) };
        };
        let (leg, tag) = (Arc::clone(leg), tag(vm)?);
        let set = spawn_blocking(move || {
            let mut leg = leg.lock().unwrap_or_else(PoisonError::into_inner);
            leg.kernel().set(&tag, wanted)
        });
        Ok(set.await.map_err(VmError::Ending)??)
    }

    fn finder(&self) -> Option<Finder> {
        let leg = self.leg.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        leg.finder()
    }

    fn view(&self, vm: &VmName, record: &Record) -> Vm {
        let mark = self.epochs.mark(vm);
        let way = record.kind(&self.here).zip(record.card().cloned()).map(|(kind, card)| VmWay {
            kind,
            epoch: record.epoch(),
            peers: record.peers(&self.here),
            card,
            packets: self.inter_site.way_counts(vm).map(packets),
        });
        Vm {
            vm: vm.clone(),
            epoch: mark.epoch(),
            owner: mark.owner().cloned(),
            ended: mark.ended(),
            placement: record.placement.clone(),
            way,
        }
    }

    /// The turn of a call under the standing claim.
    async fn turn_under(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> Result<OwnedMutexGuard<Kept>, VmError> {
        // Before the turn, so that strangers' names leave nothing; and in it, for a claim may have
        // had the turn before.
        self.epochs.admit(vm, authority)?;
        let kept = self.turn(vm).await?;
        self.epochs.admit(vm, authority)?;
        Ok(kept)
    }

    /// The turn of a call that only the agent at the VM's port may make.
    async fn turn_of_agent(
        &self,
        vm: &VmName,
        authority: &Authority,
        caller: &Identity,
    ) -> Result<OwnedMutexGuard<Kept>, VmError> {
        let kept = self.turn_under(vm, authority).await?;
        if kept.record().names_agent(&self.here, authority, caller) {
            return Ok(kept);
        }
        Err(VmError::NotTheAgent { vm: vm.clone(), caller: Box::new(caller.clone()) })
    }

    /// The calling task's turn with this VM.
    async fn turn(&self, vm: &VmName) -> Result<OwnedMutexGuard<Kept>, VmError> {
        let known = self.all().get(vm).cloned();
        let turn = match known {
            Some(turn) => turn,
            None => {
                let (state, name) = (Arc::clone(&self.state), vm.clone());
                let load = spawn_blocking(move || Kept::load(&state, &name));
                let kept = load.await.map_err(VmError::Ending)??;
                let mut all = self.all();
                if all.len() >= VMS_MAX && !all.contains_key(vm) {
                    return Err(VmError::Epoch(crate::epochs::EpochError::Full));
                }
                Arc::clone(all.entry(vm.clone()).or_insert_with(|| Arc::new(Turn::new(kept))))
            }
        };
        Ok(turn.lock_owned().await)
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<VmName, Arc<Turn<Kept>>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn packets(counts: WayCounts) -> WayPackets {
    WayPackets {
        held: counts.held,
        held_bytes_now: counts.held_bytes_now,
        released: counts.released,
        sent: counts.sent,
        received: counts.received,
        dropped_overflow: counts.dropped_overflow,
        dropped_refused: counts.dropped_refused,
        dropped_other: counts.dropped_other,
    }
}

/// Which way the VM's packets go: 1 for that, 0 for the others.
fn measure(vm: &VmName, way: Option<WayKind>) {
    for kind in WayKind::ALL {
        let gauge = gauge!("causeway_vm_way", "vm" => vm.to_string(), "way" => kind.as_str());
        gauge.set(if way == Some(kind) { 1.0 } else { 0.0 });
    }
}

fn tag(vm: &VmName) -> Result<VmTag, NetworkError> {
    vm.as_str().parse()
}
