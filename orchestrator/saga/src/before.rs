//! A saga before its release: whatever goes wrong, everything is undone.

use crate::effort::{Effort, Went};
use crate::engine::Engine;
use crate::history::State;
use crate::names::{Act, FenceName, StepId};
use crate::record::{Cause, Event, Kind, bounded};
use crate::released::Released;
use crate::room::{Observed, Question, Release, Reversible};
use crate::undoing::{Halt, Halted, Line};

/// A saga that can be undone freely.
///
/// Every method takes the saga and gives it back with what was learned, or undoes everything and
/// gives [`Halted`], which the workflow returns. Only steps that can be undone get in:
///
/// ```compile_fail,E0277
/// # use saga::{Before, Halted, Step};
/// async fn a_step_without_undo<S: Step>(saga: Before<'static>, step: S) -> Result<(), Halted>
/// # where S: 'static
/// {
///     let (_saga, _outcome) = saga.step(step).await?;
///     # Ok(())
/// }
/// ```
///
/// ```
/// # use saga::{Before, Halted, Reversible};
/// async fn a_step_with_undo<S: Reversible>(saga: Before<'static>, step: S) -> Result<(), Halted>
/// # where S: 'static
/// {
///     let (_saga, _outcome) = saga.step(step).await?;
///     # Ok(())
/// }
/// ```
pub struct Before<'w> {
    line: Line<'w>,
}

impl<'w> Before<'w> {
    pub(crate) const fn new(engine: Box<Engine>) -> Self {
        Self { line: Line::new(engine) }
    }

    /// Asks a question and keeps the answer.
    pub async fn ask<Q: Question>(self, question: Q) -> Result<(Self, Q::Answer), Halted> {
        self.asked(question).await.map_err(Halted)
    }

    /// Registers a fence above `floor` and above all that were ever registered, and gives its value.
    /// From then on the pivot is sent only while no newer value is registered. One name a saga.
    pub async fn register(
        self,
        id: StepId,
        fence: &FenceName,
        floor: u64,
    ) -> Result<(Self, u64), Halted> {
        self.registered(id, fence, floor).await.map_err(Halted)
    }

    /// Does a step.
    pub async fn step<S: Reversible + 'w>(self, step: S) -> Result<(Self, S::Outcome), Halted> {
        self.stepped(step).await.map_err(Halted)
    }

    /// Gives the word. From here on the saga turns back only on evidence.
    pub async fn release<R: Release + 'w>(
        self,
        release: R,
    ) -> Result<(Released<'w, R>, R::Outcome), Halted> {
        self.given(release).await.map_err(Halted)
    }

    /// Undoes everything, because the workflow decides so: a check said no.
    pub async fn undo(mut self, reason: impl Into<String>) -> Halted {
        let decided = Cause::Decided { reason: bounded(reason.into()) };
        Halted(match self.line.engine.turning().await {
            Ok(turning) => self.line.unwind(turning.unwrap_or(decided)).await,
            Err(stopped) => stopped.into(),
        })
    }

    async fn asked<Q: Question>(mut self, question: Q) -> Result<(Self, Q::Answer), Halt> {
        let engine = &mut self.line.engine;
        let id = question.id();
        if let Some(State::Done(answer)) = engine.next(id, Kind::Question)?.map(|entry| entry.state)
        {
            let answer = engine.read(id, answer)?;
            return Ok((self, answer));
        }
        self = self.unless_turning().await?;
        let effort = self.effort();
        match self.line.engine.answer(&question, effort).await? {
            Went::Done(answer) => Ok((self, answer)),
            Went::Failed(trouble) => Err(self.line.unwind(Engine::failure(id, &trouble)).await),
            Went::Aborted => Err(self.unwind_aborted().await),
        }
    }

    async fn registered(
        mut self,
        id: StepId,
        fence: &FenceName,
        floor: u64,
    ) -> Result<(Self, u64), Halt> {
        let engine = &mut self.line.engine;
        if let Some(State::Done(value)) = engine.next(id, Kind::Fence)?.map(|entry| entry.state) {
            let value = engine.read(id, value)?;
            return Ok((self, value));
        }
        self = self.unless_turning().await?;
        let event = |fence| Event::Registered { step: id.to_string(), fence };
        let value = self.line.engine.register(fence, floor, event).await?;
        Ok((self, value))
    }

    async fn stepped<S: Reversible + 'w>(mut self, step: S) -> Result<(Self, S::Outcome), Halt> {
        let id = step.id();
        match self.line.engine.next(id, Kind::Reversible)?.map(|entry| entry.state) {
            Some(State::Done(outcome)) => {
                let outcome: S::Outcome = self.line.engine.read(id, outcome)?;
                self.line.began(step, Some(outcome.clone()));
                return Ok((self, outcome));
            }
            // A runner ended in the middle of it.
            Some(_) => {
                self.line.began(step, None);
                let turning = self.line.engine.turning().await?;
                return Err(self.line.unwind(turning.unwrap_or(Cause::Interrupted)).await);
            }
            None => {}
        }
        self = self.unless_turning().await?;
        let effort = self.effort();
        let engine = &mut self.line.engine;
        engine.append(Event::Started { step: id.to_string(), kind: Kind::Reversible }).await?;
        match engine.attempt(&step, effort, false).await? {
            Went::Done(outcome) => {
                self.line.began(step, Some(outcome.clone()));
                Ok((self, outcome))
            }
            Went::Failed(trouble) => {
                self.line.began(step, None);
                Err(self.line.unwind(Engine::failure(id, &trouble)).await)
            }
            Went::Aborted => {
                self.line.began(step, None);
                Err(self.unwind_aborted().await)
            }
        }
    }

    async fn given<R: Release + 'w>(
        mut self,
        release: R,
    ) -> Result<(Released<'w, R>, R::Outcome), Halt> {
        let id = release.id();
        if let Some(entry) = self.line.engine.next(id, Kind::Release)? {
            return match entry.state {
                State::Done(outcome) => {
                    let outcome: R::Outcome = self.line.engine.read(id, outcome)?;
                    Ok((Released::new(self.line, release, outcome.clone()), outcome))
                }
                _ if entry.undone => Err(self.line.unwind(Cause::Interrupted).await),
                _ => self.settled(release, Cause::Interrupted).await,
            };
        }
        self = self.unless_turning().await?;
        let effort = self.effort();
        let engine = &mut self.line.engine;
        engine.append(Event::Started { step: id.to_string(), kind: Kind::Release }).await?;
        match engine.attempt(&release, effort, false).await? {
            Went::Done(outcome) => {
                Ok((Released::new(self.line, release, outcome.clone()), outcome))
            }
            Went::Failed(trouble) => self.settled(release, Engine::failure(id, &trouble)).await,
            Went::Aborted => self.settled(release, Cause::Interrupted).await,
        }
    }

    /// Finds out whether a release was given. If it was, goes on as released; if not, makes sure
    /// that it never is, and undoes everything. Nothing is undone while it is not known.
    async fn settled<R: Release + 'w>(
        mut self,
        release: R,
        cause: Cause,
    ) -> Result<(Released<'w, R>, R::Outcome), Halt> {
        let id = release.id();
        let engine = &mut self.line.engine;
        let look = engine.context(id.as_str(), Act::Observe, false);
        let undo = engine.context(id.as_str(), Act::Undo, false);
        let mut tries = engine.undo_tries();
        loop {
            let trouble = match release.observe(&look).await {
                Ok(Observed::Done(outcome)) => {
                    let value = engine.write(id, &outcome)?;
                    engine.append(Event::Done { step: id.to_string(), outcome: value }).await?;
                    return Ok((Released::new(self.line, release, outcome.clone()), outcome));
                }
                Ok(Observed::NotDone) => {
                    let cause = engine.turning().await?.unwrap_or_else(|| cause.clone());
                    engine.turn(cause.clone()).await?;
                    engine.append(Event::Undoing { step: id.to_string() }).await?;
                    match release.undo(&undo).await {
                        Ok(()) => {
                            engine.append(Event::Undone { step: id.to_string() }).await?;
                            return Err(self.line.unwind(cause).await);
                        }
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            engine.retry_or_give_up(&mut tries, id.as_str(), trouble).await?;
        }
    }

    /// Goes on only if nothing asks the saga to turn back.
    async fn unless_turning(mut self) -> Result<Self, Halt> {
        match self.line.engine.turning().await? {
            None => Ok(self),
            Some(cause) => Err(self.line.unwind(cause).await),
        }
    }

    async fn unwind_aborted(mut self) -> Halt {
        match self.line.engine.turning().await {
            Ok(turning) => self.line.unwind(turning.unwrap_or(Cause::Interrupted)).await,
            Err(stopped) => stopped.into(),
        }
    }

    fn effort(&self) -> Effort {
        Effort { tries_max: self.line.engine.limits.tries_before_max, heeding: true }
    }
}
