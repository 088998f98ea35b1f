//! Two runners of one saga, two sagas of one fence, and programs that are not the one that wrote
//! the journal.

use std::sync::Arc;

use saga::journal::{Append, AppendError, Guard, Journal, memory::MemoryJournal};
use saga::{
    Before, Context, End, Event, Fence, FenceName, Finished, Halted, NotTaken, OpenError, Runner,
    SagaName, StepId, Stopped, Trouble, Workflow,
};

use crate::keeper::{Keeper, Life, NoTime, name, points, until_killed};
use crate::post::{Fate, Mishap};
use crate::rooms::{Claim, Paint, Survey};
use crate::workflow::Wish;
use crate::world::{Letter, Order, Outcome, Party, Weather};

#[test]
fn the_slower_of_two_runners_learns_it_before_its_next_effect() {
    let mut superseded = 0;
    for point in 1..points(Weather::Fair, false) {
        let keeper = Keeper::new(Weather::Fair, false, Fate::of([(point, Mishap::Paused)]));
        let mut slow = std::pin::pin!(async {
            let driven = keeper.take().await.unwrap();
            driven.drive().await
        });
        assert!(until_killed(slow.as_mut()).is_none(), "held up");
        let story = keeper.story();
        if story.lines().last().unwrap().contains("Painter Paint") {
            // He knows neither keys nor fences: a letter to him that is under way cannot be stopped.
            continue;
        }
        let fast = keeper.live();
        assert!(matches!(fast, Life::Ended(End::Completed(_))), "{fast:?}\n{}", keeper.story());
        let told = keeper.story().len();
        let stopped = until_killed(slow).expect("goes on").unwrap_err();
        assert!(matches!(stopped, Stopped::Superseded { .. }), "{stopped}\n{}", keeper.story());
        superseded += 1;
        let after = keeper.story().split_off(told);
        let asks = |line: &str| line.contains(" Look") || line.contains(" Survey ");
        let effect = after.lines().any(|line| line.contains("cape/1#1/") && !asks(line));
        assert!(!effect, "it went on\n{}", keeper.story());
        let outcome = keeper.sea.world.lock().unwrap().outcome();
        assert_eq!(outcome, Ok(Outcome::Moved), "{}", keeper.story());
    }
    assert!(superseded > 30, "{superseded}");
}

fn at_pivot(keeper: &Keeper) -> usize {
    let story = keeper.story();
    let line = story.lines().find(|line| line.contains(r#""kind":"pivot""#)).unwrap();
    line.split(':').next().unwrap().parse().unwrap()
}

/// What another saga does that wants the same light.
fn register(journal: &MemoryJournal, value: u64) -> Result<u64, AppendError> {
    let fence = Fence { name: FenceName::new("light/cape").unwrap(), value };
    let event = Event::Opened { workflow: "other".to_owned(), input: ().into() };
    let append = Append {
        saga: SagaName::new(format!("other/{value}")).unwrap(),
        expected: 0,
        record: event.encode(0).unwrap(),
        guard: Guard::Raises(fence),
    };
    until_killed(journal.append(append)).unwrap()
}

#[test]
fn a_pivot_is_not_sent_once_a_newer_fence_is_registered() {
    let calm = Keeper::new(Weather::Fair, false, Fate::default());
    calm.live_on();
    let pivot = at_pivot(&calm);
    let keeper = Keeper::new(Weather::Fair, false, Fate::of([(pivot, Mishap::Paused)]));
    let mut driving = std::pin::pin!(async {
        let driven = keeper.take().await.unwrap();
        driven.drive().await
    });
    assert!(until_killed(driving.as_mut()).is_none(), "held up before its pivot");
    keeper.journal.without_faults();
    register(&keeper.journal, 7).unwrap();
    let stopped = until_killed(driving).unwrap().unwrap_err();
    assert!(matches!(stopped, Stopped::Fenced { newest: 7, .. }), "{stopped}");
    assert!(!keeper.story().contains("NewTower Light "), "{}", keeper.story());
    // Whoever resumes it takes the light over again, with a fence of its own.
    let whole = keeper.live_on();
    assert_eq!(whole.outcome, Outcome::Moved, "{}", keeper.story());
}

#[test]
fn a_registration_that_somebody_else_won_is_made_above_theirs() {
    let registers = 4;
    let keeper = Keeper::new(Weather::Fair, false, Fate::of([(registers, Mishap::Paused)]));
    let mut driving = std::pin::pin!(async {
        let driven = keeper.take().await.unwrap();
        driven.drive().await
    });
    assert!(until_killed(driving.as_mut()).is_none(), "held up while it registers");
    assert!(keeper.story().lines().last().unwrap().contains("registered"), "{}", keeper.story());
    let others = 5;
    register(&keeper.journal, others).unwrap();
    assert_eq!(until_killed(driving).unwrap().unwrap(), End::Completed(1));
    let registered = keeper.events().iter().find_map(|event| match event {
        Event::Registered { fence, .. } => Some(fence.value),
        _ => None,
    });
    assert_eq!(registered, Some(others + 1));
}

#[test]
fn who_takes_over_registers_above_what_any_party_has_seen() {
    let dims = 19;
    let keeper = Keeper::new(Weather::Fair, false, Fate::of([(dims, Mishap::KilledAfter)]));
    assert!(matches!(keeper.live(), Life::Killed));
    // Somebody with another journal has claimed the tower meanwhile.
    let stranger = Letter {
        key: "elsewhere#1/claim/perform".to_owned(),
        attempt: "elsewhere#1/claim".to_owned(),
        fence: 50,
        owner: "elsewhere/1".to_owned(),
        order: Order::Claim,
    };
    keeper.sea.world.lock().unwrap().handle(Party::NewTower, &stranger);
    let whole = keeper.live_on();
    assert_eq!((whole.outcome, whole.lives), (Outcome::Moved, 1), "{}", keeper.story());
    let took_over: Vec<_> = keeper
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::TookOver { fence } => Some(fence.value),
            _ => None,
        })
        .collect();
    assert_eq!(took_over, [2, 51]);
}

#[test]
fn a_fence_only_grows() {
    let journal = MemoryJournal::new();
    register(&journal, 3).unwrap();
    for value in [1, 2] {
        let refused = register(&journal, value).unwrap_err();
        assert!(matches!(refused, AppendError::Fence { newest: 3, .. }), "{refused}");
    }
    register(&journal, 4).unwrap();
}

#[test]
fn a_saga_that_cannot_be_driven_is_named_with_the_reason() {
    let keeper = Keeper::new(Weather::Fair, false, Fate::default());
    let resume = |name| until_killed(keeper.runner.resume(&keeper.workflow, name)).unwrap();
    let open = || until_killed(keeper.runner.open(&keeper.workflow, name(), Wish::new(false)));
    assert!(matches!(resume(name()), Err(OpenError::Unknown(_))));
    assert!(open().unwrap().is_ok());
    assert!(matches!(open().unwrap(), Err(OpenError::NameTaken(_))));
    let other = Reordered(Arc::clone(&keeper.sea));
    let error = until_killed(keeper.runner.resume(&other, name())).unwrap().err().unwrap();
    assert_eq!(
        error.to_string(),
        "saga cape/1 was begun by the workflow move-light, not by reordered; resume it with that one"
    );
    keeper.live_on();
    assert!(matches!(resume(name()), Err(OpenError::Over { .. })));
}

/// A workflow whose steps changed places from one release to the next.
struct Reordered(Arc<crate::post::Sea>);

#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum Change {
    None,
    Swapped,
    Shorter,
    Twice,
}

struct Release {
    this: Reordered,
    change: Change,
}

impl Workflow for Release {
    const NAME: &'static str = "release";
    type Input = ();
    type Output = ();

    async fn run<'w>(&'w self, saga: Before<'w>, (): &'w ()) -> Result<Finished<()>, Halted> {
        let sea = &self.this.0;
        let (saga, _) = saga.ask(Survey(sea)).await?;
        let fence = FenceName::new("light/cape").unwrap();
        let (saga, _) = saga.register(StepId::new("fence"), &fence, 0).await?;
        let saga = match self.change {
            Change::None => {
                let (saga, ()) = saga.step(Claim(sea)).await?;
                saga.step(Paint(sea)).await?.0
            }
            Change::Swapped => {
                let (saga, ()) = saga.step(Paint(sea)).await?;
                saga.step(Claim(sea)).await?.0
            }
            Change::Shorter => saga,
            Change::Twice => {
                let (saga, ()) = saga.step(Claim(sea)).await?;
                let (saga, ()) = saga.step(Paint(sea)).await?;
                saga.step(Paint(sea)).await?.0
            }
        };
        Err(saga.undo("no more to do").await)
    }

    async fn take_over(&self, _: &Context, (): &()) -> Result<(), NotTaken> {
        Ok(())
    }

    async fn give_back(&self, _: &Context, (): &()) -> Result<(), Trouble> {
        Ok(())
    }
}

impl Workflow for Reordered {
    const NAME: &'static str = "reordered";
    type Input = Wish;
    type Output = ();

    async fn run<'w>(&'w self, saga: Before<'w>, _: &'w Wish) -> Result<Finished<()>, Halted> {
        Err(saga.undo("never run").await)
    }

    async fn take_over(&self, _: &Context, _: &Wish) -> Result<(), NotTaken> {
        Ok(())
    }

    async fn give_back(&self, _: &Context, _: &Wish) -> Result<(), Trouble> {
        Ok(())
    }
}

#[test]
fn a_program_that_changed_is_told_so_with_both_steps_and_undoes_nothing() {
    for (change, said) in [
        (
            Change::Swapped,
            "at place 3 the journal has reversible step claim, and the program asks for reversible step paint;",
        ),
        (
            Change::Shorter,
            "at place 3 the journal has reversible step claim, and the program asks for turning back;",
        ),
    ] {
        // Killed in the middle of painting.
        let keeper = Keeper::new(Weather::Fair, false, Fate::of([(10, Mishap::KilledAfter)]));
        let runner = Runner::new(Arc::clone(&keeper.journal) as Arc<dyn Journal>, Arc::new(NoTime));
        let release = |change| Release { this: Reordered(Arc::clone(&keeper.sea)), change };
        let before = release(Change::None);
        let drive = async { runner.open(&before, name(), ()).await.unwrap().drive().await };
        assert!(until_killed(drive).is_none(), "killed\n{}", keeper.story());
        let after = release(change);
        let drive = async { runner.resume(&after, name()).await.unwrap().drive().await };
        let stopped = until_killed(drive).unwrap().unwrap_err();
        assert!(stopped.to_string().contains(said), "{stopped}");
        let undone = keeper.events().iter().any(|event| matches!(event, Event::Undoing { .. }));
        assert!(!undone, "{}", keeper.story());
    }
}

#[test]
fn a_step_id_that_comes_twice_stops_the_saga() {
    let keeper = Keeper::new(Weather::Fair, false, Fate::default());
    let twice = Release { this: Reordered(Arc::clone(&keeper.sea)), change: Change::Twice };
    let drive = async { keeper.runner.open(&twice, name(), ()).await.unwrap().drive().await };
    let stopped = until_killed(drive).unwrap().unwrap_err();
    assert!(matches!(stopped, Stopped::ProgramChanged { place: 5, .. }), "{stopped}");
}
