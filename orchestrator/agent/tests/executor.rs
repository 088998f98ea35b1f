//! Orders against a host that fails where the test says, and an agent that dies at any step: what is
//! on the disk decides what happens next, and nothing runs that the record does not have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use agent::executor::{Executor, Host, Kept, OrderError, RECORD_VERSION};
use daemon::state::{StateFile, StateFolder};
use orchestrator_api::{OrderKey, OrderRequest, VmDefinition};
use placement::{
    Answer, Authority, Command, Denied, Effect, End, Epoch, Facts, Identity, Owner, Pair, Process,
    ProcessState, Release, Role, Seat, VmName,
};

/// What outlives the agent: processes, and what was done to them.
#[derive(Debug, Default, Clone)]
struct World {
    processes: BTreeMap<u64, (Release, ProcessState)>,
    done: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("the effect was made to fail")]
struct Made;

struct Fake<'w> {
    world: &'w mut World,
    here: End,
    /// Effects that succeed before one fails.
    lives: usize,
}

impl Host for Fake<'_> {
    type Error = Made;

    fn accepts(&self, _definition: &VmDefinition) -> Result<(), Made> {
        Ok(())
    }

    async fn facts(&mut self, _kept: &Kept) -> Result<Facts, Made> {
        let fact = |(made_by, state): &(Release, ProcessState)| Process {
            made_by: made_by.clone(),
            state: *state,
        };
        let processes = self.world.processes.values().map(fact).collect();
        Ok(Facts { here: self.here.clone(), processes, lease_ran_out: false })
    }

    async fn perform(&mut self, effect: &Effect, kept: &Kept) -> Result<(), Made> {
        self.lives = self.lives.checked_sub(1).ok_or(Made)?;
        self.world.done.push(format!("{effect:?}"));
        let processes = &mut self.world.processes;
        let mut set = |made_by: &Release, state| {
            processes.insert(made_by.epoch.get(), (made_by.clone(), state));
        };
        match effect {
            Effect::Boot(incarnation) => {
                assert_eq!(kept.record.seat.incarnation(), Some(incarnation), "before its record");
                set(&incarnation.made_by, ProcessState::Running);
            }
            Effect::Continue(incarnation) => {
                assert_eq!(kept.record.seat.incarnation(), Some(incarnation), "before its record");
                set(&incarnation.made_by, ProcessState::Running);
            }
            Effect::Stop(incarnation) => set(&incarnation.made_by, ProcessState::Stopped),
            Effect::CreateTarget(incarnation) => {
                set(&incarnation.made_by, ProcessState::Incoming { loaded: false });
            }
            Effect::KillTarget(made_by) => drop(processes.remove(&made_by.epoch.get())),
            Effect::Kill(gone) => drop(processes.remove(&gone.made_by.epoch.get())),
            Effect::KillOthers(but) => processes.retain(|_, (made_by, _)| made_by == but),
            Effect::Hold(_)
            | Effect::CloseExport(_)
            | Effect::PinPort(_)
            | Effect::ReleaseQueue(_)
            | Effect::SetDiskAside { .. }
            | Effect::DeleteLeftover(_)
            | Effect::ClearPort(_) => {}
        }
        Ok(())
    }
}

fn end(site: &str) -> End {
    End {
        site: site.parse().unwrap(),
        agent: "hv1".parse().unwrap(),
        address: "192.0.2.1:7402".parse().unwrap(),
        proxy: "p1".parse().unwrap(),
    }
}

fn owner() -> Owner {
    "serve.00000000000000ab".parse().unwrap()
}

fn authority() -> Authority {
    Authority { epoch: Epoch::new(2), owner: owner() }
}

fn orchestrator() -> Identity {
    "causeway://site/a/role/orchestrator/name/serve".parse().unwrap()
}

fn vm() -> VmName {
    "web".parse().unwrap()
}

fn definition() -> VmDefinition {
    serde_json::from_value(serde_json::json!({
        "name": "web", "uuid": "6f1c7f2e-5f0a-4d5e-9a57-000000000001",
        "machine": "pc-q35-7.2", "memory_kib": 262_016, "processors": 1,
        "disks": [{ "bytes": 1 << 20 }],
        "cards": [{ "mac": "02:00:00:00:02:01", "network": "app", "addresses": [] }],
        "boot": { "image": "debian", "words": [] },
    }))
    .unwrap()
}

fn request(step: &str, attempt: u32, command: Command) -> OrderRequest {
    let epoch = if matches!(command, Command::Place { .. }) { 1 } else { 2 };
    let key = OrderKey {
        vm: vm(),
        epoch: Epoch::new(epoch),
        owner: Some(owner()),
        step: step.parse().unwrap(),
        attempt,
    };
    OrderRequest { key, command, definition: Some(Box::new(definition())) }
}

fn file(folder: &Path) -> StateFile<Kept> {
    StateFolder::open(folder).unwrap().file("web.vm", RECORD_VERSION)
}

/// An agent that has just started, from what is on the disk.
fn agent<'w>(folder: &Path, world: &'w mut World, site: &str, lives: usize) -> Executor<Fake<'w>> {
    let file = file(folder);
    let kept = file.load().unwrap().unwrap_or_else(|| Kept::unknown(vm()));
    Executor::new(file, kept, Fake { world, here: end(site), lives })
}

/// Gives the order to an agent that dies at each of its effects in turn, the last time at none.
async fn until_done(folder: &Path, world: &mut World, site: &str, asked: &OrderRequest) -> Answer {
    for lives in 0..9 {
        let mut agent = agent(folder, world, site, lives);
        agent.finish_what_is_owed().await.ok();
        match agent.order(orchestrator(), asked).await {
            Ok(answer) => return answer,
            Err(OrderError::Effect { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        drop(agent);
        check(folder, world);
    }
    panic!("{asked:?} never succeeds");
}

/// Nothing runs but what the seat on the disk has.
fn check(folder: &Path, world: &World) {
    let kept = file(folder).load().unwrap();
    let seat = kept.map(|kept| kept.record.seat).unwrap_or_default();
    for (made_by, state) in world.processes.values() {
        if *state == ProcessState::Running {
            assert_eq!(seat.incarnation().map(|seat| &seat.made_by), Some(made_by), "{seat:?}");
            assert!(!matches!(seat, Seat::Released { .. }), "runs after its release");
        }
    }
}

#[tokio::test]
async fn an_agent_that_dies_at_every_effect_ends_where_one_that_lives_does() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut at_a, mut at_b) = (World::default(), World::default());
    let (a, b) = (a.path().join("state"), b.path().join("state"));
    let place = request("place", 1, Command::Place { owner: owner() });
    assert_eq!(until_done(&a, &mut at_a, "a", &place).await, Answer::Runs);
    let pair = Pair { from: end("a"), to: end("b") };
    let claim = Command::Claim { authority: authority(), pair, takeover: false };
    let claim = request("claim", 1, claim);
    for (folder, world, site) in [(&a, &mut at_a, "a"), (&b, &mut at_b, "b")] {
        let answer = until_done(folder, world, site, &claim).await;
        assert!(matches!(answer, Answer::Granted { .. }));
    }
    let reserve = request("reserve", 1, Command::Reserve { authority: authority() });
    assert_eq!(until_done(&b, &mut at_b, "b", &reserve).await, Answer::Reserved);
    let stop = request("stop", 1, Command::Stop { authority: authority() });
    assert_eq!(until_done(&a, &mut at_a, "a", &stop).await, Answer::Stopped);
    let first = at_a.processes.get_mut(&1).unwrap();
    first.1 = ProcessState::Completed { of: Epoch::new(2) };
    at_b.processes.get_mut(&2).unwrap().1 = ProcessState::Incoming { loaded: true };
    let release = request("release", 1, Command::Release { authority: authority() });
    let released = until_done(&a, &mut at_a, "a", &release).await;
    let Answer::Released { release } = released else { panic!("{released:?}") };
    let start = Command::Start { authority: authority(), release: release.clone() };
    let started = until_done(&b, &mut at_b, "b", &request("start", 1, start)).await;
    assert!(matches!(started, Answer::Accepted { .. }), "{started:?}");
    assert_eq!(at_b.processes.get(&2).map(|found| found.1), Some(ProcessState::Running));
    let forget = Command::Forget { authority: authority(), release: release.clone() };
    let forgotten = until_done(&a, &mut at_a, "a", &request("forget", 1, forget)).await;
    assert_eq!(forgotten, Answer::Gone { release });
    assert!(at_a.processes.is_empty());
    for (folder, world) in [(&a, &at_a), (&b, &at_b)] {
        check(folder, world);
    }
}

#[tokio::test]
async fn a_repetition_gets_the_same_answer_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::default();
    let mut agent = agent(&folder.path().join("state"), &mut world, "a", 9);
    let place = request("place", 1, Command::Place { owner: owner() });
    let first = agent.order(orchestrator(), &place).await.unwrap();
    let done = agent.host().world.done.clone();
    assert_eq!(agent.order(orchestrator(), &place).await.unwrap(), first);
    assert_eq!(agent.host().world.done, done);
    // The same key for something else is a mistake, not a repetition.
    let mut other = place.clone();
    let release = Release { epoch: Epoch::FIRST, owner: owner() };
    other.command = Command::Reclaim { release, keep_disk: false };
    let error = agent.order(orchestrator(), &other).await.unwrap_err();
    assert!(matches!(error, OrderError::KeyReused), "{error}");
}

#[tokio::test]
async fn a_key_of_another_move_and_a_missing_or_foreign_definition_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::default();
    let state = folder.path().join("state");
    let mut agent = agent(&state, &mut world, "a", 9);
    let place = request("place", 1, Command::Place { owner: owner() });
    let mut differs = place.clone();
    differs.key.owner = Some("other.00000000000000ab".parse().unwrap());
    let without = OrderRequest { definition: None, ..place.clone() };
    let mut foreign = place.clone();
    foreign.definition.as_mut().unwrap().name = "mail".parse().unwrap();
    for (asked, wanted) in [
        (differs, "another epoch or owner"),
        (without, "missing"),
        (foreign, "not that of this VM"),
    ] {
        let error = agent.order(orchestrator(), &asked).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    assert_eq!(agent.kept(), &Kept::unknown(vm()));
    assert!(agent.host().world.done.is_empty());
    drop(agent);
    assert_eq!(file(&state).load().unwrap(), None);
}

#[tokio::test]
async fn who_may_not_is_denied_before_anything_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::default();
    let mut agent = agent(&folder.path().join("state"), &mut world, "a", 9);
    let place = request("place", 1, Command::Place { owner: owner() });
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Orchestrator) {
        let by = Identity { role, ..orchestrator() };
        let error = agent.order(by, &place).await.unwrap_err();
        assert!(matches!(error, OrderError::Denied(Denied::Caller { .. })), "{role}: {error}");
    }
}
