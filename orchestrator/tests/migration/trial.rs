//! One VM, three sites, a journal, and a service that is started again as often as it dies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hypervisor::Hypervisor;
use hypervisor::model::{CopyPlan, World};
use orchestrator::migration::MoveVm;
use orchestrator::migration::workflow::Moved;
use orchestrator_api::{Move, MoveOptions, OrderKey, OrderRequest, Place, VmDefinition};
use placement::{Authority, Command, End, Epoch, Owner, Pair, VmName};
use saga::journal::memory::{Fault, MemoryJournal};
use saga::journal::{Append, Journal, Pending};
use saga::{Clock, Control, End as Ended, Event, OpenError, Runner, SagaName, Stopped, Wait};
use tokio::time::{sleep, timeout};

use crate::name_servers::{ModelNameServer, TTLS_S};
use crate::proxies::{ModelParties, ModelProxy, SITES};

/// Most lives of one move; more mean that it never ends.
pub(crate) const LIVES_MAX: usize = 48;
/// What has not ended after so long of model time was killed. Longer than any wait of a room.
const LIFE_MAX: Duration = Duration::from_secs(3_600);
/// Short, so that a matrix of runs has few looks.
pub(crate) const QUICK: CopyPlan = CopyPlan {
    mirror_ms: 100,
    memory_ms: 100,
    finish_ms: 10,
    switch_overs: 0,
    at_stop: false,
    fails_in: None,
};

#[derive(Debug)]
struct ModelClock;

impl Clock for ModelClock {
    fn unix_ms(&self) -> u64 {
        0
    }

    fn wait(&self, wait: Wait) -> Pending<'_, ()> {
        Box::pin(sleep(wait.backoff()))
    }
}

/// What came of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Came {
    Moved,
    Stayed(String),
}

pub(crate) struct Trial {
    pub(crate) world: World,
    pub(crate) parties: ModelParties,
    pub(crate) journal: Arc<MemoryJournal>,
    /// What the service calls itself.
    name: &'static str,
    incarnations: AtomicU64,
    /// The driver of the life under way.
    pub(crate) control: Arc<Mutex<Option<Control>>>,
    pub(crate) lives: AtomicU64,
}

pub(crate) fn vm() -> VmName {
    "web".parse().unwrap()
}

pub(crate) fn end(site: &str) -> End {
    End {
        site: site.parse().unwrap(),
        agent: "hv1".parse().unwrap(),
        address: ([127, 0, 0, 1], 7402).into(),
        proxy: "p1".parse().unwrap(),
    }
}

pub(crate) fn place(site: &str) -> Place {
    Place::from(&end(site))
}

pub(crate) fn owner(incarnation: u64) -> Owner {
    Owner { name: "serve".parse().unwrap(), incarnation }
}

pub(crate) fn definition() -> VmDefinition {
    serde_json::from_value(serde_json::json!({
        "name": "web", "uuid": "6f1c7f2e-5f0a-4d5e-9a57-000000000001",
        "machine": "pc-q35-7.2", "memory_kib": 262_016, "processors": 1,
        "disks": [{ "bytes": 64 << 20 }],
        "cards": [{ "mac": "02:00:00:00:02:01", "network": "app", "addresses": ["10.9.2.1"] }],
        "boot": { "image": "guest", "words": [] },
    }))
    .unwrap()
}

pub(crate) fn wanted(from: &str, to: &str) -> Move {
    let pair = Pair { from: end(from), to: end(to) };
    Move { vm: vm(), pair, options: MoveOptions::default() }
}

impl Trial {
    /// The VM runs at a.
    pub(crate) async fn new() -> Trial {
        let world = World::default();
        world.copies(QUICK);
        let mut parties = ModelParties::default();
        for site in SITES {
            parties.agents.insert(place(site), world.add(end(site)));
            let name = (site.parse().unwrap(), "p1".parse().unwrap());
            parties.proxies.insert(name, ModelProxy::default());
            let name = (site.parse().unwrap(), "ns1".parse().unwrap());
            parties.name_servers.insert(name, ModelNameServer::default());
        }
        let trial = Trial {
            world,
            parties,
            journal: Arc::new(MemoryJournal::new()),
            name: "serve",
            incarnations: AtomicU64::new(1),
            control: Arc::default(),
            lives: AtomicU64::new(0),
        };
        trial.place_at("a").await;
        trial
    }

    /// Another service, with a journal of its own, among the same parties.
    pub(crate) fn another(&self, name: &'static str) -> Trial {
        Trial {
            world: self.world.clone(),
            parties: self.parties.clone(),
            journal: Arc::new(MemoryJournal::new()),
            name,
            incarnations: AtomicU64::new(1),
            control: Arc::default(),
            lives: AtomicU64::new(0),
        }
    }

    async fn place_at(&self, site: &str) {
        let authority = Authority { epoch: Epoch::FIRST, owner: owner(1) };
        let key = OrderKey {
            vm: vm(),
            epoch: authority.epoch,
            owner: Some(authority.owner.clone()),
            step: "place".parse().unwrap(),
            attempt: 1,
        };
        let command = Command::Place { owner: authority.owner };
        let order = OrderRequest { key, command, definition: Some(Box::new(definition())) };
        self.parties.agents[&place(site)].order(&order).await.unwrap();
    }

    /// Drives the move, in as many lives as it takes, to its end.
    pub(crate) async fn live(&self, name: &str, wanted: &Move) -> Came {
        for _ in 0..LIVES_MAX {
            self.lives.fetch_add(1, Ordering::Relaxed);
            // Otherwise it gave up for now, or was killed.
            if let Ok(Some(came)) = timeout(LIFE_MAX, self.one_life(name, wanted)).await {
                return came;
            }
        }
        panic!("no end after {LIVES_MAX} lives:\n{}", self.story(name).await);
    }

    async fn one_life(&self, name: &str, wanted: &Move) -> Option<Came> {
        let saga = SagaName::new(name).unwrap();
        let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed) + 1;
        let owner = Owner { name: self.name.parse().unwrap(), incarnation };
        let mover = MoveVm { parties: self.parties.clone(), owner };
        let runner =
            Runner::new(Arc::clone(&self.journal) as Arc<dyn Journal>, Arc::new(ModelClock));
        let opened = match runner.open(&mover, saga.clone(), wanted.clone()).await {
            Err(OpenError::NameTaken(_)) => runner.resume(&mover, saga).await,
            opened => opened,
        };
        let driven = match opened {
            Ok(driven) => driven,
            Err(OpenError::Over { end, .. }) => {
                return Some(match end {
                    saga::Ended::Completed { .. } => Came::Moved,
                    saga::Ended::Undone { cause } => Came::Stayed(format!("{cause:?}")),
                });
            }
            Err(OpenError::Stopped(stopped)) => {
                assert!(!is_defect(&stopped), "{stopped}");
                return None;
            }
            Err(other) => panic!("{other}"),
        };
        *self.control.lock().unwrap() = Some(driven.control());
        match driven.drive().await {
            Ok(Ended::Completed(Moved { .. })) => Some(Came::Moved),
            Ok(Ended::Undone(cause)) => Some(Came::Stayed(format!("{cause:?}"))),
            Err(stopped) => {
                assert!(!is_defect(&stopped), "{stopped}");
                None
            }
        }
    }

    /// What holds at the end of every move from `from` to `to`, whatever happened.
    pub(crate) async fn check(&self, name: &str, came: &Came, from: &str, to: &str) {
        let story = self.story(name).await;
        self.world.calm();
        assert!(self.world.wrong().is_empty(), "{:?}\n{story}", self.world.wrong());
        let (runs, other) = if *came == Came::Moved { (to, from) } else { (from, to) };
        assert_eq!(self.world.runs_at(&vm()), [place(runs)], "{came:?}\n{story}");
        let left = |site| self.world.left_over(&place(site), &vm());
        assert!(left(runs).is_empty(), "{:?} at {runs}\n{story}", left(runs));
        let only_aside = left(other).iter().all(|what| what.starts_with("disk of moved-"));
        let may_be_aside = *came == Came::Moved && only_aside;
        assert!(may_be_aside || left(other).is_empty(), "{:?} at {other}\n{story}", left(other));
        for (name, proxy) in &self.parties.proxies {
            assert!(proxy.grants().is_empty(), "{:?} at {name:?}\n{story}", proxy.grants());
        }
        // Names are answered with where the VM runs, and live as long as ever.
        for (name, server) in &self.parties.name_servers {
            server.calm();
            assert_eq!(server.answer(), (runs.to_owned(), TTLS_S[0]), "{name:?}\n{story}");
        }
        let view = self.parties.agents[&place(runs)].vm(&vm()).await.unwrap().unwrap();
        assert!(view.record.seat.is_here(), "{:?}\n{story}", view.record);
    }

    /// The VM can be moved on from wherever it is now, without a mishap.
    pub(crate) async fn moves_on(&self, name: &str, came: &Came, from: &str, to: &str) {
        self.world.calm();
        self.journal.without_faults();
        self.world.copies(QUICK);
        let at = if *came == Came::Moved { to } else { from };
        let again = format!("{name}-again");
        let on = self.live(&again, &wanted(at, "c")).await;
        let story = self.story(&again).await;
        assert_eq!(on, Came::Moved, "after {came:?}:\n{}\n{story}", self.told(name).await);
        self.check(&again, &on, at, "c").await;
    }

    /// Counts appends from now on, and gives each the fault that `decide` has for it.
    pub(crate) fn faults(&self, mut decide: impl FnMut(usize, &Append) -> Fault + Send + 'static) {
        let mut at = 0;
        self.journal.with_faults(move |append| {
            at += 1;
            decide(at - 1, append)
        });
    }

    pub(crate) async fn events(&self, name: &str) -> Vec<Event> {
        let saga = SagaName::new(name).unwrap();
        saga::events(&self.journal.read(&saga).await.unwrap()).unwrap()
    }

    async fn told(&self, name: &str) -> String {
        let events = self.events(name).await;
        events.iter().map(|event| format!("{event:?}")).collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn story(&self, name: &str) -> String {
        format!("{}\n--- calls\n{}", self.told(name).await, self.world.story())
    }
}

fn is_defect(stopped: &Stopped) -> bool {
    matches!(stopped, Stopped::ProgramChanged { .. } | Stopped::Record { .. })
}

/// A whole move from a to b, lived to its end and checked, and then another.
pub(crate) async fn lived(trial: &Trial) -> Came {
    let came = trial.live("web.1", &wanted("a", "b")).await;
    trial.check("web.1", &came, "a", "b").await;
    trial.moves_on("web.1", &came, "a", "b").await;
    came
}
