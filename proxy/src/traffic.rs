//! All workers together: what a reload, an operator or the end of the proxy wants of the flows.
//!
//! A change has two halves. [`Traffic::prepare`] builds the next snapshot and binds every socket that
//! it needs and is not there; it may fail, and has then changed nothing. [`Traffic::commit`] swaps
//! the snapshot and hands the sockets over; it cannot fail. Flows notice nothing of it.

use std::collections::HashSet;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use placement::{Epoch, PartName, VmName};
use proxy_api::{
    BackendAddress, Drained, FLOWS_PER_PAGE_MAX, Flow, FlowId, FlowPage, FlowQuery, PinnedPage,
    RefusedFor,
};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::health::Checks;
use crate::held::Held;
use crate::leg::Ground;
use crate::listen::{self, ListenError, Socket};
use crate::pinned::Seen;
use crate::service::{Backend, Service, Services, Vip};
use crate::shared::unix_ms;
use crate::worker::{Handle, Listing, Shared, Word};

/// Most workers, whatever the machine.
const WORKERS_MAX: usize = 64;
/// How long the start waits for the first check of every backend.
const FIRST_CHECKS_MS_MAX: u64 = 1_000;
/// How often an ending proxy looks whether flows are left.
const DRAIN_POLL_MS: u64 = 20;
/// How long flows may take to break off.
const BREAK_OFF_MS_MAX: u64 = 1_000;

/// The traffic of a proxy.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    checks: Checks,
    ground: Ground,
    /// Empty once the proxy has ended.
    workers: Mutex<Vec<Handle>>,
}

/// A change that can be made.
#[derive(Debug)]
pub struct Prepared {
    services: Services,
    flows_max: u64,
    /// By worker.
    words: Vec<Vec<Word>>,
}

impl Traffic {
    /// Workers that have nothing to do yet, and will reach backends from `ground`.
    ///
    /// # Errors
    /// The system has no threads for them.
    pub fn start(ground: Ground) -> io::Result<Traffic> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let shared = Arc::new(Shared::new(0));
        let workers = (0..cores.min(WORKERS_MAX))
            .map(|index| Handle::start(index, &shared, &ground))
            .collect::<io::Result<Vec<Handle>>>()?;
        let checks = Checks::of(ground.clone(), Arc::clone(&shared.held));
        Ok(Traffic { shared, checks, ground, workers: Mutex::new(workers) })
    }

    /// VMs that cannot answer at the moment.
    #[must_use]
    pub fn held(&self) -> &Arc<Held> {
        &self.shared.held
    }

    /// Makes everything ready that `config` needs.
    ///
    /// # Errors
    /// A VIP or a source is not to be had; nothing has changed.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, ListenError> {
        let workers = self.workers.lock().await;
        let before = self.shared.services.load();
        let services = Services::following(&config.services, &before);
        let wanted: HashSet<Vip> = services.vips().collect();
        let mut held = Vec::new();
        for worker in &*workers {
            let vips = asked(worker, Word::Held).await.unwrap_or_default();
            held.push(vips.into_iter().collect::<HashSet<Vip>>());
        }
        for vip in &wanted {
            if held.iter().all(|held| !held.contains(vip)) {
                listen::probe(*vip)?;
            }
        }
        for source in config.services.iter().flat_map(|service| service.source.each()) {
            listen::probe_source(&self.ground, *source)?;
        }
        let mut words = Vec::new();
        for held in &held {
            let serve = wanted.iter().map(|vip| {
                let socket: Option<Socket> =
                    (!held.contains(vip)).then(|| listen::socket(*vip)).transpose()?;
                Ok(Word::Serve(*vip, socket))
            });
            let mut words_of_one = serve.collect::<Result<Vec<Word>, ListenError>>()?;
            words_of_one.extend(held.difference(&wanted).map(|vip| Word::Leave(*vip)));
            words.push(words_of_one);
        }
        Ok(Prepared { services, flows_max: config.limits.flows_max, words })
    }

    /// Makes the change.
    pub async fn commit(&self, prepared: Prepared) {
        let Prepared { services, flows_max, words } = prepared;
        let services = Arc::new(services);
        let workers = self.workers.lock().await;
        self.checks.follow(&services);
        self.shared.capacity.set_max(flows_max);
        self.shared.services.store(services);
        for (worker, words) in workers.iter().zip(words) {
            for word in words {
                // Refused only by a worker that has ended, as the proxy then does.
                let _ = worker.words.send(word).await;
            }
        }
    }

    /// The first change: checks come first, so that health is known before the first client.
    pub async fn begin(&self, prepared: Prepared) {
        self.checks.follow(&prepared.services);
        self.checks.first(Duration::from_millis(FIRST_CHECKS_MS_MAX)).await;
        self.commit(prepared).await;
    }

    /// All services as they are.
    #[must_use]
    pub fn services(&self) -> proxy_api::Services {
        let services = self.shared.services.load();
        proxy_api::Services { services: services.all().iter().map(told).collect() }
    }

    /// A page of flows.
    pub async fn flows(&self, query: &FlowQuery) -> FlowPage {
        let workers = self.workers.lock().await;
        let mut flows = Vec::new();
        for worker in &*workers {
            let listed = asked(worker, |answer| Word::List(query.clone(), answer)).await;
            flows.extend(listed.unwrap_or_default());
        }
        flows.sort_unstable_by_key(|flow: &Flow| flow.id);
        let limit = query.limit.unwrap_or(FLOWS_PER_PAGE_MAX).min(FLOWS_PER_PAGE_MAX);
        let has_more = flows.len() > limit;
        flows.truncate(limit);
        let last = flows.last().map(|flow| flow.id);
        FlowPage { flows, more_after: last.filter(|_| has_more) }
    }

    /// One flow, live or remembered.
    pub async fn flow(&self, id: FlowId) -> Option<Flow> {
        let workers = self.workers.lock().await;
        if let Some((worker, place)) = self.shared.find(id)
            && let Some(worker) = workers.get(worker)
            && let Some(Some(flow)) = asked(worker, |answer| Word::Tell(id, place, answer)).await
        {
            return Some(flow);
        }
        for worker in &*workers {
            if let Some(Some(flow)) = asked(worker, |answer| Word::Remember(id, answer)).await {
                return Some(flow);
            }
        }
        None
    }

    /// A move of the VM begins: the flows towards it are listed for the ledger.
    pub async fn list_for(&self, vm: &VmName, epoch: Epoch) {
        if self.shared.pinned.begin(vm, epoch, unix_ms()) {
            let live = self.towards(vm, Listing::Begins).await;
            self.shared.pinned.list(vm, epoch, &live);
        }
    }

    /// A placement is to be told under this epoch; all moves up to `ended` are over.
    pub fn goes_on(&self, vm: &VmName, epoch: Epoch, ended: Epoch) {
        self.shared.pinned.goes_on(vm, epoch, ended);
    }

    /// The VM runs nowhere just now.
    pub async fn pivot_of(&self, vm: &VmName, epoch: Epoch) {
        let live = self.towards(vm, Listing::No).await;
        self.shared.pinned.pivot(vm, epoch, &live);
    }

    /// The VM has its place; `left` where it left from here.
    pub fn placed(&self, vm: &VmName, epoch: Epoch, left: bool) {
        self.shared.pinned.placed(vm, epoch, left);
    }

    /// Some of what was noted for one move; none where nothing was.
    pub async fn noted(
        &self,
        vm: &VmName,
        epoch: Epoch,
        after: Option<FlowId>,
    ) -> Option<PinnedPage> {
        let live = self.towards(vm, Listing::No).await;
        self.shared.pinned.page(vm, epoch, after, unix_ms(), &live)
    }

    /// The moves of a VM up to this one are reclaimed.
    pub fn forget(&self, vm: &VmName, release: Epoch) {
        self.shared.pinned.forget(vm, release);
    }

    /// The flows that live towards a VM.
    pub async fn flows_of(&self, vm: &VmName) -> Vec<FlowId> {
        let live = self.towards(vm, Listing::No).await;
        live.into_iter().map(|seen| seen.flow.id).collect()
    }

    async fn towards(&self, vm: &VmName, listing: Listing) -> Vec<Seen> {
        let workers = self.workers.lock().await;
        let mut flows = Vec::new();
        for worker in &*workers {
            let live = asked(worker, |answer| Word::Towards(vm.clone(), listing, answer)).await;
            flows.extend(live.unwrap_or_default());
        }
        flows.sort_unstable_by_key(|seen: &Seen| seen.flow.id);
        flows
    }

    /// Kills a flow; false where no such flow lives.
    pub async fn kill(&self, id: FlowId) -> bool {
        let workers = self.workers.lock().await;
        let Some((worker, place)) = self.shared.find(id) else { return false };
        let Some(worker) = workers.get(worker) else { return false };
        asked(worker, |answer| Word::Kill(id, place, answer)).await.unwrap_or(false)
    }

    /// Begins or ends the drain of a service; none where there is no such service.
    #[must_use]
    pub fn drain_service(&self, service: &PartName, draining: bool) -> Option<Drained> {
        let services = self.shared.services.load();
        let standing = &services.named(service)?.standing;
        standing.drain(draining);
        Some(Drained { draining, flows_active: standing.active() })
    }

    /// Begins or ends the drain of a backend; none where there is no such service or backend.
    #[must_use]
    pub fn drain_backend(
        &self,
        service: &PartName,
        backend: &PartName,
        draining: bool,
    ) -> Option<Drained> {
        let services = self.shared.services.load();
        let backend = services.named(service)?.backend(backend)?;
        backend.drain(draining);
        let flows_active = backend.targets().map(|target| target.active()).sum();
        Some(Drained { draining, flows_active })
    }

    /// Takes no new clients any more.
    pub async fn close(&self) {
        self.checks.follow(&Services::default());
        for service in self.shared.services.load().all() {
            service.standing.drain(true);
        }
        let workers = self.workers.lock().await;
        for worker in &*workers {
            for vip in asked(worker, Word::Held).await.unwrap_or_default() {
                // Refused only by a worker that has ended already.
                let _ = worker.words.send(Word::Leave(vip)).await;
            }
        }
    }

    /// Waits for flows to end by themselves, at most `bound`; how many are left.
    pub async fn drained(&self, bound: Duration) -> u64 {
        let deadline = Instant::now() + bound;
        loop {
            let left = self.shared.capacity.active();
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            let next = Instant::now() + Duration::from_millis(DRAIN_POLL_MS);
            sleep_until(next.min(deadline)).await;
        }
    }

    /// Breaks off the flows that are left, and ends the workers.
    pub async fn end(&self) {
        let mut workers = self.workers.lock().await;
        for worker in &*workers {
            // Refused only by a worker that has ended already.
            let _ = worker.words.send(Word::BreakOff).await;
        }
        self.drained(Duration::from_millis(BREAK_OFF_MS_MAX)).await;
        let workers = std::mem::take(&mut *workers);
        // A worker ends between two turns of its own.
        let ended = tokio::task::spawn_blocking(move || workers.into_iter().for_each(Handle::end));
        if ended.await.is_err() {
            tracing::error!("the workers' end panicked; report it, with the log around it");
        }
    }
}

async fn asked<T>(worker: &Handle, word: impl FnOnce(oneshot::Sender<T>) -> Word) -> Option<T> {
    let (answer, heard) = oneshot::channel();
    worker.words.send(word(answer)).await.ok()?;
    heard.await.ok()
}

fn told(service: &Arc<Service>) -> proxy_api::Service {
    let (config, standing) = (&service.config, &service.standing);
    let refused = RefusedFor::ALL.into_iter().map(|why| (why, standing.refused(why)));
    proxy_api::Service {
        name: config.name.clone(),
        protocol: config.protocol,
        listen: config.vips.clone(),
        draining: standing.is_draining(),
        flows_active: standing.active(),
        flows_opened: standing.opened(),
        refused: refused.filter(|(_, count)| *count > 0).collect(),
        backends: service.backends.iter().map(told_backend).collect(),
    }
}

fn told_backend(backend: &Backend) -> proxy_api::Backend {
    let addresses = backend.targets().map(|target| BackendAddress {
        address: target.address,
        health: target.health(),
        flows_active: target.active(),
    });
    proxy_api::Backend {
        name: backend.config.name.clone(),
        vm: backend.config.vm.clone(),
        draining: backend.is_draining(),
        addresses: addresses.collect(),
    }
}
