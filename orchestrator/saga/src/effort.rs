//! Trying a step until it is done, or has been tried often enough.

use std::future::Future;

use crate::context::Context;
use crate::engine::Engine;
use crate::journal::Guard;
use crate::names::{Act, StepId};
use crate::record::{Event, bounded};
use crate::room::{Observed, Question, Step, Trouble};
use crate::stop::Stopped;

/// What became of a step.
pub(crate) enum Went<T> {
    Done(T),
    /// Tried as often as allowed; its effect may be there or not.
    Failed(Trouble),
    /// Left because somebody asked to abort; its effect may be there or not.
    Aborted,
}

/// How hard a step is tried.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) tries_max: u32,
    /// Whether an abort ends it.
    pub(crate) heeding: bool,
}

/// Counts tries, and waits between them.
pub(crate) struct Tries {
    effort: Effort,
    failed: u32,
}

impl Tries {
    pub(crate) const fn new(effort: Effort) -> Self {
        Self { effort, failed: 0 }
    }

    /// Waits before the next try. If there is none: what the last said, or None for an abort.
    pub(crate) async fn again(
        &mut self,
        engine: &mut Engine,
        trouble: Trouble,
    ) -> Result<Result<(), Option<Trouble>>, Stopped> {
        self.failed = self.failed.saturating_add(1);
        if trouble.is_permanent() || self.failed >= self.effort.tries_max {
            return Ok(Err(Some(trouble)));
        }
        let goes_on = engine.pause(self.failed, self.effort.heeding).await?;
        Ok(if goes_on { Ok(()) } else { Err(None) })
    }
}

impl Engine {
    /// Does a step that the journal has as started. With `look`, looks for its effect first.
    pub(crate) async fn attempt<S: Step>(
        &mut self,
        step: &S,
        effort: Effort,
        mut look: bool,
    ) -> Result<Went<S::Outcome>, Stopped> {
        let look_cx = self.context(step.id().as_str(), Act::Observe, effort.heeding);
        let cx = self.context(step.id().as_str(), Act::Perform, effort.heeding);
        let mut tries = Tries::new(effort);
        let mut reason = "its runner ended".to_owned();
        loop {
            let trouble = match self
                .once(step, (&look_cx, &cx), effort, look.then_some(&reason))
                .await?
            {
                Went::Failed(trouble) if self.history.abort.is_none() || !effort.heeding => trouble,
                Went::Failed(_) => return Ok(Went::Aborted),
                went => return Ok(went),
            };
            (look, reason) = (true, bounded(trouble.told()));
            match tries.again(self, trouble).await? {
                Ok(()) => {}
                Err(Some(trouble)) => return Ok(Went::Failed(trouble)),
                Err(None) => return Ok(Went::Aborted),
            }
        }
    }

    /// One try. After another (which failed for `reason`) it looks first, and writes before it
    /// performs again: every effect comes after an append that shows that the saga is still ours.
    async fn once<S: Step>(
        &mut self,
        step: &S,
        (look, cx): (&Context, &Context),
        effort: Effort,
        reason: Option<&String>,
    ) -> Result<Went<S::Outcome>, Stopped> {
        if let Some(reason) = reason {
            match self.wait_for(step.observe(look), effort).await? {
                None => return Ok(Went::Aborted),
                Some(Err(trouble)) => return Ok(Went::Failed(trouble)),
                Some(Ok(Observed::Done(outcome))) => return self.done(step.id(), outcome).await,
                Some(Ok(Observed::NotDone)) => self.again(step.id(), reason, Guard::None).await?,
            }
        }
        match self.wait_for(step.perform(cx), effort).await? {
            Some(Ok(outcome)) => self.done(step.id(), outcome).await,
            Some(Err(trouble)) => Ok(Went::Failed(trouble)),
            None => Ok(Went::Aborted),
        }
    }

    /// Waits for a room; None if it was left because of an abort.
    async fn wait_for<T>(
        &mut self,
        work: impl Future<Output = T>,
        effort: Effort,
    ) -> Result<Option<T>, Stopped> {
        if effort.heeding { self.heed(work).await } else { Ok(Some(work.await)) }
    }

    /// Writes an outcome. One that cannot be kept is the step's failure, not the journal's.
    async fn done<T: crate::room::Fact>(
        &mut self,
        id: StepId,
        outcome: T,
    ) -> Result<Went<T>, Stopped> {
        let written = match self.write(id, &outcome) {
            Ok(value) => self.append(Event::Done { step: id.to_string(), outcome: value }).await,
            Err(unfit) => Err(unfit),
        };
        match written {
            Ok(()) => Ok(Went::Done(outcome)),
            Err(Stopped::Record { source, .. }) => Ok(Went::Failed(Trouble::permanent(source))),
            Err(stopped) => Err(stopped),
        }
    }

    pub(crate) async fn again(
        &mut self,
        id: StepId,
        reason: &str,
        guard: Guard,
    ) -> Result<(), Stopped> {
        let again = Event::Again { step: id.to_string(), reason: reason.to_owned() };
        self.append_guarded(again, guard).await
    }

    /// Asks a new question until it is answered, and writes the answer.
    pub(crate) async fn answer<Q: Question>(
        &mut self,
        question: &Q,
        effort: Effort,
    ) -> Result<Went<Q::Answer>, Stopped> {
        let id = question.id();
        let cx = self.context(id.as_str(), Act::Observe, effort.heeding);
        let mut tries = Tries::new(effort);
        loop {
            let trouble = match self.wait_for(question.ask(&cx), effort).await? {
                None => return Ok(Went::Aborted),
                Some(Ok(answer)) => return self.answered(id, answer).await,
                Some(Err(trouble)) => trouble,
            };
            match tries.again(self, trouble).await? {
                Ok(()) => {}
                Err(Some(trouble)) => return Ok(Went::Failed(trouble)),
                Err(None) => return Ok(Went::Aborted),
            }
        }
    }

    async fn answered<T: crate::room::Fact>(
        &mut self,
        id: StepId,
        answer: T,
    ) -> Result<Went<T>, Stopped> {
        let value = self.write(id, &answer)?;
        match self.append(Event::Answered { step: id.to_string(), answer: value }).await {
            Ok(()) => Ok(Went::Done(answer)),
            Err(Stopped::Record { source, .. }) => Ok(Went::Failed(Trouble::permanent(source))),
            Err(stopped) => Err(stopped),
        }
    }
}
