//! Lives through everything: drives the toy saga in one life after the other until it has ended,
//! then looks at what has become of the world.

use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use saga::journal::memory::MemoryJournal;
use saga::journal::{Journal, Pending};
use saga::{
    AbortRefused, Cause, Clock, Driven, End, Ended, Event, Kind, Limits, OpenError, Runner,
    SagaName, Stopped, Wait, Workflow,
};

use crate::post::{Fate, Mishap, Post, Sea};
use crate::workflow::{MoveLight, Wish};
use crate::world::{Letter, Outcome, Party, Reply, Weather, World};

/// Most lives of a saga in these tests; more mean that it never ends.
const LIVES_MAX: usize = 60;

/// A clock in whose time nothing takes any.
#[derive(Debug)]
pub(crate) struct NoTime;

impl Clock for NoTime {
    fn unix_ms(&self) -> u64 {
        0
    }

    fn wait(&self, _: Wait) -> Pending<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Post for Arc<Sea> {
    fn send<'a>(&'a self, to: Party, letter: Letter) -> Pending<'a, Result<Reply, saga::Trouble>> {
        self.as_ref().send(to, letter)
    }
}

pub(crate) fn name() -> SagaName {
    SagaName::new("cape/1").unwrap()
}

/// Nothing in the toy world waits, so what is pending was killed.
pub(crate) fn until_killed<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(ended) => Some(ended),
        Poll::Pending => None,
    }
}

/// How one life ended.
#[derive(Debug)]
pub(crate) enum Life {
    Ended(End<u64>),
    Stopped(Stopped),
    Killed,
    /// The saga was over before this life began: the last one did not live to see it.
    Over(Ended),
}

/// The toy world, its journal, and the saga in it.
pub(crate) struct Keeper {
    pub(crate) sea: Arc<Sea>,
    pub(crate) fate: Arc<Mutex<Fate>>,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) workflow: MoveLight<Arc<Sea>>,
    pub(crate) wish: Wish,
    pub(crate) runner: Runner,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) end: End<u64>,
    pub(crate) outcome: Outcome,
    pub(crate) answer: Option<Result<(), AbortRefused>>,
    pub(crate) points: usize,
    pub(crate) lives: usize,
}

impl Keeper {
    pub(crate) fn new(weather: Weather, fickle: bool, fate: Fate) -> Self {
        let fate = Arc::new(Mutex::new(fate));
        let sea = Arc::new(Sea::new(World::new(weather), Arc::clone(&fate)));
        let journal = Arc::new(MemoryJournal::new());
        let seen = Arc::clone(&fate);
        journal.with_faults(move |append| seen.lock().unwrap().append(&append.record.payload));
        let limits = Limits { tries_undo_max: 6, tries_after_max: 4, ..Limits::default() };
        let runner = Runner::new(Arc::clone(&journal) as Arc<dyn Journal>, Arc::new(NoTime));
        Self {
            workflow: MoveLight { post: Arc::clone(&sea) },
            wish: Wish::new(fickle),
            runner: runner.limited_to(limits),
            sea,
            fate,
            journal,
        }
    }

    /// Opens the saga, or resumes it if there is one.
    pub(crate) async fn take(&self) -> Result<Driven<'_, MoveLight<Arc<Sea>>>, OpenError> {
        match self.runner.open(&self.workflow, name(), self.wish.clone()).await {
            Err(OpenError::NameTaken(name)) => self.runner.resume(&self.workflow, name).await,
            other => other,
        }
    }

    pub(crate) fn live(&self) -> Life {
        let life = until_killed(async {
            let driven = match self.take().await {
                Ok(driven) => driven,
                Err(OpenError::Over { end, .. }) => return Life::Over(end),
                Err(OpenError::Stopped(stopped)) => return Life::Stopped(*stopped),
                Err(other) => panic!("{other}"),
            };
            self.fate.lock().unwrap().control = Some(driven.control());
            match driven.drive().await {
                Ok(end) => Life::Ended(end),
                Err(stopped) => Life::Stopped(stopped),
            }
        });
        life.unwrap_or(Life::Killed)
    }

    /// Lives until the saga has ended, however often it is killed or stopped.
    pub(crate) fn live_on(&self) -> Whole {
        let mut answer = None;
        for life in 1..=LIVES_MAX {
            let ended = match self.live() {
                Life::Ended(end) => Some(end),
                Life::Over(Ended::Undone { cause }) => Some(End::Undone(cause)),
                Life::Over(Ended::Completed { output }) => {
                    Some(End::Completed(output.as_u64().unwrap()))
                }
                Life::Stopped(Stopped::ProgramChanged { .. } | Stopped::Record { .. }) => {
                    panic!("it should not be possible to get here:\n{}", self.story())
                }
                Life::Stopped(_) | Life::Killed => None,
            };
            let mut fate = self.fate.lock().unwrap();
            if fate.asked.is_some() {
                answer = fate.answer();
                assert!(answer.is_some(), "who asks for an abort is answered, also by a death");
            }
            fate.asked = None;
            let points = fate.point;
            drop(fate);
            if let Some(end) = ended {
                self.sea.calm();
                let outcome = match self.sea.world.lock().unwrap().outcome() {
                    Ok(outcome) => outcome,
                    Err(wrong) => panic!("{wrong}\n{}", self.story()),
                };
                let whole = Whole { end, outcome, answer, points, lives: life };
                self.check(&whole);
                return whole;
            }
        }
        panic!("no end after {LIVES_MAX} lives:\n{}", self.story());
    }

    /// What holds whatever happened.
    fn check(&self, whole: &Whole) {
        let story = || self.story();
        let moved = whole.outcome == Outcome::Moved;
        assert_eq!(matches!(whole.end, End::Completed(_)), moved, "{whole:?}\n{}", story());
        let world = self.sea.world.lock().unwrap();
        if moved {
            // What is only done after the pivot is done once, whatever was lost.
            assert_eq!(world.ever_placed(Party::Bank), 1, "paid once\n{}", story());
            assert_eq!(world.ever_placed(Party::Chart), 1, "charted once\n{}", story());
        }
        drop(world);
        // What was interrupted goes on, or ends for a reason.
        assert_ne!(whole.end, End::Undone(Cause::Interrupted), "{}", story());
        self.check_appends();
        self.check_order();
        match whole.answer {
            // Promised, unless the new tower turned out to have accepted: then it cannot be undone.
            Some(Ok(())) if moved => assert!(self.was_released(), "{}", story()),
            Some(Ok(())) => {}
            Some(Err(AbortRefused::PastPivot { .. })) if !moved => {
                let refused =
                    matches!(whole.end, End::Undone(Cause::Refused { .. } | Cause::Failed { .. }));
                assert!(refused, "{whole:?}\n{}", story());
            }
            _ => {}
        }
    }

    /// No letter with an effect goes out twice without an append in between, which shows that the
    /// saga is still this runner's.
    fn check_appends(&self) {
        let story = self.story();
        let mut since_append = Vec::new();
        for line in story.lines() {
            let told = line.split_once(": ").map_or("", |(_, told)| told);
            let sent = told.split_once("/perform ").or_else(|| told.split_once("/undo "));
            match sent {
                _ if told.starts_with("append") => since_append.clear(),
                Some((letter, _)) if !line.starts_with("late") => {
                    assert!(!since_append.contains(&letter), "{letter} twice\n{story}");
                    since_append.push(letter);
                }
                _ => {}
            }
        }
    }

    /// In each attempt what began last is undone first, and all that began is undone, or nothing. An
    /// abort is promised once.
    fn check_order(&self) {
        let mut begun = Vec::new();
        let asked = |event: &&Event| matches!(event, Event::AbortRequested { .. });
        assert!(
            self.events().iter().filter(asked).count() <= 1,
            "promised twice\n{}",
            self.story()
        );
        for event in self.events() {
            match event {
                Event::Started { step, kind: Kind::Reversible | Kind::Release } => begun.push(step),
                Event::Undone { step } => {
                    assert_eq!(begun.pop(), Some(step), "out of order\n{}", self.story());
                }
                Event::Began { .. } | Event::Ended(Ended::Undone { .. }) => {
                    assert!(begun.is_empty(), "{begun:?} left over\n{}", self.story());
                }
                _ => {}
            }
        }
    }

    fn was_released(&self) -> bool {
        self.events().iter().any(|event| matches!(event, Event::Refusing { .. }))
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let records = until_killed(self.journal.read(&name())).unwrap().unwrap();
        saga::events(&records).unwrap()
    }

    pub(crate) fn story(&self) -> String {
        self.fate.lock().unwrap().story.join("\n")
    }
}

/// How many points a run without mishaps has.
pub(crate) fn points(weather: Weather, fickle: bool) -> usize {
    Keeper::new(weather, fickle, Fate::default()).live_on().points
}

pub(crate) fn lived(
    weather: Weather,
    fickle: bool,
    mishaps: impl IntoIterator<Item = (usize, Mishap)>,
) -> (Keeper, Whole) {
    let keeper = Keeper::new(weather, fickle, Fate::of(mishaps));
    let whole = keeper.live_on();
    (keeper, whole)
}

/// What drives a saga can be spawned on any runtime.
#[allow(dead_code, reason = "compiling is the test")]
fn a_driven_saga_can_be_sent<W>(driven: Driven<'static, W>) -> impl Send
where
    W: Workflow + 'static,
{
    driven.drive()
}
