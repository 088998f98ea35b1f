//! A saga after its pivot: it only goes forward.

use crate::effort::{Effort, Went};
use crate::engine::Engine;
use crate::history::State;
use crate::names::StepId;
use crate::record::{Event, Kind};
use crate::room::{Fact, Question, Step, Trouble};
use crate::undoing::{Halt, Halted};

/// A saga past its point of no return. What could have been undone is gone with the state before:
///
/// ```compile_fail,E0599
/// # use saga::{After, Halted};
/// async fn undone_after_the_pivot(saga: After) -> Halted {
///     saga.undo("changed my mind").await
/// }
/// ```
///
/// ```
/// # use saga::{Before, Halted};
/// async fn undone_before_the_pivot(saga: Before<'static>) -> Halted {
///     saga.undo("changed my mind").await
/// }
/// ```
///
/// And the state before is gone with the pivot:
///
/// ```compile_fail,E0382
/// # use saga::{Halted, Pivot, Release, Released};
/// async fn kept<R: Release, P: Pivot<Refusal = R::Refusal>>(
///     saga: Released<'static, R>,
///     pivot: P,
///     again: P,
/// ) -> Result<(), Halted> {
///     let (_after, _accepted) = saga.pivot(pivot).await?;
///     saga.turn_back(again, "changed my mind").await.map(drop)
/// }
/// ```
///
/// A step here is tried until it is done. When it has been tried often enough for now the runner
/// stops, and whoever resumes the saga goes on where it was.
pub struct After {
    engine: Box<Engine>,
}

/// A saga that went all the way, whose end the runner has yet to write. Only [`After::finish`] makes
/// one:
///
/// ```compile_fail,E0451
/// # use saga::{After, Finished};
/// fn invented(saga: After) -> Finished<()> {
///     Finished { output: () }
/// }
/// ```
#[derive(Debug)]
pub struct Finished<O> {
    pub(crate) output: O,
    pub(crate) engine: Box<Engine>,
}

impl After {
    pub(crate) const fn new(engine: Box<Engine>) -> Self {
        Self { engine }
    }

    /// Asks a question and keeps the answer.
    pub async fn ask<Q: Question>(self, question: Q) -> Result<(Self, Q::Answer), Halted> {
        self.asked(question).await.map_err(Halted)
    }

    /// Does a step. A [`Reversible`](crate::Reversible) one will do; its `undo` is never called.
    pub async fn step<S: Step>(self, step: S) -> Result<(Self, S::Outcome), Halted> {
        self.stepped(step).await.map_err(Halted)
    }

    /// Ends the saga.
    pub async fn finish<O: Fact>(self, output: O) -> Result<Finished<O>, Halted> {
        match self.engine.nothing_more("finishing") {
            Ok(()) => Ok(Finished { output, engine: self.engine }),
            Err(stopped) => Err(Halted(stopped.into())),
        }
    }

    async fn asked<Q: Question>(mut self, question: Q) -> Result<(Self, Q::Answer), Halt> {
        let id = question.id();
        if let Some(State::Done(answer)) =
            self.engine.next(id, Kind::Question)?.map(|entry| entry.state)
        {
            let answer = self.engine.read(id, answer)?;
            return Ok((self, answer));
        }
        let effort = self.effort();
        let went = self.engine.answer(&question, effort).await?;
        self.done_or_stopped(id, went).await
    }

    async fn stepped<S: Step>(mut self, step: S) -> Result<(Self, S::Outcome), Halt> {
        let id = step.id();
        let look = match self.engine.next(id, Kind::Onward)?.map(|entry| entry.state) {
            Some(State::Done(outcome)) => {
                let outcome = self.engine.read(id, outcome)?;
                return Ok((self, outcome));
            }
            Some(_) => true,
            None => {
                let started = Event::Started { step: id.to_string(), kind: Kind::Onward };
                self.engine.append(started).await?;
                false
            }
        };
        let effort = self.effort();
        let went = self.engine.attempt(&step, effort, look).await?;
        self.done_or_stopped(id, went).await
    }

    async fn done_or_stopped<T>(mut self, id: StepId, went: Went<T>) -> Result<(Self, T), Halt> {
        let trouble = match went {
            Went::Done(fact) => return Ok((self, fact)),
            Went::Failed(trouble) => trouble,
            // Nothing that does not heed an abort ends by one.
            Went::Aborted => Trouble::transient("it was left"),
        };
        Err(self.engine.give_up(id.as_str(), trouble).await.into())
    }

    fn effort(&self) -> Effort {
        Effort { tries_max: self.engine.limits.tries_after_max, heeding: false }
    }
}
