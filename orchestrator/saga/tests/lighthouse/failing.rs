//! Letters, undos and the journal fail; the saga tries again, or stops and can be resumed.

use std::sync::{Arc, Mutex};

use saga::journal::memory::{Fault, MemoryJournal};
use saga::journal::{Journal, Pending};
use saga::{
    Before, Cause, Clock, Context, End, Event, Finished, Halted, NotTaken, Observed, Reversible,
    Runner, Step, StepId, Stopped, Trouble, Wait, Workflow,
};

use crate::keeper::{Keeper, Life, lived, name, points, until_killed};
use crate::post::{Fate, Mishap};
use crate::world::{Outcome, Weather};

#[test]
fn a_letter_lost_late_or_twice_changes_nothing() {
    let mishaps = [
        Mishap::Lost,
        Mishap::AnswerLost,
        Mishap::Late(1),
        Mishap::Late(4),
        Mishap::Late(40),
        Mishap::Twice(1),
        Mishap::Twice(30),
    ];
    for (weather, fickle, expected) in [
        (Weather::Fair, false, Outcome::Moved),
        (Weather::Fair, true, Outcome::Stayed),
        (Weather::Unwilling, false, Outcome::Stayed),
        (Weather::NoOil, false, Outcome::Stayed),
    ] {
        for point in 0..points(weather, fickle) {
            for mishap in mishaps {
                let (keeper, whole) = lived(weather, fickle, [(point, mishap)]);
                let story = keeper.story();
                assert_eq!(whole.outcome, expected, "{weather:?}, {mishap:?} at {point}\n{story}");
            }
        }
    }
}

#[test]
fn an_undo_that_fails_once_or_twice_is_tried_again() {
    for (weather, fickle) in [
        (Weather::Fair, true),
        (Weather::NoOil, false),
        (Weather::Unwilling, false),
        (Weather::Broken, false),
    ] {
        for losses in [1, 2] {
            let fate = Fate { undo_losses: losses, ..Fate::default() };
            // A step that writes to two parties may be tried once for each letter that is lost.
            let keeper = Keeper::new(weather, fickle, fate);
            let whole = keeper.live_on();
            assert_eq!(whole.outcome, Outcome::Stayed, "{}", keeper.story());
            let again =
                keeper.events().iter().filter(|e| matches!(e, Event::Undoing { .. })).count();
            let undone =
                keeper.events().iter().filter(|e| matches!(e, Event::Undone { .. })).count();
            assert!(again > undone, "{}", keeper.story());
        }
    }
}

#[test]
fn an_undo_that_fails_too_often_leaves_the_saga_to_be_resumed() {
    let fate = Fate { undo_losses: 7, ..Fate::default() };
    let keeper = Keeper::new(Weather::Unwilling, false, fate);
    let Life::Stopped(stopped) = keeper.live() else { panic!("{}", keeper.story()) };
    assert_eq!(
        stopped.to_string(),
        "saga cape/1 gave up for now at dim: it is in doubt between release and pivot; resuming \
         asks again; repair what is named next, then resume it"
    );
    let whole = keeper.live_on();
    assert_eq!(whole.outcome, Outcome::Stayed, "{}", keeper.story());
    assert_eq!(whole.end, End::Undone(Cause::Refused { step: "light-up".to_owned() }));
}

#[test]
fn a_journal_that_fails_at_any_append_stops_the_saga_before_its_next_effect() {
    for weather in [Weather::Fair, Weather::Unwilling] {
        for point in 1..points(weather, false) {
            for fault in [Mishap::Lost, Mishap::AnswerLost] {
                let keeper = Keeper::new(weather, false, Fate::of([(point, fault)]));
                let life = keeper.live();
                let story = keeper.story();
                let failed = format!("{point}: append");
                if !story.lines().any(|line| line.starts_with(&failed)) {
                    continue;
                }
                assert!(
                    matches!(life, Life::Stopped(Stopped::Journal { .. })),
                    "{life:?}\n{story}"
                );
                assert_eq!(keeper.fate.lock().unwrap().point, point + 1, "it went on\n{story}");
                let expected =
                    if weather == Weather::Fair { Outcome::Moved } else { Outcome::Stayed };
                assert_eq!(keeper.live_on().outcome, expected, "{}", keeper.story());
            }
        }
    }
}

#[test]
fn after_the_pivot_a_step_is_tried_until_it_is_done_over_any_number_of_resumptions() {
    // Points are letters here. Every one after the pivot's is lost, for a while.
    let pivot = 8;
    let lost = (pivot + 1..60).map(|at| (at, Mishap::Lost));
    let keeper = Keeper::new(Weather::Fair, false, Fate::of(lost));
    let fate = Arc::clone(&keeper.fate);
    keeper.journal.with_faults(move |append| {
        fate.lock().unwrap().story.push(format!("-: append {}", append.record.payload));
        Fault::None
    });
    let whole = keeper.live_on();
    assert_eq!(whole.outcome, Outcome::Moved, "{}", keeper.story());
    assert!(whole.lives > 3, "{}", whole.lives);
    let turned = keeper.events().iter().any(|event| matches!(event, Event::TurnedBack { .. }));
    assert!(!turned, "{}", keeper.story());
}

/// A step that hears of no abort, and whose effect comes at once.
struct Deaf {
    done: Arc<Mutex<Vec<&'static str>>>,
}

impl Step for Deaf {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("deaf")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        Ok(Observed::Done(()))
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        self.done.lock().unwrap().push("performed");
        assert!(!cx.is_aborted());
        std::future::pending().await
    }
}

impl Reversible for Deaf {
    async fn undo(&self, cx: &Context, outcome: Option<&()>) -> Result<(), Trouble> {
        assert!(outcome.is_some(), "it was observed");
        assert!(!cx.is_aborted(), "nobody stops an undo");
        self.done.lock().unwrap().push("undone");
        Ok(())
    }
}

impl Workflow for Deaf {
    const NAME: &'static str = "deaf";
    type Input = ();
    type Output = ();

    async fn run<'w>(&'w self, saga: Before<'w>, (): &'w ()) -> Result<Finished<()>, Halted> {
        let done = Arc::clone(&self.done);
        let (saga, ()) = saga.step(Deaf { done }).await?;
        Err(saga.undo("not reached").await)
    }

    async fn take_over(&self, _: &Context, (): &()) -> Result<(), NotTaken> {
        Ok(())
    }

    async fn give_back(&self, _: &Context, (): &()) -> Result<(), Trouble> {
        Ok(())
    }
}

#[test]
fn a_step_that_hears_of_no_abort_is_left_after_the_grace_time_and_undone() {
    let keeper = Keeper::new(Weather::Fair, false, Fate::default());
    let deaf = Deaf { done: Arc::default() };
    let driven = until_killed(keeper.runner.open(&deaf, name(), ())).unwrap().unwrap();
    let control = driven.control();
    let mut driving = std::pin::pin!(driven.drive());
    assert!(until_killed(driving.as_mut()).is_none(), "it performs");
    let mut asked = std::pin::pin!(control.abort("enough"));
    assert!(until_killed(asked.as_mut()).is_none(), "not yet promised");
    let end = until_killed(driving.as_mut()).expect("left after the grace time").unwrap();
    assert_eq!(end, End::Undone(Cause::Aborted { reason: "enough".to_owned() }));
    assert_eq!(until_killed(asked), Some(Ok(())));
    assert_eq!(*deaf.done.lock().unwrap(), ["performed", "undone"]);
}

/// A clock that waits for a step to end by itself for as long as it takes.
#[derive(Debug)]
struct Endless;

impl Clock for Endless {
    fn unix_ms(&self) -> u64 {
        0
    }

    fn wait(&self, wait: Wait) -> Pending<'_, ()> {
        match wait {
            Wait::Grace => Box::pin(std::future::pending()),
            Wait::Retry { .. } => Box::pin(std::future::ready(())),
        }
    }
}

#[test]
fn an_abort_is_promised_while_the_step_has_not_ended_yet() {
    let journal = Arc::new(MemoryJournal::new());
    let runner = Runner::new(Arc::clone(&journal) as Arc<dyn Journal>, Arc::new(Endless));
    let deaf = Deaf { done: Arc::default() };
    let driven = until_killed(runner.open(&deaf, name(), ())).unwrap().unwrap();
    let control = driven.control();
    let mut driving = std::pin::pin!(driven.drive());
    assert!(until_killed(driving.as_mut()).is_none());
    let mut asked = std::pin::pin!(control.abort("enough"));
    assert!(until_killed(asked.as_mut()).is_none());
    assert!(until_killed(driving.as_mut()).is_none(), "it has its grace time");
    assert_eq!(until_killed(asked), Some(Ok(())));
    let records = until_killed(journal.read(&name())).unwrap().unwrap();
    let last = saga::events(&records).unwrap().pop();
    assert_eq!(last, Some(Event::AbortRequested { reason: "enough".to_owned() }));
}
