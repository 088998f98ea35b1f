//! A durable workflow.

mod after;
mod before;
mod context;
mod control;
mod core;
mod effort;
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
pub use core::events;
pub use journal::Journal;
pub use names::{
    Act, Authority, Fence, FenceName, Key, NAME_BYTES_MAX, NameError, STEP_ID_BYTES_MAX, SagaName,
    StepId,
};
pub use record::{
    Cause, Ended, Event, Kind, PAYLOAD_BYTES_MAX, REASON_BYTES_MAX, RECORD_VERSION, Record,
    RecordError,
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
