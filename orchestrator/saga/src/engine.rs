//! The engine under all states of a saga: writes each event before what follows from it, compares
//! the program with the journal, tries, waits, and undoes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::control::Control;
use crate::history::{Entry, History};
use crate::journal::{Append, AppendError, Guard, Journal, RECORDS_MAX};
use crate::names::{Act, Authority, Fence, Key, SagaName, StepId};
use crate::record::{Cause, Event, Kind, RecordError, bounded};
use crate::room::{Fact, Trouble};
use crate::stop::{Standing, StepName, Stopped};
use crate::surroundings::{Clock, Limits, Notice, Wait, Watcher};

/// Most registrations of a fence in a row that others may win.
const REGISTRATIONS_MAX: u32 = 16;

/// One runner's hold on one saga. Whoever has it drives the saga; it is never shared.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) name: SagaName,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watcher: Arc<dyn Watcher>,
    pub(crate) limits: Limits,
    pub(crate) control: Control,
    pub(crate) history: History,
    /// How many steps of this attempt the program has asked for.
    pub(crate) at: usize,
    /// The attempt was begun by an earlier runner, and has given no release.
    pub(crate) interrupted: bool,
}

impl Engine {
    /// Makes an event durable, then true.
    pub(crate) async fn append(&mut self, event: Event) -> Result<(), Stopped> {
        self.append_guarded(event, Guard::None).await
    }

    /// The same, on a condition.
    pub(crate) async fn append_guarded(
        &mut self,
        event: Event,
        guard: Guard,
    ) -> Result<(), Stopped> {
        match self.try_append(&event, guard).await? {
            Ok(()) => Ok(()),
            Err((ours, newest)) => Err(Stopped::Fenced { saga: self.name.clone(), ours, newest }),
        }
    }

    /// Registers the lowest value of a fence that is above `floor` and above all registered ones.
    pub(crate) async fn register(
        &mut self,
        name: &crate::names::FenceName,
        floor: u64,
        event: impl Fn(Fence) -> Event,
    ) -> Result<u64, Stopped> {
        let mut newest = self.journal.newest(name).await.map_err(|source| self.failed(source))?;
        let mut lost = 0;
        loop {
            let fence = Fence { name: name.clone(), value: newest.max(floor).saturating_add(1) };
            let raises = Guard::Raises(fence.clone());
            match self.try_append(&event(fence.clone()), raises).await? {
                Ok(()) => return Ok(fence.value),
                Err((_, found)) if lost < REGISTRATIONS_MAX => newest = found,
                Err((ours, newest)) => {
                    return Err(Stopped::Fenced { saga: self.name.clone(), ours, newest });
                }
            }
            lost += 1;
        }
    }

    async fn try_append(
        &mut self,
        event: &Event,
        guard: Guard,
    ) -> Result<Result<(), (Fence, u64)>, Stopped> {
        if self.history.length >= RECORDS_MAX {
            return Err(Stopped::TooLong { saga: self.name.clone() });
        }
        // Checked before it is written: a record that cannot be read back would end the saga.
        let mut next = self.history.clone();
        let fits = next.apply(event).and_then(|()| event.encode(self.clock.unix_ms()));
        let record = fits.map_err(|source| self.unfit(event.name(), source))?;
        let append =
            Append { saga: self.name.clone(), expected: self.history.length, record, guard };
        match self.journal.append(append).await {
            Ok(_) => {}
            Err(AppendError::Fence { wanted, newest }) => return Ok(Err((wanted, newest))),
            Err(AppendError::Conflict { expected, found }) => {
                return Err(Stopped::Superseded { saga: self.name.clone(), expected, found });
            }
            Err(AppendError::Journal(source)) => return Err(self.failed(source)),
        }
        self.history = next;
        let attempt = self.history.attempt;
        self.watcher.notice(&Notice::Recorded { saga: &self.name, attempt, event });
        Ok(Ok(()))
    }

    /// The condition under which a pivot may be sent.
    pub(crate) fn holds_fence(&self) -> Guard {
        self.history.fence.clone().map_or(Guard::None, Guard::Holds)
    }

    pub(crate) fn failed(&self, source: crate::journal::JournalError) -> Stopped {
        Stopped::Journal { saga: self.name.clone(), source }
    }

    fn unfit(&self, event: &str, source: RecordError) -> Stopped {
        let what = format!("the event {event} cannot be written");
        Stopped::Record { saga: self.name.clone(), what, source }
    }

    /// What the journal has of the step that the program asks for now; None if it is new. An error
    /// if the journal has another step here, or has had this one before.
    pub(crate) fn next(&mut self, id: StepId, kind: Kind) -> Result<Option<Entry>, Stopped> {
        let found = self.history.entries.get(self.at).cloned();
        let fits = match &found {
            Some(entry) => entry.step == id.as_str() && entry.kind == kind,
            None => self.history.entry(id).is_none(),
        };
        if !fits {
            let program = StepName { step: id.to_string(), kind: Some(kind) };
            return Err(self.changed(found.or_else(|| self.history.entry(id).cloned()), program));
        }
        self.at += 1;
        Ok(found)
    }

    /// An error unless the program has asked for all that the journal has.
    pub(crate) fn nothing_more(&self, program: &str) -> Result<(), Stopped> {
        match self.history.entries.get(self.at) {
            None => Ok(()),
            Some(entry) => {
                let program = StepName { step: program.to_owned(), kind: None };
                Err(self.changed(Some(entry.clone()), program))
            }
        }
    }

    fn changed(&self, journal: Option<Entry>, program: StepName) -> Stopped {
        let journal = match journal {
            Some(entry) => StepName { step: entry.step, kind: Some(entry.kind) },
            None => StepName { step: "nothing".to_owned(), kind: None },
        };
        let (saga, attempt) = (self.name.clone(), self.history.attempt);
        Stopped::ProgramChanged { saga, attempt, place: self.at + 1, journal, program }
    }

    /// Reads a fact back from the journal.
    pub(crate) fn read<T: DeserializeOwned>(&self, id: StepId, value: Value) -> Result<T, Stopped> {
        serde_json::from_value(value).map_err(|error| Stopped::Record {
            saga: self.name.clone(),
            what: format!("what the journal has of step {id} is not what the program expects"),
            source: RecordError::Unreadable(error),
        })
    }

    /// A fact as the journal keeps it.
    pub(crate) fn write<T: Fact>(&self, id: StepId, fact: &T) -> Result<Value, Stopped> {
        serde_json::to_value(fact).map_err(|error| Stopped::Record {
            saga: self.name.clone(),
            what: format!("what step {id} brought cannot be kept"),
            source: RecordError::Unwritable(error),
        })
    }

    /// What a room is told. Only `heeding` ones hear of an abort.
    pub(crate) fn context(&self, step: &str, act: Act, heeding: bool) -> Context {
        let (saga, attempt) = (self.name.clone(), self.history.attempt);
        Context {
            key: Key { saga, attempt, step: step.to_owned(), act },
            authority: Authority {
                incarnation: self.history.incarnation,
                fence: self.history.fence.clone(),
            },
            abort: heeding.then(|| self.control.clone()),
            watcher: Arc::clone(&self.watcher),
        }
    }

    /// Why the saga has to turn back here, if it has to.
    pub(crate) async fn turning(&mut self) -> Result<Option<Cause>, Stopped> {
        self.promise_abort().await?;
        let turned = self.history.turned.clone();
        let aborted = || self.history.abort.clone().map(|reason| Cause::Aborted { reason });
        Ok(turned.or_else(aborted).or_else(|| self.interrupted.then_some(Cause::Interrupted)))
    }

    /// Makes a waiting request durable, and says so to whoever asked.
    pub(crate) async fn promise_abort(&mut self) -> Result<(), Stopped> {
        if let Some(reason) = self.control.unanswered() {
            self.append(Event::AbortRequested { reason: reason.clone() }).await?;
            self.control.promise(&reason);
        }
        Ok(())
    }

    /// Waits for `work`; once somebody asks to abort, only for the grace time. None if it was left.
    pub(crate) async fn heed<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Stopped> {
        let mut work = pin!(work);
        if self.history.abort.is_none() {
            tokio::select! {
                biased;
                ended = &mut work => return Ok(Some(ended)),
                () = self.control.wanted() => {}
            }
            self.promise_abort().await?;
        }
        tokio::select! {
            biased;
            ended = &mut work => Ok(Some(ended)),
            () = self.clock.wait(Wait::Grace) => Ok(None),
        }
    }

    /// Waits before the next try; false if somebody asked to abort meanwhile.
    pub(crate) async fn pause(&mut self, failed: u32, heeding: bool) -> Result<bool, Stopped> {
        let wait = self.clock.wait(Wait::Retry { failed });
        if !heeding {
            wait.await;
            return Ok(true);
        }
        tokio::select! {
            biased;
            () = self.control.wanted() => {}
            () = wait => return Ok(true),
        }
        self.promise_abort().await?;
        Ok(false)
    }

    /// Writes that the attempt is undone from here on, and why, unless it is written already.
    pub(crate) async fn turn(&mut self, cause: Cause) -> Result<(), Stopped> {
        if self.history.turned.is_some() {
            return Ok(());
        }
        self.append(Event::TurnedBack { cause }).await
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.history.is_past_pivot() {
            Standing::PastPivot
        } else if self.history.is_released() || self.history.is_releasing() {
            Standing::InDoubt
        } else {
            Standing::Revocable
        }
    }

    /// Stops for now. Written first: a runner that has lost the saga must not speak for it.
    pub(crate) async fn give_up(&mut self, step: &str, source: Trouble) -> Stopped {
        let gave_up = Event::GaveUp { step: step.to_owned(), reason: bounded(source.told()) };
        if let Err(stopped) = self.append(gave_up).await {
            return stopped;
        }
        let (saga, standing) = (self.name.clone(), self.standing());
        Stopped::GaveUp { saga, step: step.to_owned(), standing, source }
    }

    pub(crate) fn failure(id: StepId, trouble: &Trouble) -> Cause {
        Cause::Failed { step: id.to_string(), reason: bounded(trouble.told()) }
    }
}
