//! Asking a running saga to abort, and being told whether it will.
//!
//! A promise is given only when the request is durable. Whether it came before the pivot is decided
//! in one place, under one lock: a request that is waiting keeps the pivot from being sent, and from
//! the moment the pivot is about to be sent every request is refused.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::record::bounded;

/// A handle on a running saga, from anywhere, as often as wanted.
#[derive(Clone)]
pub struct Control {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Debug)]
struct State {
    stage: Stage,
    wanted: Option<String>,
    promised: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Not past the pivot.
    Revocable,
    PastPivot {
        step: &'static str,
        instead: &'static str,
    },
    /// Over, or not driven any more.
    Stopped,
}

/// Why an abort was not promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbortRefused {
    /// Too late.
    #[error("it is too late to abort: step {step} is the point of no return; {instead}")]
    PastPivot {
        /// The pivot's id.
        step: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Nobody drives the saga any more.
    #[error("nobody drives this saga now: look how it ended, or resume it and ask again")]
    NotDriven,
}

impl Control {
    pub(crate) fn new() -> Self {
        let state = State { stage: Stage::Revocable, wanted: None, promised: false };
        Self { state: Arc::new(watch::Sender::new(state)) }
    }

    /// Asks for an abort, and waits until it is promised or refused. Promised means durable: the
    /// step that is performing is told to stop, everything is undone, over any crash, and no
    /// next attempt begins. The one exception: a saga whose release was given to a remote party
    /// that turns out to have accepted the pivot goes forward, for nothing else is safe.
    ///
    /// `reason` says who asked and why; what exceeds [`REASON_BYTES_MAX`](crate::REASON_BYTES_MAX) is cut.
    pub async fn abort(&self, reason: impl Into<String>) -> Result<(), AbortRefused> {
        let reason = bounded(reason.into());
        let mut answers = self.state.subscribe();
        self.state.send_if_modified(|state| {
            let first = state.stage == Stage::Revocable && state.wanted.is_none();
            if first {
                state.wanted = Some(reason);
            }
            first
        });
        let answered = answers.wait_for(|state| state.promised || state.stage != Stage::Revocable);
        // The sender is in `self`, so the wait cannot fail; if it could, nobody would drive.
        let Ok(state) = answered.await else { return Err(AbortRefused::NotDriven) };
        match &state.stage {
            Stage::PastPivot { step, instead } => Err(AbortRefused::PastPivot { step, instead }),
            Stage::Revocable | Stage::Stopped if state.promised => Ok(()),
            Stage::Revocable | Stage::Stopped => Err(AbortRefused::NotDriven),
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.state.borrow().wanted.is_some()
    }

    pub(crate) async fn wanted(&self) {
        let mut requests = self.state.subscribe();
        // Cannot fail, as above; a request that can never come is waited for for ever.
        if requests.wait_for(|state| state.wanted.is_some()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A request that nobody has promised yet.
    pub(crate) fn unanswered(&self) -> Option<String> {
        let state = self.state.borrow();
        if state.promised { None } else { state.wanted.clone() }
    }

    /// The request is in the journal (from this runner, or from an earlier one).
    pub(crate) fn promise(&self, reason: &str) {
        self.state.send_modify(|state| {
            state.wanted.get_or_insert_with(|| reason.to_owned());
            state.promised = true;
        });
    }

    /// The pivot is about to be sent. False if somebody was quicker and asked to abort.
    pub(crate) fn pass_pivot(&self, step: &'static str, instead: &'static str) -> bool {
        let mut passed = false;
        self.state.send_if_modified(|state| {
            passed = state.wanted.is_none();
            if passed {
                state.stage = Stage::PastPivot { step, instead };
            }
            passed
        });
        passed
    }

    /// The pivot was sent or accepted, whatever was asked meanwhile.
    pub(crate) fn force_past_pivot(&self, step: &'static str, instead: &'static str) {
        self.state.send_modify(|state| {
            state.stage = Stage::PastPivot { step, instead };
            state.wanted = None;
        });
    }

    /// The pivot was refused: everything is being undone, as whoever asks now would have it.
    pub(crate) fn turned_back(&self) {
        self.state.send_modify(|state| state.stage = Stage::Revocable);
    }

    /// The runner has ended, or was dropped.
    pub(crate) fn stop(&self) {
        self.state.send_modify(|state| {
            if state.stage == Stage::Revocable {
                state.stage = Stage::Stopped;
            }
        });
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("state", &*self.state.borrow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_waiting_request_keeps_the_pivot_from_being_sent() {
        let control = Control::new();
        let mut asked = std::pin::pin!(control.abort("stop"));
        assert!(poll(asked.as_mut()).is_pending());
        assert!(!control.pass_pivot("pivot", "do something else"));
        control.promise("stop");
        assert_eq!(poll(asked), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_pivot_that_is_about_to_be_sent_refuses_every_request() {
        let control = Control::new();
        assert!(control.pass_pivot("pivot", "do something else"));
        let asked = poll(std::pin::pin!(control.abort("stop")));
        let refused = AbortRefused::PastPivot { step: "pivot", instead: "do something else" };
        assert_eq!(asked, Poll::Ready(Err(refused.clone())));
        assert_eq!(
            refused.to_string(),
            "it is too late to abort: step pivot is the point of no return; do something else"
        );
    }

    #[test]
    fn who_waits_is_told_when_the_runner_is_gone() {
        let control = Control::new();
        let mut asked = std::pin::pin!(control.abort("stop"));
        assert!(poll(asked.as_mut()).is_pending());
        control.stop();
        assert_eq!(poll(asked), Poll::Ready(Err(AbortRefused::NotDriven)));
    }
}
