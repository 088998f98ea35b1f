//! Agents and their hosts in memory, for tests of what drives them: [`placement::rules`] decide, as
//! they do in the real agent, and what they decide is done to a model of QEMU.
//!
//! - [`world`](self): the hosts, who may be called, and what must never happen.
//! - [`fate`]: calls that are lost, late or repeated, and agents that die between two steps.
//! - `host`: one VM at one host: its record, processes, disks.
//! - `copy`: how far a copy is, by the time that has passed: tokio's, so that a test may stop it.

mod copy;
pub mod fate;
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestrator_api::agent::{PortCommand, PortRequest, WatchView};
use orchestrator_api::{
    Accelerator, CopyRequest, HostNetwork, HostView, MachineType, OrderRequest, Place, Progress,
    Refusal, VmView,
};
use placement::{Answer, End, Identity, Role, VmName};
use tokio::time::Instant;

use crate::port::{Hypervisor, Promise};
use crate::trouble::CallTrouble;
pub use copy::CopyPlan;
use fate::{Asked, Called, Fate, Mishap};
use host::ModelVm;

/// Every host of the model, and the VMs on them.
#[derive(Clone, Default)]
pub struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hosts: BTreeMap<Place, ModelHost>,
    /// How each VM's newest state is numbered: whatever runs makes a newer one.
    newest: BTreeMap<VmName, u64>,
    copies: CopyPlan,
    fate: Fate,
    wrong: Vec<String>,
}

struct ModelHost {
    here: End,
    view: HostView,
    vms: BTreeMap<VmName, ModelVm>,
    /// Nobody reaches it.
    is_cut_off: bool,
}

/// One host's agent, to those who call it.
#[derive(Clone)]
pub struct ModelAgent {
    world: World,
    place: Place,
}

impl World {
    /// A host with room for everything, and its agent.
    pub fn add(&self, here: End) -> ModelAgent {
        let (place, network) = (Place::from(&here), here.proxy.clone());
        let view = HostView {
            accelerator: Accelerator::Tcg,
            processor: "model".to_owned(),
            processor_features: Vec::new(),
            machines: vec![MachineType::Q35V7_2],
            images: vec!["guest".parse().expect("a name")],
            networks: vec![HostNetwork {
                name: "app".parse().expect("a name"),
                proxy: network,
                can_hold: false,
            }],
            disk_free_bytes: 1 << 40,
            memory_free_bytes: 1 << 40,
        };
        let host = ModelHost { here, view, vms: BTreeMap::new(), is_cut_off: false };
        self.lock().hosts.insert(place.clone(), host);
        ModelAgent { world: self.clone(), place }
    }

    /// How copies go from now on.
    pub fn copies(&self, plan: CopyPlan) {
        self.lock().copies = plan;
    }

    /// What becomes of each call from now on.
    pub fn fate(&self, fate: impl FnMut(&Called) -> Mishap + Send + 'static) {
        self.lock().fate.decide(fate);
    }

    /// No more mishaps; all that is late arrives.
    pub fn calm(&self) {
        let mut inner = self.lock();
        inner.fate.decide(|_| Mishap::None);
        inner.arrive(usize::MAX);
    }

    /// Changes what a host has.
    pub fn furnish(&self, place: &Place, change: impl FnOnce(&mut HostView)) {
        if let Some(host) = self.lock().hosts.get_mut(place) {
            change(&mut host.view);
        }
    }

    /// Cuts a host off, or makes it reached again.
    pub fn cut_off(&self, place: &Place, is_cut_off: bool) {
        if let Some(host) = self.lock().hosts.get_mut(place) {
            host.is_cut_off = is_cut_off;
        }
    }

    /// What must never have happened, and did.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    /// Where the VM runs.
    #[must_use]
    pub fn runs_at(&self, vm: &VmName) -> Vec<Place> {
        let inner = self.lock();
        let running = inner.hosts.iter().filter(|(_, host)| {
            host.vms.get(vm).is_some_and(|vm| vm.qemus.iter().any(|qemu| qemu.runs))
        });
        running.map(|(place, _)| place.clone()).collect()
    }

    /// What is at a host of the VM and is not its seat's: nothing, once a move has ended, but at the
    /// host that it left the disk that a reclaim deletes.
    #[must_use]
    pub fn left_over(&self, place: &Place, vm: &VmName) -> BTreeSet<String> {
        let inner = self.lock();
        let found = inner.hosts.get(place).and_then(|host| host.vms.get(vm));
        found.map(ModelVm::left_over).unwrap_or_default()
    }

    /// How a VM's port at a host was changed last, each command once.
    #[must_use]
    pub fn port(&self, place: &Place, vm: &VmName) -> Vec<PortCommand> {
        let inner = self.lock();
        let found = inner.hosts.get(place).and_then(|host| host.vms.get(vm));
        found.map(|vm| vm.port.clone()).unwrap_or_default()
    }

    /// Every call so far, and what became of it.
    #[must_use]
    pub fn story(&self) -> String {
        self.lock().fate.story()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panicked elsewhere is no reason to hide what happened here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl std::fmt::Debug for ModelAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelAgent({})", self.place)
    }
}

/// What an agent answers to what may be asked.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Order(Answer),
    Copy(Progress),
    Port,
}

impl Inner {
    /// One call, with what becomes of it. None: its caller was killed, and hears nothing.
    fn call(&mut self, place: &Place, asked: &Asked) -> Option<Result<Reply, CallTrouble>> {
        let (point, mishap) = self.fate.next(place, asked);
        self.arrive(point);
        if self.hosts.get(place).is_none_or(|host| host.is_cut_off) {
            return Some(Err(unreached(place)));
        }
        let later = |fate: &mut Fate, delay: u16| fate.later(point, delay, place, asked);
        match mishap {
            Mishap::None => Some(self.handle(place, asked, None)),
            Mishap::Lost => Some(Err(unheard(place))),
            Mishap::AnswerLost => {
                let _ = self.handle(place, asked, None);
                Some(Err(unheard(place)))
            }
            Mishap::Late(delay) => {
                later(&mut self.fate, delay);
                Some(Err(unheard(place)))
            }
            Mishap::Twice(delay) => {
                later(&mut self.fate, delay);
                Some(self.handle(place, asked, None))
            }
            Mishap::Dies(steps) => {
                let _ = self.handle(place, asked, Some(steps));
                self.restart(place);
                Some(Err(unheard(place)))
            }
            Mishap::CallerKilled => {
                let _ = self.handle(place, asked, None);
                None
            }
            Mishap::CallerKilledLate(delay) => {
                later(&mut self.fate, delay);
                None
            }
        }
    }

    fn arrive(&mut self, point: usize) {
        for (place, asked) in self.fate.due(point) {
            let answer = self.handle(&place, &asked, None);
            self.fate.tell(format!("late at {place}: {asked} -> {}", told(&answer)));
        }
    }

    /// As the agent does: look, decide, carry out, up to where it dies.
    fn handle(
        &mut self,
        place: &Place,
        asked: &Asked,
        dies_after: Option<usize>,
    ) -> Result<Reply, CallTrouble> {
        self.settle(Instant::now());
        let answer = match asked {
            Asked::Order(order) => self.order(place, order, dies_after).map(Reply::Order),
            Asked::Copy(copy) => self.copy(place, copy).map(Reply::Copy),
            // A change that its agent dies over is not carried out.
            Asked::Port(..) if dies_after == Some(0) => Ok(Reply::Port),
            Asked::Port(vm, asked) => self.port(place, vm, asked).map(|()| Reply::Port),
        };
        let answer = answer.map_err(|refusal| {
            let party = party(place);
            CallTrouble::Refused { party, refusal }
        });
        self.fate.tell(format!("   -> {}", told(&answer)));
        self.look_for_wrong(&asked.to_string());
        answer
    }

    fn look_for_wrong(&mut self, after: &str) {
        let names: BTreeSet<VmName> =
            self.hosts.values().flat_map(|host| host.vms.keys().cloned()).collect();
        for vm in names {
            let qemus = self.hosts.values().filter_map(|host| host.vms.get(&vm));
            let running = qemus.flat_map(|vm| &vm.qemus).filter(|qemu| qemu.runs).count();
            if running > 1 {
                self.wrong.push(format!("{vm} runs {running} times after {after}"));
            }
        }
    }
}

impl ModelAgent {
    /// The host that it is of.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    async fn call(&self, asked: Asked) -> Result<Reply, CallTrouble> {
        // In a statement of its own: the lock must not be held while nobody comes back.
        let answer = self.world.lock().call(&self.place, &asked);
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn look<T>(&self, look: impl FnOnce(&ModelHost, &str) -> T) -> Result<T, CallTrouble> {
        let mut inner = self.world.lock();
        inner.settle(Instant::now());
        let host = inner.hosts.get(&self.place).filter(|host| !host.is_cut_off);
        host.map(|host| look(host, "look")).ok_or_else(|| unreached(&self.place))
    }
}

impl Hypervisor for ModelAgent {
    fn promise(&self) -> Promise {
        Promise::Gated
    }

    async fn host(&self) -> Result<HostView, CallTrouble> {
        self.look(|host, _| host.view.clone())
    }

    async fn vms(&self) -> Result<Vec<VmView>, CallTrouble> {
        self.look(|host, _| host.vms.values().filter_map(ModelVm::view).collect())
    }

    async fn vm(&self, vm: &VmName) -> Result<Option<VmView>, CallTrouble> {
        self.look(|host, _| host.vms.get(vm).and_then(ModelVm::view))
    }

    /// Nobody speaks with a model's VM.
    async fn watched(&self, _: &VmName) -> Result<WatchView, CallTrouble> {
        self.look(|_, _| WatchView {
            since_s: None,
            conversations: Vec::new(),
            peers: Vec::new(),
            is_whole: true,
        })
    }

    async fn change_port(&self, vm: &VmName, asked: &PortRequest) -> Result<(), CallTrouble> {
        self.call(Asked::Port(vm.clone(), asked.clone())).await.map(drop)
    }

    async fn order(&self, order: &OrderRequest) -> Result<Answer, CallTrouble> {
        match self.call(Asked::Order(Box::new(order.clone()))).await? {
            Reply::Order(answer) => Ok(answer),
            _ => Err(unheard(&self.place)),
        }
    }

    async fn copy(&self, copy: &CopyRequest) -> Result<Progress, CallTrouble> {
        match self.call(Asked::Copy(copy.clone())).await? {
            Reply::Copy(progress) => Ok(progress),
            _ => Err(unheard(&self.place)),
        }
    }
}

/// Who calls model agents: only orchestrators do.
fn orchestrator() -> Identity {
    Identity {
        site: "hq".parse().expect("a name"),
        role: Role::Orchestrator,
        name: "serve".parse().expect("a name"),
    }
}

fn party(place: &Place) -> String {
    format!("agent {place}")
}

fn unreached(place: &Place) -> CallTrouble {
    CallTrouble::Unreached { party: party(place), source: "it is cut off".into() }
}

fn unheard(place: &Place) -> CallTrouble {
    CallTrouble::Unheard { party: party(place), is_cut: true, source: "the call was lost".into() }
}

fn told<T: std::fmt::Debug>(answer: &Result<T, CallTrouble>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(trouble) => trouble.to_string(),
    }
}

fn refusal(code: &str, message: impl Into<String>) -> Refusal {
    let (code, remedy) = (code.to_owned(), "see the model".to_owned());
    Refusal { code, message: message.into(), remedy }
}
