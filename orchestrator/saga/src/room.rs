//! What a step is: the traits that the rooms of a workflow implement.
//!
//! All methods bound their own waits: the engine has no clock. All may be called again, by another
//! process, with the same [`Key`](crate::Key).

use std::error::Error;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::names::StepId;

/// What a journal can keep and give back.
pub trait Fact: Serialize + DeserializeOwned + Clone + Send + Sync {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync> Fact for T {}

/// Why a room could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It may succeed if it is tried again. Whether there was an effect is not known.
    #[error("it did not succeed this time")]
    Transient(#[source] Box<dyn Error + Send + Sync>),
    /// Trying again would change nothing. Whether there was an effect is not known.
    #[error("it cannot succeed")]
    Permanent(#[source] Box<dyn Error + Send + Sync>),
}

impl Trouble {
    /// What may succeed later.
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Transient(source.into())
    }

    /// What never will.
    pub fn permanent(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Permanent(source.into())
    }

    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, Self::Permanent(_))
    }

    /// The whole chain of causes in a line, for the journal.
    pub(crate) fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            told.push_str(": ");
            told.push_str(&error.to_string());
            cause = error.source();
        }
        told
    }
}

/// What is seen of an effect whose outcome nobody wrote down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed<T> {
    /// It is not there, or not all of it.
    NotDone,
    /// It is there.
    Done(T),
}

/// A question without effect: a check, a measurement, the time, a random number. Its answer is
/// journalled, so that every replay goes by the same one.
pub trait Question: Send + Sync {
    /// What comes back.
    type Answer: Fact;

    /// Its stable id.
    fn id(&self) -> StepId;

    /// Asks. Changes nothing anywhere.
    fn ask(&self, cx: &Context) -> impl Future<Output = Result<Self::Answer, Trouble>> + Send;
}

/// A step with an effect.
pub trait Step: Send + Sync {
    /// What is to be known of the effect later: names and numbers, not data. One that the journal
    /// cannot keep is the step's failure.
    type Outcome: Fact;

    /// Its stable id.
    fn id(&self) -> StepId;

    /// Looks whether the effect is there. Asked where the journal has no outcome: after a crash, and
    /// after each trouble. Changes nothing.
    fn observe(
        &self,
        cx: &Context,
    ) -> impl Future<Output = Result<Observed<Self::Outcome>, Trouble>> + Send;

    /// Has the effect. Called again with the same key when the effect was not seen; finishes what
    /// was begun, and has no part of it twice.
    fn perform(&self, cx: &Context) -> impl Future<Output = Result<Self::Outcome, Trouble>> + Send;
}

/// A step that can be undone freely.
pub trait Reversible: Step {
    /// Takes the effect back. Called for every step that the journal shows as begun, with what was
    /// journalled or observed of its effect, or `None` if nothing was. Succeeds where there is
    /// nothing to take back, may be called again, removes only what this saga made, and sees to it
    /// that no late command of the step (same saga and attempt) has an effect afterwards.
    fn undo(
        &self,
        cx: &Context,
        outcome: Option<&Self::Outcome>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// The step that gives a word to a remote party, on which it may act: from here on it is in doubt
/// who has the thing, until the pivot is accepted or refused.
pub trait Release: Step {
    /// What shows that the pivot is refused for ever.
    type Refusal: Fact;

    /// Undoes what came before the word, which was not given: `observe` has just said so. Sees to it
    /// that no late command gives it afterwards, or fails if one has.
    fn undo(&self, cx: &Context) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Takes the given word back. May be called again, with this evidence or better.
    fn retake(
        &self,
        cx: &Context,
        outcome: &Self::Outcome,
        evidence: &Evidence<Self::Refusal>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// What a remote party says of the pivot. It says one of them, once, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<A, R> {
    /// It has happened: forward only.
    Accepted(A),
    /// It never will.
    Refused(R),
}

/// The point of no return: one remote party accepts or refuses it, and remembers which.
pub trait Pivot: Send + Sync + Sized {
    /// What comes with acceptance.
    type Accepted: Fact;
    /// What comes with refusal, and is evidence for [`Release::retake`].
    type Refusal: Fact;

    /// What somebody who wants to abort now has to do instead; ends a sentence of the refusal.
    const INSTEAD_OF_ABORT: &'static str;

    /// Its stable id.
    fn id(&self) -> StepId;

    /// Asks what the party has said: the only way out of doubt. `NotDone` is no verdict.
    fn observe(
        &self,
        cx: &Context,
    ) -> impl Future<Output = Result<Observed<Answer<Self>>, Trouble>> + Send;

    /// Asks the party to accept. Silence is trouble, never a verdict.
    fn perform(&self, cx: &Context) -> impl Future<Output = Result<Answer<Self>, Trouble>> + Send;

    /// Asks the party to refuse for ever. It says `Accepted` if it has accepted already.
    fn refuse(&self, cx: &Context) -> impl Future<Output = Result<Answer<Self>, Trouble>> + Send;
}

/// The verdict on a pivot.
pub type Answer<P> = Verdict<<P as Pivot>::Accepted, <P as Pivot>::Refusal>;

/// Why a given word may be taken back.
#[derive(Debug)]
pub enum Evidence<R> {
    /// The pivot's remote party refused for ever, and this is its word.
    Refused(R),
    /// The pivot was never sent.
    NeverSent(NeverSent),
}

/// Shows that this very incarnation got the release, that its journal has no pivot, and that it has
/// the turning back. Only the engine makes one.
///
/// ```compile_fail,E0423
/// let evidence: saga::Evidence<()> = saga::Evidence::NeverSent(saga::NeverSent(()));
/// ```
#[derive(Debug)]
pub struct NeverSent(());

impl NeverSent {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}
