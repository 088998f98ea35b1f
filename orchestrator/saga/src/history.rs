//! What a saga's events say, folded: the one memory of a runner.
//!
//! A live runner applies each event as soon as its record is durable, and a resumed one applies
//! them all, so both know the same. A pure fold, with every event in its place or refused.

use serde_json::Value;

use crate::names::{Fence, StepId};
use crate::record::{Cause, Ended, Event, Kind, RecordError};

/// One step of the present attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) step: String,
    pub(crate) kind: Kind,
    /// The incarnation that began it.
    pub(crate) incarnation: u32,
    pub(crate) state: State,
    pub(crate) undone: bool,
}

/// How far a step has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// Its effect may be there or not.
    Open,
    /// It is there.
    Done(Value),
    /// A pivot that is being asked to refuse.
    Refusing,
    /// A pivot that will never be accepted.
    Refused(Value),
}

/// A saga as its journal shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    pub(crate) workflow: String,
    pub(crate) input: Value,
    pub(crate) length: u64,
    pub(crate) incarnation: u32,
    pub(crate) attempt: u32,
    /// The newest fence that this saga registered.
    pub(crate) fence: Option<Fence>,
    /// A runner took over from another, so parties may be claimed by that alone.
    pub(crate) taken_over: bool,
    /// The steps of the present attempt, in order.
    pub(crate) entries: Vec<Entry>,
    pub(crate) abort: Option<String>,
    pub(crate) turned: Option<Cause>,
    pub(crate) ended: Option<Ended>,
}

impl History {
    /// What the first event says.
    pub(crate) fn open(event: &Event) -> Result<Self, RecordError> {
        let Event::Opened { workflow, input } = event else {
            return Err(RecordError::OutOfPlace { event: event.name() });
        };
        Ok(Self {
            workflow: workflow.clone(),
            input: input.clone(),
            length: 1,
            incarnation: 1,
            attempt: 1,
            fence: None,
            taken_over: false,
            entries: Vec::new(),
            abort: None,
            turned: None,
            ended: None,
        })
    }

    /// Folds all events; none make no saga.
    pub(crate) fn fold(events: &[Event]) -> Result<Option<Self>, RecordError> {
        let Some((first, rest)) = events.split_first() else {
            return Ok(None);
        };
        let mut history = Self::open(first)?;
        for event in rest {
            history.apply(event)?;
        }
        Ok(Some(history))
    }

    /// Applies the next event, or changes nothing.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), RecordError> {
        if self.ended.is_some() || !self.take(event) {
            return Err(RecordError::OutOfPlace { event: event.name() });
        }
        self.length += 1;
        Ok(())
    }

    /// True once only the pivot's remote party, or nobody, can turn the saga back.
    pub(crate) fn is_released(&self) -> bool {
        self.entries.iter().any(|entry| {
            entry.kind == Kind::Release && matches!(entry.state, State::Done(_)) && !entry.undone
        })
    }

    /// True once the pivot has been accepted.
    pub(crate) fn is_past_pivot(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.kind == Kind::Pivot && matches!(entry.state, State::Done(_)))
    }

    /// True while a release has begun whose fate is unknown.
    pub(crate) fn is_releasing(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.kind == Kind::Release && entry.state == State::Open && !entry.undone)
    }

    /// The pivot of this attempt, if it has begun.
    pub(crate) fn pivot(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.kind == Kind::Pivot)
    }

    pub(crate) fn entry(&self, step: StepId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.step == step.as_str())
    }

    pub(crate) fn is_undone(&self, step: StepId) -> bool {
        self.entry(step).is_some_and(|entry| entry.undone)
    }

    /// Applies an event that is in its place; false, with nothing changed, if it is not.
    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Opened { .. } => false,
            Event::Resumed { incarnation } => {
                let next = *incarnation == self.incarnation.saturating_add(1);
                if next {
                    self.incarnation = *incarnation;
                }
                next
            }
            Event::TookOver { fence } => {
                let raised = self.raise(fence);
                self.taken_over |= raised;
                raised
            }
            Event::GaveUp { .. } => true,
            Event::GivingBack => self.turned.is_some() || self.is_past_pivot(),
            Event::Began { attempt } => self.begin(*attempt),
            Event::Answered { step, answer } => {
                self.add(step, Kind::Question, State::Done(answer.clone()))
            }
            Event::Registered { step, fence } => {
                self.can_raise(fence)
                    && self.add(step, Kind::Fence, State::Done(fence.value.into()))
                    && self.raise(fence)
            }
            Event::Started { step, kind } => self.add(step, *kind, State::Open),
            Event::Again { step, .. } => self
                .find(step, |entry| matches!(entry.state, State::Open | State::Refusing))
                .is_some(),
            Event::Done { step, outcome } => self.settle(step, State::Done(outcome.clone())),
            Event::AbortRequested { reason } => {
                self.abort.get_or_insert_with(|| reason.clone());
                true
            }
            Event::TurnedBack { cause } => {
                let first = self.turned.is_none();
                self.turned.get_or_insert_with(|| cause.clone());
                first
            }
            Event::Refusing { step } => self.refuse(step),
            Event::Refused { step, evidence } => {
                self.settle(step, State::Refused(evidence.clone()))
            }
            Event::Undoing { step } => self.find(step, |entry| !entry.undone).is_some(),
            Event::Undone { step } => {
                self.find(step, |entry| !entry.undone).map(|entry| entry.undone = true).is_some()
            }
            Event::Ended(ended) => {
                self.ended = Some(ended.clone());
                true
            }
        }
    }

    /// One counter a saga, and it only grows.
    fn can_raise(&self, fence: &Fence) -> bool {
        self.fence.as_ref().is_none_or(|old| old.name == fence.name && old.value < fence.value)
    }

    fn raise(&mut self, fence: &Fence) -> bool {
        let can = self.can_raise(fence);
        if can {
            self.fence = Some(fence.clone());
        }
        can
    }

    fn begin(&mut self, attempt: u32) -> bool {
        let next = self.turned.is_some() && attempt == self.attempt.saturating_add(1);
        if next {
            self.attempt = attempt;
            self.entries.clear();
            self.turned = None;
        }
        next
    }

    fn add(&mut self, step: &str, kind: Kind, state: State) -> bool {
        let new = self.entries.iter().all(|entry| entry.step != step);
        if new {
            let incarnation = self.incarnation;
            let step = step.to_owned();
            self.entries.push(Entry { step, kind, incarnation, state, undone: false });
        }
        new
    }

    fn settle(&mut self, step: &str, state: State) -> bool {
        let open = |entry: &Entry| matches!(entry.state, State::Open | State::Refusing);
        self.find(step, open).map(|entry| entry.state = state).is_some()
    }

    /// A pivot may be asked to refuse before it was ever sent.
    fn refuse(&mut self, step: &str) -> bool {
        if self.entries.iter().all(|entry| entry.step != step) {
            return self.add(step, Kind::Pivot, State::Refusing);
        }
        let open = |entry: &Entry| entry.kind == Kind::Pivot && entry.state == State::Open;
        self.find(step, open).map(|entry| entry.state = State::Refusing).is_some()
    }

    fn find(&mut self, step: &str, fits: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.step == step && fits(entry))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = Event> {
        let step = || prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned);
        let kind = prop::sample::select(vec![Kind::Reversible, Kind::Release, Kind::Pivot]);
        let fence = (prop::bool::ANY, 0_u64..4).prop_map(|(other, value)| Fence {
            name: crate::FenceName::new(if other { "x" } else { "y" }).unwrap(),
            value,
        });
        let value = Value::Null;
        prop_oneof![
            (0_u32..4).prop_map(|incarnation| Event::Resumed { incarnation }),
            (0_u32..4).prop_map(|attempt| Event::Began { attempt }),
            fence.clone().prop_map(|fence| Event::TookOver { fence }),
            (step(), fence).prop_map(|(step, fence)| Event::Registered { step, fence }),
            (step(), kind).prop_map(|(step, kind)| Event::Started { step, kind }),
            step().prop_map(|step| Event::Again { step, reason: String::new() }),
            step().prop_map({
                let value = value.clone();
                move |step| Event::Done { step, outcome: value.clone() }
            }),
            step().prop_map(|step| Event::Refusing { step }),
            step().prop_map(move |step| Event::Refused { step, evidence: value.clone() }),
            step().prop_map(|step| Event::Undoing { step }),
            step().prop_map(|step| Event::Undone { step }),
            Just(Event::TurnedBack { cause: Cause::Interrupted }),
            Just(Event::GivingBack),
            Just(Event::AbortRequested { reason: String::new() }),
            Just(Event::Ended(Ended::Undone { cause: Cause::Interrupted })),
        ]
    }

    fn opened() -> Event {
        Event::Opened { workflow: "w".to_owned(), input: Value::Null }
    }

    proptest! {
        #[test]
        fn an_event_out_of_place_changes_nothing_and_any_other_reads_back(
            events in prop::collection::vec(event(), 0..40),
        ) {
            let mut history = History::open(&opened()).unwrap();
            let mut taken = vec![opened()];
            for event in events {
                let before = history.clone();
                if history.apply(&event).is_ok() {
                    taken.push(event);
                } else {
                    prop_assert_eq!(&before, &history);
                }
            }
            let records: Vec<_> = taken.iter().map(|event| event.encode(0).unwrap()).collect();
            let read = crate::events(&records).unwrap();
            prop_assert_eq!(&read, &taken);
            prop_assert_eq!(History::fold(&read).unwrap(), Some(history));
        }
    }

    #[test]
    fn what_has_ended_takes_no_event() {
        let ended = Event::Ended(Ended::Undone { cause: Cause::Interrupted });
        let mut history = History::fold(&[opened(), ended]).unwrap().unwrap();
        assert!(history.apply(&Event::GivingBack).is_err());
        assert!(history.apply(&Event::Resumed { incarnation: 2 }).is_err());
    }
}
