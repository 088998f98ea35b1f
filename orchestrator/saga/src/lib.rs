//! A durable workflow: one straight async function that ends in one of two states, whatever is
//! killed on the way.
//!
//! A saga changes several remote parties, step by step. Up to one point, its **pivot**, everything
//! can be undone; from there on it only goes forward. The function is run against a write-ahead
//! [`journal`]: `Started` is durable before an effect, the outcome after it. A runner that
//! ends in the middle is followed by another, which runs the same function again: what the journal
//! has is not done again but read, and where it has no outcome the step is asked to look.
//!
//! # The three states
//!
//! ```text
//!   Before ── release ──► Released ── pivot ──► After ── finish ──► Finished
//!     │ undo freely          │ only on evidence      only forward
//!     ▼                      ▼
//!   Halted (undone)        Halted (undone)
//! ```
//!
//! - [`Before`]: whatever fails, all that began is undone, last first. A runner that was killed here
//!   is followed by one that undoes, and begins again as the same saga's next attempt.
//! - [`Released`]: a word was given on which a remote party may act, so it is *in doubt* who has the
//!   thing. The saga goes through the pivot, or turns back on [`Evidence`]: the party's refusal,
//!   for ever, or the fact that nothing was ever sent to it.
//! - [`After`]: steps are tried until they are done, over any number of runners. A state before
//!   cannot be had from it, so undoing past the pivot does not compile.
//!
//! Each method takes the saga and gives it back; a saga that was undone or stopped is gone, and the
//! [`Halted`] that came instead is what the workflow returns.
//!
//! # Writing a step
//!
//! A step is a struct with what it needs (parties to ask, outcomes of earlier steps) and the methods
//! of its trait:
//!
//! | trait | where | effect |
//! |---|---|---|
//! | [`Question`] | anywhere but between release and pivot | none: it only asks |
//! | [`Step`] + [`Reversible`] | before the release | can be undone freely |
//! | [`Step`] + [`Release`] | once | a word given, taken back only on [`Evidence`] |
//! | [`Pivot`] | once, after the release | accepted or refused by one remote party, for ever |
//! | [`Step`] | after the pivot | only goes forward |
//!
//! Five rules:
//!
//! 1. **Carry the key and the authority** ([`Context::key`], [`Context::authority`]) in every
//!    command. The party does nothing twice for one key, and refuses an older authority.
//! 2. **`observe` tells the truth or trouble.** `NotDone` means that it was looked at and is not
//!    there; an unreachable party is trouble.
//! 3. **`undo` succeeds where there is nothing**, takes back only what this saga made, and leaves the
//!    party refusing late commands of the step.
//! 4. **Bound every wait**, and end soon after [`Context::aborted`].
//! 5. **Outcomes are small facts**: names, numbers, addresses. They outlive the release that wrote
//!    them, as the step's id does.
//!
//! And one for the workflow: it decides by `input` and by what steps and questions gave back, and by
//! nothing else. The time, a random number, the state of the world: ask a [`Question`].
//!
//! # An example
//!
//! A key to a house goes from one keeper to another.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use saga::journal::{Pending, memory::MemoryJournal};
//! use saga::*;
//! # use serde::{Deserialize, Serialize};
//!
//! /// The remote parties: here, in memory. Real ones check the authority, and remember keys.
//! #[derive(Default)]
//! struct Street { lent_box: bool, giver_let_go: bool, taker_has_it: bool, register: Vec<String> }
//! type Parties = Arc<Mutex<Street>>;
//!
//! /// A box to carry the key in: a step that can be undone.
//! struct LendBox(Parties);
//!
//! impl Step for LendBox {
//!     type Outcome = ();
//!     fn id(&self) -> StepId { StepId::new("lend-box") }
//!     async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
//!         Ok(if self.0.lock().unwrap().lent_box { Observed::Done(()) } else { Observed::NotDone })
//!     }
//!     async fn perform(&self, _: &Context) -> Result<(), Trouble> {
//!         self.0.lock().unwrap().lent_box = true;
//!         Ok(())
//!     }
//! }
//!
//! impl Reversible for LendBox {
//!     async fn undo(&self, _: &Context, _: Option<&()>) -> Result<(), Trouble> {
//!         self.0.lock().unwrap().lent_box = false;
//!         Ok(())
//!     }
//! }
//!
//! /// The giver lets go: from here on nobody knows who has the key but the taker.
//! struct LetGo(Parties);
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct WillNotTake;
//!
//! impl Step for LetGo {
//!     type Outcome = ();
//!     fn id(&self) -> StepId { StepId::new("let-go") }
//!     async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
//!         Ok(if self.0.lock().unwrap().giver_let_go { Observed::Done(()) } else { Observed::NotDone })
//!     }
//!     async fn perform(&self, _: &Context) -> Result<(), Trouble> {
//!         self.0.lock().unwrap().giver_let_go = true;
//!         Ok(())
//!     }
//! }
//!
//! impl Release for LetGo {
//!     type Refusal = WillNotTake;
//!     async fn undo(&self, _: &Context) -> Result<(), Trouble> { Ok(()) }
//!     async fn retake(&self, _: &Context, _: &(), _: &Evidence<WillNotTake>) -> Result<(), Trouble> {
//!         self.0.lock().unwrap().giver_let_go = false;
//!         Ok(())
//!     }
//! }
//!
//! /// The taker takes it, or never will: the pivot.
//! struct Take(Parties);
//!
//! impl Pivot for Take {
//!     type Accepted = ();
//!     type Refusal = WillNotTake;
//!     const INSTEAD_OF_ABORT: &'static str = "ask the new keeper to give the key back";
//!     fn id(&self) -> StepId { StepId::new("take") }
//!     async fn observe(&self, _: &Context) -> Result<Observed<Answer<Self>>, Trouble> {
//!         let has_it = self.0.lock().unwrap().taker_has_it;
//!         Ok(if has_it { Observed::Done(Verdict::Accepted(())) } else { Observed::NotDone })
//!     }
//!     async fn perform(&self, _: &Context) -> Result<Answer<Self>, Trouble> {
//!         self.0.lock().unwrap().taker_has_it = true;
//!         Ok(Verdict::Accepted(()))
//!     }
//!     async fn refuse(&self, cx: &Context) -> Result<Answer<Self>, Trouble> {
//!         match self.observe(cx).await? {
//!             Observed::Done(verdict) => Ok(verdict),
//!             Observed::NotDone => Ok(Verdict::Refused(WillNotTake)),
//!         }
//!     }
//! }
//!
//! /// A line in the register: a step after the pivot has nothing to undo.
//! struct Register { street: Parties, line: String }
//!
//! impl Step for Register {
//!     type Outcome = ();
//!     fn id(&self) -> StepId { StepId::new("register") }
//!     async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
//!         let there = self.street.lock().unwrap().register.contains(&self.line);
//!         Ok(if there { Observed::Done(()) } else { Observed::NotDone })
//!     }
//!     async fn perform(&self, _: &Context) -> Result<(), Trouble> {
//!         self.street.lock().unwrap().register.push(self.line.clone());
//!         Ok(())
//!     }
//! }
//!
//! struct HandOver(Parties);
//!
//! impl Workflow for HandOver {
//!     const NAME: &'static str = "hand-over";
//!     type Input = String;
//!     type Output = ();
//!
//!     async fn run<'w>(&'w self, saga: Before<'w>, to: &'w String) -> Result<Finished<()>, Halted> {
//!         let street = || Arc::clone(&self.0);
//!         if to.is_empty() {
//!             return Err(saga.undo("nobody to give it to").await);
//!         }
//!         let (saga, ()) = saga.step(LendBox(street())).await?;
//!         let (saga, ()) = saga.release(LetGo(street())).await?;
//!         let (saga, ()) = saga.pivot(Take(street())).await?;
//!         let line = format!("the key is with {to}");
//!         let (saga, ()) = saga.step(Register { street: street(), line }).await?;
//!         saga.finish(()).await
//!     }
//!
//!     // This saga registers no fence, so nobody has to be told who acts for it.
//!     async fn take_over(&self, _: &Context, _: &String) -> Result<(), NotTaken> { Ok(()) }
//!     async fn give_back(&self, _: &Context, _: &String) -> Result<(), Trouble> { Ok(()) }
//! }
//!
//! /// Time as the program that drives sagas has it; usually its runtime's sleep.
//! #[derive(Debug)]
//! struct Patience;
//!
//! impl Clock for Patience {
//!     fn unix_ms(&self) -> u64 { 0 }
//!     fn wait(&self, _: Wait) -> Pending<'_, ()> { Box::pin(std::future::ready(())) }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let street = Parties::default();
//! let workflow = HandOver(Arc::clone(&street));
//! let runner = Runner::new(Arc::new(MemoryJournal::new()), Arc::new(Patience));
//! let name = SagaName::new("key-of-number-7")?;
//! let saga = runner.open(&workflow, name, "Ada".to_owned()).await?;
//! assert_eq!(saga.drive().await?, End::Completed(()));
//! assert_eq!(street.lock().unwrap().register, ["the key is with Ada"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Who may act
//!
//! Where several runners or several sagas could want one thing, the saga registers a **fence**
//! ([`Before::register`]), a counter of the journal that only grows, and its commands carry it. Each
//! runner that resumes the saga registers a newer one, and [`Workflow::take_over`] tells the parties
//! before anything else is done; [`Workflow::give_back`] ends that if the saga ends undone. A step
//! takes the fence from [`Context::authority`], never from an earlier outcome: an undo goes out on
//! the authority of the runner that undoes.
//!
//! # What is promised
//!
//! Given steps that keep the rules above and a journal that keeps its own:
//!
//! - A saga that ends is completed or undone, whole. Killed anywhere, any number of times, it can be
//!   resumed, and ends so.
//! - No effect, and no repetition of one, comes without an append before it that shows that this
//!   runner still has the saga. Of two runners the slower has at most what was under way.
//! - The pivot is sent only while the saga's fence is the newest in the journal.
//! - A promised abort is kept over any crash, but for one case, which
//!   [`Control::abort`] names. After the pivot it is refused, with what to do instead.
//! - A program whose steps changed places is told so, with both steps named, and nothing is done.
//!
//! # What is not
//!
//! - **When.** Tries are bounded; a runner that has spent them stops ([`Stopped`]), and somebody has
//!   to resume the saga. In doubt, it stays so until one of the parties can be asked.
//! - **Late letters.** A command of an earlier runner, delayed on the way, is the remote party's to
//!   refuse, by its key and its authority. The engine cannot call it back.
//! - **Time limits.** A step that never returns holds its saga (but not an abort, which leaves it
//!   after a grace time).
//! - **Steps side by side.** One saga does one step at a time. Different sagas are independent.

mod after;
mod before;
mod context;
mod control;
mod effort;
mod engine;
mod history;
pub mod journal;
mod names;
mod record;
mod released;
mod room;
mod runner;
mod stop;
mod surroundings;
mod undoing;

pub use after::{After, Finished};
pub use before::Before;
pub use context::Context;
pub use control::{AbortRefused, Control};
pub use journal::Journal;
pub use names::{
    Act, Authority, Fence, FenceName, Key, NAME_BYTES_MAX, NameError, STEP_ID_BYTES_MAX, SagaName,
    StepId,
};
pub use record::{
    Cause, Ended, Event, Kind, PAYLOAD_BYTES_MAX, REASON_BYTES_MAX, RECORD_VERSION, Record,
    RecordError, events,
};
pub use released::Released;
pub use room::{
    Answer, Evidence, Fact, NeverSent, Observed, Pivot, Question, Release, Reversible, Step,
    Trouble, Verdict,
};
pub use runner::{Driven, End, NotTaken, OpenError, Runner, Workflow};
pub use stop::{Standing, StepName, Stopped};
pub use surroundings::{
    BACKOFF_MS_FIRST, BACKOFF_MS_MAX, Clock, GRACE_MS, Limits, Notice, Unwatched, Wait, Watcher,
};
pub use undoing::Halted;
