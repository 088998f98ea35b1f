//! From a move's journal to what is told of it: a fold over its events, the same one for a move
//! under way and for one that another service began.

use orchestrator_api::MoveProgress;
use orchestrator_api::operator::{Earlier, MoveId, MoveState, MoveView, StepDoes, StepView};
use placement::{Epoch, Release};
use saga::{Cause, Ended, Event, Kind};

use super::followed;
use super::ordered::Ordered;

/// Most lines that a move's view keeps of what happened.
const TOLD_MAX: usize = 32;
/// The step whose outcome is the word by which the VM leaves.
const RELEASE: &str = "release";

/// A move as its events so far make it.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    view: MoveView,
    /// The pivot, once it was about to be sent.
    pivot: Option<String>,
    /// The word by which the VM left.
    release: Option<Release>,
}

impl Telling {
    /// A move that was just ordered.
    pub(crate) fn new(id: MoveId, ordered: &Ordered, at_unix_ms: u64) -> Telling {
        let view = MoveView {
            id,
            version: 0,
            from: (&ordered.wanted.pair.from).into(),
            to: (&ordered.wanted.pair.to).into(),
            options: ordered.wanted.options,
            ordered_by: ordered.by.to_string(),
            epoch: None,
            attempt: 1,
            state: MoveState::UnderWay,
            is_past_pivot: false,
            began_at_unix_ms: at_unix_ms,
            ended_at_unix_ms: None,
            steps: Vec::new(),
            earlier: Vec::new(),
            progress: None,
            names: None,
            health: None,
            told: Vec::new(),
            waits_at_gate: None,
        };
        Telling { view, pivot: None, release: None }
    }

    /// What is told of it now.
    pub(crate) fn view(&self) -> &MoveView {
        &self.view
    }

    /// The word by which the VM left, once the source has given it.
    pub(crate) fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    /// One more event.
    pub(crate) fn tell(&mut self, event: &Event, at_unix_ms: u64) {
        self.view.version += 1;
        match event {
            Event::Registered { fence, .. } | Event::TookOver { fence } => {
                self.view.epoch = Some(Epoch::new(fence.value));
            }
            Event::Resumed { .. } => self.goes_on(),
            Event::Began { attempt } => self.began_anew(*attempt),
            Event::Answered { step, .. } => {
                self.begin(step, at_unix_ms);
                self.end(step, StepDoes::Done, at_unix_ms);
            }
            Event::Started { step, kind } => {
                self.begin(step, at_unix_ms);
                if *kind == Kind::Pivot {
                    self.pivot = Some(step.clone());
                }
            }
            Event::Again { step, reason } => self.again(step, reason),
            Event::Done { step, outcome } => {
                followed::done(&mut self.view, step, outcome);
                if step == RELEASE {
                    self.release = serde_json::from_value(outcome.clone()).ok();
                }
                self.end(step, StepDoes::Done, at_unix_ms);
                self.view.is_past_pivot |= self.pivot.as_ref() == Some(step);
            }
            Event::AbortRequested { reason } => self.turn_back(format!("aborted: {reason}")),
            Event::TurnedBack { cause } => self.turn_back(worded(cause)),
            Event::Refused { step, .. } => self.end(step, StepDoes::Refused, at_unix_ms),
            Event::Undoing { step } => self.does(step, StepDoes::Undoing),
            Event::Undone { step } => {
                followed::undone(&mut self.view, step);
                self.end(step, StepDoes::Undone, at_unix_ms);
            }
            Event::GaveUp { step, reason } => self.waits(format!("step {step}: {reason}")),
            Event::Ended(ended) => self.ended(ended, at_unix_ms),
            _ => {}
        }
    }

    /// How far the step under way is.
    pub(crate) fn progress(&mut self, progress: MoveProgress) {
        self.view.version += 1;
        if let Some(told) = &progress.told {
            self.note(told.clone());
        }
        self.view.progress = Some(progress);
    }

    /// Nobody drives it now, and somebody will again.
    pub(crate) fn waits(&mut self, why: String) {
        self.view.version += 1;
        self.view.progress = None;
        if !self.view.state.has_ended() {
            self.view.state = MoveState::Waiting { why };
        }
    }

    /// Nobody can drive it without help.
    pub(crate) fn is_stuck(&mut self, why: String) {
        self.view.version += 1;
        self.view.state = MoveState::Stuck { why };
    }

    /// Somebody wants it undone; whether it is, is decided when the step under way is left.
    pub(crate) fn abort_asked(&mut self, words: &str) {
        self.view.version += 1;
        self.note(format!("abort asked: {words}"));
    }

    /// A closed gate holds it up, or does no more.
    pub(crate) fn at_gate(&mut self, gate: Option<String>) {
        self.view.version += 1;
        self.view.waits_at_gate = gate;
    }

    fn goes_on(&mut self) {
        if matches!(self.view.state, MoveState::Waiting { .. }) {
            self.view.state = MoveState::UnderWay;
        }
    }

    fn began_anew(&mut self, attempt: u32) {
        let why = match &self.view.state {
            MoveState::TurningBack { why } => why.clone(),
            _ => "interrupted".to_owned(),
        };
        self.view.earlier.push(Earlier { attempt: self.view.attempt, why });
        self.view.attempt = attempt;
        self.view.steps.clear();
        (self.view.names, self.view.health) = (None, None);
        self.view.state = MoveState::UnderWay;
        self.pivot = None;
        self.release = None;
    }

    fn begin(&mut self, step: &str, at_unix_ms: u64) {
        self.view.progress = None;
        self.view.steps.push(StepView {
            step: step.to_owned(),
            does: StepDoes::UnderWay,
            began_at_unix_ms: at_unix_ms,
            ended_at_unix_ms: None,
            tries: 1,
            trouble: None,
        });
    }

    fn again(&mut self, step: &str, reason: &str) {
        if let Some(found) = self.step(step) {
            found.tries += 1;
            found.trouble = Some(reason.to_owned());
        }
    }

    fn does(&mut self, step: &str, does: StepDoes) {
        self.view.progress = None;
        if let Some(found) = self.step(step) {
            found.does = does;
        }
    }

    fn end(&mut self, step: &str, does: StepDoes, at_unix_ms: u64) {
        self.does(step, does);
        if let Some(found) = self.step(step) {
            found.ended_at_unix_ms = Some(at_unix_ms);
        }
    }

    fn step(&mut self, step: &str) -> Option<&mut StepView> {
        self.view.steps.iter_mut().rev().find(|found| found.step == step)
    }

    fn turn_back(&mut self, why: String) {
        // The first reason is the one that the rest follows from.
        if !matches!(self.view.state, MoveState::TurningBack { .. }) {
            self.note(format!("turns back: {why}"));
            self.view.state = MoveState::TurningBack { why };
        }
    }

    fn ended(&mut self, ended: &Ended, at_unix_ms: u64) {
        self.view.progress = None;
        self.view.ended_at_unix_ms = Some(at_unix_ms);
        self.view.state = match ended {
            Ended::Completed { .. } => MoveState::Completed,
            Ended::Undone { cause } => MoveState::Undone { why: worded(cause) },
        };
    }

    fn note(&mut self, line: String) {
        if self.view.told.len() == TOLD_MAX {
            self.view.told.remove(0);
        }
        self.view.told.push(line);
    }
}

pub(crate) fn worded(cause: &Cause) -> String {
    match cause {
        Cause::Interrupted => "the service ended in the middle of it".to_owned(),
        Cause::InterruptedTooOften => {
            "the service ended in the middle of it too often; see why, and order the move again"
                .to_owned()
        }
        Cause::Failed { step, reason } => format!("step {step} failed: {reason}"),
        Cause::Refused { step } => format!("the target refused step {step}"),
        Cause::Aborted { reason } => format!("aborted: {reason}"),
        Cause::Decided { reason } => reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ordered::tests::ordered;
    use super::*;

    fn told(events: &[Event]) -> MoveView {
        let mut telling = Telling::new("web.1".parse().unwrap(), &ordered(), 1_000);
        for (at, event) in (1_001..).zip(events) {
            telling.tell(event, at);
        }
        telling.view().clone()
    }

    fn started(step: &str, kind: Kind) -> Event {
        Event::Started { step: step.to_owned(), kind }
    }

    fn done(step: &str) -> Event {
        Event::Done { step: step.to_owned(), outcome: serde_json::Value::Null }
    }

    #[test]
    fn a_step_is_told_from_its_start_to_its_end_with_each_try() {
        let again = Event::Again { step: "claim".to_owned(), reason: "silence".to_owned() };
        let view = told(&[started("claim", Kind::Reversible), again, done("claim")]);
        let [step] = &view.steps[..] else { panic!("{:?}", view.steps) };
        assert_eq!((step.does, step.tries), (StepDoes::Done, 2));
        assert_eq!(step.trouble.as_deref(), Some("silence"));
        assert_eq!((step.began_at_unix_ms, step.ended_at_unix_ms), (1_001, Some(1_003)));
        assert_eq!(view.version, 3);
    }

    #[test]
    fn an_attempt_that_was_interrupted_is_kept_by_its_reason_alone() {
        let turned = Event::TurnedBack { cause: Cause::Interrupted };
        let events = [
            started("claim", Kind::Reversible),
            Event::Resumed { incarnation: 2 },
            turned,
            Event::Undoing { step: "claim".to_owned() },
            Event::Undone { step: "claim".to_owned() },
            Event::Began { attempt: 2 },
        ];
        let view = told(&events);
        assert_eq!((view.attempt, view.steps.len()), (2, 0));
        assert_eq!(view.state, MoveState::UnderWay);
        let why = "the service ended in the middle of it".to_owned();
        assert_eq!(view.earlier, [Earlier { attempt: 1, why }]);
    }

    #[test]
    fn only_an_accepted_pivot_is_past_it() {
        let sent = told(&[started("start", Kind::Pivot)]);
        assert!(!sent.is_past_pivot);
        assert!(told(&[started("start", Kind::Pivot), done("start")]).is_past_pivot);
        assert!(!told(&[started("reserve", Kind::Reversible), done("reserve")]).is_past_pivot);
    }

    #[test]
    fn a_move_that_waits_goes_on_when_it_is_resumed_and_ends_once() {
        let gave_up = Event::GaveUp { step: "arm".to_owned(), reason: "silence".to_owned() };
        let waits = told(std::slice::from_ref(&gave_up));
        assert_eq!(waits.state, MoveState::Waiting { why: "step arm: silence".to_owned() });
        let ended = Event::Ended(Ended::Completed { output: serde_json::Value::Null });
        let view = told(&[gave_up, Event::Resumed { incarnation: 2 }, ended]);
        assert_eq!((view.state, view.ended_at_unix_ms), (MoveState::Completed, Some(1_003)));
    }
}
