//! What a move's journal says, as a report tells it: the words of the timeline, and the moments that
//! matter.

use ledger::report::{Moment, Pause, Word};
use orchestrator_api::Estimate;
use placement::Epoch;
use saga::{Ended, Event, Record};

use crate::migration::Surveyed;
use crate::serve::worded;

/// The steps whose times a report needs, by their ids in journals.
const CHECK: &str = "check";
const RELEASE: &str = "release";
const START: &str = "start";

/// Most moments that are told.
const MOMENTS_MAX: usize = 64;

/// Most takeovers of one attempt under which proxies are asked what they noted.
const TAKEOVERS_MAX: usize = 64;

/// A move's journal, folded.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// For the timeline.
    pub(super) words: Vec<(u64, Word)>,
    /// Single moments.
    pub(super) moments: Vec<Moment>,
    /// What the last check predicted.
    pub(super) estimate: Option<Estimate>,
    /// When the VM was told to stand still, in the attempt that got so far.
    stopped_at_ms: Option<u64>,
    /// When it ran again: at the target, or at the source.
    running_at_ms: Option<u64>,
    /// When the target had accepted.
    pub(super) pivot_at_ms: Option<u64>,
    /// The last record.
    last_at_ms: u64,
}

impl Story {
    /// What these records say. One that cannot be read is passed over: a report is wanted most where
    /// something went wrong.
    pub(super) fn of(records: &[Record]) -> Story {
        let mut story = Story::default();
        for record in records {
            if let Ok(event) = Event::decode(record) {
                story.take(record.at_unix_ms, event);
            }
        }
        story
    }

    /// How long the VM stood still, if it runs again.
    pub(super) fn pause(&self, budget_ms: u64) -> Option<Pause> {
        let (stopped_at_ms, running_at_ms) = (self.stopped_at_ms?, self.running_at_ms?);
        Some(Pause { stopped_at_ms, running_at_ms, budget_ms: Some(budget_ms) })
    }

    fn take(&mut self, at_ms: u64, event: Event) {
        let before_ms = if self.last_at_ms == 0 { at_ms } else { self.last_at_ms };
        self.last_at_ms = at_ms;
        match event {
            Event::Resumed { .. } => {
                self.moment(at_ms, "Another service goes on with it".to_owned());
                self.say(at_ms, Word::Resumed);
            }
            Event::Began { attempt } => self.say(at_ms, Word::Attempt { number: attempt }),
            Event::Answered { step, answer } => {
                if step == CHECK {
                    let surveyed = serde_json::from_value::<Surveyed>(answer);
                    self.estimate = surveyed.ok().and_then(|surveyed| surveyed.plan.estimate);
                }
                // The answer alone is in the journal: it was asked after what stands before it.
                self.said_at_once(before_ms, at_ms, step);
            }
            Event::Registered { step, .. } => self.said_at_once(before_ms, at_ms, step),
            Event::Started { step, .. } => {
                if step == RELEASE {
                    (self.stopped_at_ms, self.running_at_ms) = (Some(at_ms), None);
                }
                self.say(at_ms, Word::Started { step });
            }
            Event::Again { step, reason } => self.say(at_ms, Word::Again { step, reason }),
            Event::Done { step, .. } => self.done(at_ms, step),
            Event::AbortRequested { reason } => {
                self.moment(at_ms, format!("Abort asked for: {reason}"));
            }
            Event::TurnedBack { cause } => {
                self.say(at_ms, Word::TurnedBack { reason: worded(&cause) });
            }
            Event::Refusing { step } => {
                self.moment(at_ms, format!("The target is asked to refuse {step} for ever"));
            }
            Event::Refused { .. } => self.moment(at_ms, "The target has refused".to_owned()),
            Event::Undoing { step } => self.say(at_ms, Word::Undoing { step }),
            Event::Undone { step } => {
                if step == RELEASE && self.stopped_at_ms.is_some() {
                    self.running_at_ms = Some(at_ms);
                }
                self.say(at_ms, Word::Undone { step });
            }
            Event::GaveUp { step, reason } => self.say(at_ms, Word::GaveUp { step, reason }),
            Event::Ended(Ended::Undone { .. }) => self.moment(at_ms, "Undone".to_owned()),
            _ => {}
        }
    }

    fn done(&mut self, at_ms: u64, step: String) {
        match step.as_str() {
            RELEASE => self.moment(at_ms, "The source has let go".to_owned()),
            START => {
                (self.running_at_ms, self.pivot_at_ms) = (Some(at_ms), Some(at_ms));
                self.moment(at_ms, "The target has accepted: the pivot".to_owned());
            }
            _ => {}
        }
        self.say(at_ms, Word::Done { step });
    }

    fn said_at_once(&mut self, from_ms: u64, to_ms: u64, step: String) {
        self.say(from_ms, Word::Started { step: step.clone() });
        self.say(to_ms, Word::Done { step });
    }

    fn say(&mut self, at_ms: u64, word: Word) {
        self.words.push((at_ms, word));
    }

    fn moment(&mut self, at_ms: u64, what: String) {
        if self.moments.len() < MOMENTS_MAX {
            self.moments.push(Moment { at_ms, what });
        }
    }
}

/// Under which epoch a move's last attempt claimed its VM: a takeover after the release acts under
/// another one.
pub(crate) fn claimed_in(records: &[Record]) -> Option<Epoch> {
    let mut events = records.iter().rev().filter_map(|record| Event::decode(record).ok());
    events.find_map(|event| match event {
        Event::Registered { fence, .. } => Some(Epoch::new(fence.value)),
        _ => None,
    })
}

/// Under which epochs it was taken over since, in their order; of very many the last.
pub(crate) fn taken_over_in(records: &[Record]) -> Vec<Epoch> {
    let events = records.iter().rev().filter_map(|record| Event::decode(record).ok());
    let of_attempt = events.take_while(|event| !matches!(event, Event::Registered { .. }));
    let epochs = of_attempt.filter_map(|event| match event {
        Event::TookOver { fence } => Some(Epoch::new(fence.value)),
        _ => None,
    });
    let mut epochs: Vec<Epoch> = epochs.take(TAKEOVERS_MAX).collect();
    epochs.reverse();
    epochs
}

#[cfg(test)]
mod tests {
    use saga::{Cause, Kind};
    use serde_json::Value;

    use super::*;

    fn story(events: &[Event]) -> Story {
        let records: Vec<Record> =
            (1_000..).zip(events).map(|(at, event)| event.encode(at).unwrap()).collect();
        Story::of(&records)
    }

    fn started(step: &str) -> Event {
        Event::Started { step: step.to_owned(), kind: Kind::Reversible }
    }

    fn done(step: &str) -> Event {
        Event::Done { step: step.to_owned(), outcome: Value::Null }
    }

    #[test]
    fn the_pause_lasts_from_the_order_to_stop_to_the_word_that_it_runs() {
        let whole = [started("release"), done("release"), started("start"), done("start")];
        let pause = story(&whole).pause(500).unwrap();
        assert_eq!((pause.stopped_at_ms, pause.running_at_ms), (1_000, 1_003));
        assert_eq!(story(&whole[..3]).pause(500), None, "it stands still");
        let undone = [
            started("release"),
            Event::TurnedBack { cause: Cause::Interrupted },
            Event::Undoing { step: "release".to_owned() },
            Event::Undone { step: "release".to_owned() },
        ];
        let pause = story(&undone).pause(500).unwrap();
        assert_eq!((pause.lasted_ms(), story(&undone).pivot_at_ms), (3, None));
    }

    #[test]
    fn a_move_has_the_epochs_of_its_last_attempt_and_of_those_who_took_it_over() {
        let fence = |value| saga::Fence { name: saga::FenceName::new("vm/web").unwrap(), value };
        let registered =
            |value| Event::Registered { step: "epoch".to_owned(), fence: fence(value) };
        let took_over = |value| Event::TookOver { fence: fence(value) };
        let events = [registered(2), took_over(3), registered(4), took_over(5), took_over(6)];
        let records: Vec<Record> = events.iter().map(|event| event.encode(1).unwrap()).collect();
        assert_eq!(claimed_in(&records), Some(Epoch::new(4)));
        assert_eq!(taken_over_in(&records), [5, 6].map(Epoch::new));
        assert_eq!(taken_over_in(&records[..3]), []);
    }

    #[test]
    fn a_question_took_the_time_since_what_stands_before_it() {
        let asked = Event::Answered { step: "check".to_owned(), answer: Value::Null };
        let story = story(&[done("x"), asked]);
        let steps = ledger::report::timeline(story.words);
        let check = steps.iter().find(|run| run.step == "check").unwrap();
        assert_eq!((check.started_at_ms, check.ended_at_ms), (1_000, Some(1_001)));
        assert_eq!(story.estimate, None);
    }
}
