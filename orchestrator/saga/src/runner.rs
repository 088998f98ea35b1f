//! Opening, resuming and driving sagas.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::after::Finished;
use crate::before::Before;
use crate::context::Context;
use crate::control::Control;
use crate::engine::Engine;
use crate::history::History;
use crate::journal::{Append, AppendError, Guard, Journal};
use crate::names::{Act, SagaName, StepId};
use crate::record::{Cause, Ended, Event, Kind, Record, RecordError};
use crate::room::{Fact, Trouble};
use crate::stop::Stopped;
use crate::surroundings::{Clock, Limits, Notice, Unwatched, Watcher};
use crate::undoing::{Halt, Halted};

/// One durable function.
pub trait Workflow: Sync {
    /// Its name in journals; as stable as the ids of its steps.
    const NAME: &'static str;

    /// What a saga is given when it is opened.
    type Input: Serialize + DeserializeOwned + Send + Sync;

    /// What it returns when it has gone all the way.
    type Output: Fact;

    /// The function. It may be run any number of times on the same journal, and asks for the same
    /// steps in the same order each time: what it decides by comes from `input` and from what steps
    /// and questions gave back, never from a clock, a random number, or the world.
    fn run<'w>(
        &'w self,
        saga: Before<'w>,
        input: &'w Self::Input,
    ) -> impl Future<Output = Result<Finished<Self::Output>, Halted>> + Send;

    /// Called when a saga that has registered a fence is resumed, before anything is observed, done
    /// or undone: tells all parties that [`Context::authority`] now acts, so that no command of an
    /// earlier runner has an effect from here on. May be called again with the same authority.
    fn take_over(
        &self,
        cx: &Context,
        input: &Self::Input,
    ) -> impl Future<Output = Result<(), NotTaken>> + Send;

    /// Called when a saga that was taken over ends, after everything else is done or undone: whatever
    /// [`take_over`](Self::take_over) left at a party is given back. (The runner may have been
    /// killed before the step that claims, or after the one that gives back.) May be called again.
    fn give_back(
        &self,
        cx: &Context,
        input: &Self::Input,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// Why a runner could not take over.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Some party has seen a higher fence. The engine registers one above it and asks again.
    #[error("a party has seen fence {seen} already")]
    Behind {
        /// The highest that any has seen.
        seen: u64,
    },
    /// All else.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End<O> {
    /// It went all the way.
    Completed(O),
    /// It is undone, and nothing of it is left.
    Undone(Cause),
}

/// Why a saga cannot be driven from here.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A saga of this name exists, or has existed.
    #[error("there is a saga {0} already; resume it, or choose another name")]
    NameTaken(SagaName),
    /// There is none.
    #[error("there is no saga {0} in this journal; list its sagas, and look at the name")]
    Unknown(SagaName),
    /// It is over.
    #[error("saga {saga} has ended; there is nothing to resume")]
    Over {
        /// The saga.
        saga: SagaName,
        /// How it ended.
        end: Ended,
    },
    /// Another workflow began it.
    #[error(
        "saga {saga} was begun by the workflow {found}, not by {asked}; resume it with that one"
    )]
    OtherWorkflow {
        /// The saga.
        saga: SagaName,
        /// Who began it.
        found: String,
        /// Who was to resume it.
        asked: &'static str,
    },
    /// Something that stops a driven saga too.
    #[error(transparent)]
    Stopped(#[from] Box<Stopped>),
}

/// What sagas are driven with.
#[derive(Clone, Debug)]
pub struct Runner {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    watcher: Arc<dyn Watcher>,
    limits: Limits,
}

impl Runner {
    /// A runner with the default limits, unwatched.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Self {
        Self { journal, clock, watcher: Arc::new(Unwatched), limits: Limits::default() }
    }

    /// The same, watched.
    #[must_use]
    pub fn watched_by(self, watcher: Arc<dyn Watcher>) -> Self {
        Self { watcher, ..self }
    }

    /// The same, with other limits.
    #[must_use]
    pub fn limited_to(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Makes a new saga. Nothing of it is done before it is driven.
    pub async fn open<'w, W: Workflow>(
        &self,
        workflow: &'w W,
        name: SagaName,
        input: W::Input,
    ) -> Result<Driven<'w, W>, OpenError> {
        let unwritable = |error| unfit(&name, RecordError::Unwritable(error));
        let value = serde_json::to_value(&input).map_err(unwritable)?;
        let event = Event::Opened { workflow: W::NAME.to_owned(), input: value };
        let history = History::open(&event).map_err(|error| unfit(&name, error))?;
        let record = event.encode(self.clock.unix_ms()).map_err(|error| unfit(&name, error))?;
        let append = Append { saga: name.clone(), expected: 0, record, guard: Guard::None };
        match self.journal.append(append).await {
            Ok(_) => {}
            Err(AppendError::Conflict { .. }) => return Err(OpenError::NameTaken(name)),
            Err(error) => return Err(Box::new(refused(&name, error)).into()),
        }
        self.watcher.notice(&Notice::Recorded { saga: &name, attempt: 1, event: &event });
        Ok(self.driven(workflow, name, input, history))
    }

    /// Takes an open saga over, from a runner that has ended or from one that has not: that one is
    /// told so before its next effect.
    pub async fn resume<'w, W: Workflow>(
        &self,
        workflow: &'w W,
        name: SagaName,
    ) -> Result<Driven<'w, W>, OpenError> {
        let failed = |source| Box::new(Stopped::Journal { saga: name.clone(), source });
        let records = self.journal.read(&name).await.map_err(failed)?;
        let history = read(&name, &records)?.ok_or_else(|| OpenError::Unknown(name.clone()))?;
        if history.workflow != W::NAME {
            let (found, asked) = (history.workflow, W::NAME);
            return Err(OpenError::OtherWorkflow { saga: name, found, asked });
        }
        if let Some(end) = history.ended {
            return Err(OpenError::Over { saga: name, end });
        }
        let unreadable = |error| unfit(&name, RecordError::Unreadable(error));
        let input = serde_json::from_value(history.input.clone()).map_err(unreadable)?;
        let mut driven = self.driven(workflow, name, input, history);
        let incarnation = driven.engine.history.incarnation.saturating_add(1);
        driven.engine.append(Event::Resumed { incarnation }).await.map_err(Box::new)?;
        driven.engine.settle_in();
        Ok(driven)
    }

    fn driven<'w, W: Workflow>(
        &self,
        workflow: &'w W,
        name: SagaName,
        input: W::Input,
        history: History,
    ) -> Driven<'w, W> {
        let engine = Engine {
            name,
            journal: Arc::clone(&self.journal),
            clock: Arc::clone(&self.clock),
            watcher: Arc::clone(&self.watcher),
            limits: self.limits,
            control: Control::new(),
            history,
            at: 0,
            interrupted: false,
        };
        Driven { workflow, input, engine: Box::new(engine) }
    }
}

fn read(name: &SagaName, records: &[Record]) -> Result<Option<History>, Box<Stopped>> {
    let mut events = Vec::with_capacity(records.len());
    for (place, record) in records.iter().enumerate() {
        events.push(Event::decode(record).map_err(|source| {
            let what = format!("record {place} cannot be read");
            Box::new(Stopped::Record { saga: name.clone(), what, source })
        })?);
    }
    History::fold(&events).map_err(|error| unfit(name, error))
}

fn unfit(name: &SagaName, source: RecordError) -> Box<Stopped> {
    let what = "its journal and this program do not fit each other".to_owned();
    Box::new(Stopped::Record { saga: name.clone(), what, source })
}

fn refused(name: &SagaName, error: AppendError) -> Stopped {
    let saga = name.clone();
    match error {
        AppendError::Conflict { expected, found } => Stopped::Superseded { saga, expected, found },
        AppendError::Fence { wanted, newest } => Stopped::Fenced { saga, ours: wanted, newest },
        AppendError::Journal(source) => Stopped::Journal { saga, source },
    }
}

/// A saga in one runner's hands. Dropping it, or the future that drives it, is what a crash is:
/// the saga can be resumed.
pub struct Driven<'w, W: Workflow> {
    workflow: &'w W,
    input: W::Input,
    engine: Box<Engine>,
}

impl<W: Workflow> Driven<'_, W> {
    /// A handle to abort it with.
    #[must_use]
    pub fn control(&self) -> Control {
        self.engine.control.clone()
    }

    /// Drives the saga to its end, or until it cannot go on for now.
    pub async fn drive(self) -> Result<End<W::Output>, Stopped> {
        let Self { workflow, input, mut engine } = self;
        let _stops = StopsWhenDropped(engine.control.clone());
        engine.take_over(workflow, &input).await?;
        loop {
            engine.at = 0;
            let undone = match workflow.run(Before::new(engine), &input).await {
                Ok(Finished { output, mut engine }) => {
                    engine.give_back(workflow, &input).await?;
                    engine.complete(&output).await?;
                    return Ok(End::Completed(output));
                }
                Err(Halted(Halt::Stopped(stopped))) => return Err(*stopped),
                Err(Halted(Halt::Undone(engine, cause))) => (engine, cause),
            };
            engine = undone.0;
            if let Some(cause) = engine.begin_again(undone.1).await? {
                engine.give_back(workflow, &input).await?;
                engine.append(Event::Ended(Ended::Undone { cause: cause.clone() })).await?;
                return Ok(End::Undone(cause));
            }
        }
    }
}

/// Whoever waits for a promise learns that nobody will give it, also when the future is dropped.
struct StopsWhenDropped(Control);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Engine {
    /// What a resumed runner concludes from the journal before it does anything.
    fn settle_in(&mut self) {
        if let Some(reason) = &self.history.abort {
            self.control.promise(reason);
        }
        let entries = &self.history.entries;
        let releasing = entries.iter().any(|entry| entry.kind == Kind::Release);
        self.interrupted = !releasing && !entries.is_empty();
    }

    async fn take_over<W: Workflow>(
        &mut self,
        workflow: &W,
        input: &W::Input,
    ) -> Result<(), Stopped> {
        let first = self.history.incarnation == 1;
        let Some(fence) = self.history.fence.clone().filter(|_| !first) else {
            return Ok(());
        };
        let mut floor = 0;
        let mut tries = self.undo_tries();
        loop {
            let value =
                self.register(&fence.name, floor, |fence| Event::TookOver { fence }).await?;
            // Another fence is another command: no party answers it with what it said to the last.
            let step = format!("take-over-{value}");
            let cx = self.context(&step, Act::Perform, false);
            let trouble = match workflow.take_over(&cx, input).await {
                Ok(()) => return Ok(()),
                Err(NotTaken::Behind { seen }) => {
                    floor = floor.max(seen);
                    Trouble::transient(format!("a party has seen fence {seen} already"))
                }
                Err(NotTaken::Trouble(trouble)) => trouble,
            };
            self.retry_or_give_up(&mut tries, "take-over", trouble).await?;
        }
    }

    async fn give_back<W: Workflow>(
        &mut self,
        workflow: &W,
        input: &W::Input,
    ) -> Result<(), Stopped> {
        if !self.history.taken_over {
            return Ok(());
        }
        // Named after the fence, as taking over is: what an earlier runner gave back was taken again.
        let fence = self.history.fence.as_ref().map_or(0, |fence| fence.value);
        let cx = self.context(&format!("give-back-{fence}"), Act::Undo, false);
        let mut tries = self.undo_tries();
        loop {
            self.append(Event::GivingBack).await?;
            let Err(trouble) = workflow.give_back(&cx, input).await else {
                return Ok(());
            };
            self.retry_or_give_up(&mut tries, "give-back", trouble).await?;
        }
    }

    async fn complete<O: Fact>(&mut self, output: &O) -> Result<(), Stopped> {
        let output = self.write(StepId::new("finish"), output)?;
        self.append(Event::Ended(Ended::Completed { output })).await
    }

    /// After everything of an attempt is undone: begins the next one if the attempt was only
    /// interrupted, else says why the saga ends.
    async fn begin_again(&mut self, cause: Cause) -> Result<Option<Cause>, Stopped> {
        self.promise_abort().await?;
        self.interrupted = false;
        let next = self.history.attempt.saturating_add(1);
        match (cause, self.history.abort.clone()) {
            (Cause::Interrupted, Some(reason)) => Ok(Some(Cause::Aborted { reason })),
            (Cause::Interrupted, None) if next <= self.limits.attempts_max => {
                self.append(Event::Began { attempt: next }).await?;
                Ok(None)
            }
            (Cause::Interrupted, None) => Ok(Some(Cause::InterruptedTooOften)),
            (cause, _) => Ok(Some(cause)),
        }
    }
}
