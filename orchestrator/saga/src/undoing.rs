//! Undoing an attempt, last step first, until nothing of it is left.

use crate::context::Context;
use crate::effort::{Effort, Tries};
use crate::engine::Engine;
use crate::journal::Pending;
use crate::names::{Act, StepId};
use crate::record::{Cause, Event};
use crate::room::{Observed, Reversible, Trouble};
use crate::stop::Stopped;

/// Why a workflow has no saga in its hands any more. Only the engine makes one, so a workflow that
/// returns it has let the engine finish with the saga.
#[derive(Debug)]
pub struct Halted(pub(crate) Halt);

#[derive(Debug)]
pub(crate) enum Halt {
    /// Everything of this attempt is undone.
    Undone(Box<Engine>, Cause),
    /// The runner stopped; nothing is known but what the journal shows.
    Stopped(Box<Stopped>),
}

impl From<Stopped> for Halt {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(Box::new(stopped))
    }
}

/// A saga that can still turn back, with what it would have to undo, in order.
pub(crate) struct Line<'w> {
    pub(crate) engine: Box<Engine>,
    begun: Vec<Box<dyn Undoable + 'w>>,
}

impl<'w> Line<'w> {
    pub(crate) const fn new(engine: Box<Engine>) -> Self {
        Self { engine, begun: Vec::new() }
    }

    /// Remembers a step that began, with its outcome where that is known.
    pub(crate) fn began<S: Reversible + 'w>(&mut self, step: S, outcome: Option<S::Outcome>) {
        self.begun.push(Box::new(Begun { step, outcome }));
    }

    /// Undoes everything that began. Gives up for now, with the rest still to be undone, if an undo
    /// fails too often: what came before it may be what it stands on.
    pub(crate) async fn unwind(mut self, cause: Cause) -> Halt {
        match self.undo_all(cause).await {
            Ok(cause) => Halt::Undone(self.engine, cause),
            Err(stopped) => stopped.into(),
        }
    }

    async fn undo_all(&mut self, cause: Cause) -> Result<Cause, Stopped> {
        self.engine.nothing_more("turning back")?;
        self.engine.turn(cause.clone()).await?;
        while let Some(begun) = self.begun.pop() {
            self.engine.promise_abort().await?;
            if !self.engine.history.is_undone(begun.id()) {
                undo(&mut self.engine, begun.as_ref()).await?;
            }
        }
        // What the journal says is why: it may have been written by an earlier runner.
        Ok(self.engine.history.turned.clone().unwrap_or(cause))
    }
}

/// Something to be undone, whatever its type.
pub(crate) trait Undoable: Send + Sync {
    fn id(&self) -> StepId;

    /// Looks first where the outcome is not known, then undoes.
    fn undo<'a>(&'a self, look: &'a Context, undo: &'a Context)
    -> Pending<'a, Result<(), Trouble>>;
}

struct Begun<S: Reversible> {
    step: S,
    outcome: Option<S::Outcome>,
}

impl<S: Reversible> Undoable for Begun<S> {
    fn id(&self) -> StepId {
        self.step.id()
    }

    fn undo<'a>(
        &'a self,
        look: &'a Context,
        undo: &'a Context,
    ) -> Pending<'a, Result<(), Trouble>> {
        Box::pin(async move {
            if self.outcome.is_some() {
                return self.step.undo(undo, self.outcome.as_ref()).await;
            }
            match self.step.observe(look).await? {
                Observed::Done(outcome) => self.step.undo(undo, Some(&outcome)).await,
                Observed::NotDone => self.step.undo(undo, None).await,
            }
        })
    }
}

async fn undo(engine: &mut Engine, begun: &dyn Undoable) -> Result<(), Stopped> {
    let id = begun.id();
    let look = engine.context(id.as_str(), Act::Observe, false);
    let cx = engine.context(id.as_str(), Act::Undo, false);
    let mut tries = engine.undo_tries();
    loop {
        engine.append(Event::Undoing { step: id.to_string() }).await?;
        let Err(trouble) = begun.undo(&look, &cx).await else {
            return engine.append(Event::Undone { step: id.to_string() }).await;
        };
        engine.retry_or_give_up(&mut tries, id.as_str(), trouble).await?;
    }
}

impl Engine {
    pub(crate) const fn undo_tries(&self) -> Tries {
        Tries::new(Effort { tries_max: self.limits.tries_undo_max, heeding: false })
    }

    /// Waits before the next try of something that cannot be left out, or gives up for now. Trouble
    /// that calls itself permanent is tried as often: somebody may repair what is in its way.
    pub(crate) async fn retry_or_give_up(
        &mut self,
        tries: &mut Tries,
        step: &str,
        trouble: Trouble,
    ) -> Result<(), Stopped> {
        let trouble = match trouble {
            Trouble::Permanent(source) | Trouble::Transient(source) => Trouble::Transient(source),
        };
        match tries.again(self, trouble).await? {
            Ok(()) => Ok(()),
            Err(trouble) => {
                // An unheeding effort ends for no other reason than trouble.
                let trouble = trouble.unwrap_or_else(|| Trouble::transient("it was interrupted"));
                Err(self.give_up(step, trouble).await)
            }
        }
    }
}
