//! From the journal's words to the runs of the steps.

use serde::{Deserialize, Serialize};

/// Most reasons that are kept of one step's failed tries; the last ones.
pub const REASONS_MAX: usize = 4;

/// What the journal says of a step, as far as a timeline needs it. Words come in the journal's
/// order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The next attempt at the whole move begins.
    Attempt {
        /// Which one, from 1.
        number: u32,
    },
    /// Another runner goes on with it.
    Resumed,
    /// A step begins.
    Started {
        /// Its id.
        step: String,
    },
    /// It is tried again.
    Again {
        /// Its id.
        step: String,
        /// Why.
        reason: String,
    },
    /// It is done.
    Done {
        /// Its id.
        step: String,
    },
    /// The attempt is undone from here on.
    TurnedBack {
        /// Why.
        reason: String,
    },
    /// A step is being undone.
    Undoing {
        /// Its id.
        step: String,
    },
    /// It is undone.
    Undone {
        /// Its id.
        step: String,
    },
    /// The runner stopped trying for now.
    GaveUp {
        /// At which step.
        step: String,
        /// What the last try said.
        reason: String,
    },
}

/// Which way a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It was done.
    Forward,
    /// It was undone.
    Back,
}

/// How a step's run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum StepOutcome {
    /// It is done, or undone.
    Done,
    /// It could not be done.
    Failed {
        /// What it said.
        reason: String,
    },
    /// Its runner ended in the middle of it.
    Interrupted,
    /// It is under way.
    UnderWay,
}

/// One run of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRun {
    /// In which attempt at the move, from 1.
    pub attempt: u32,
    /// The step's id.
    pub step: String,
    /// Which way.
    pub way: Way,
    /// When it began.
    pub started_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// How.
    #[serde(flatten)]
    pub outcome: StepOutcome,
    /// How many times it was tried.
    pub tries: u32,
    /// Why it was tried again: the last [`REASONS_MAX`] reasons.
    pub reasons: Vec<String>,
}

/// The runs of the steps. Words that do not follow from each other are taken as they are: a report
/// is wanted most where something went wrong.
#[must_use]
pub fn timeline(words: impl IntoIterator<Item = (u64, Word)>) -> Vec<StepRun> {
    let mut runs = Runs { attempt: 1, done: Vec::new() };
    for (at_ms, word) in words {
        runs.take(at_ms, word);
    }
    runs.done
}

#[derive(Debug)]
struct Runs {
    attempt: u32,
    done: Vec<StepRun>,
}

impl Runs {
    fn take(&mut self, at_ms: u64, word: Word) {
        match word {
            Word::Attempt { number } => {
                self.end_all(at_ms, &StepOutcome::Interrupted);
                self.attempt = number;
            }
            Word::Resumed => self.end_all(at_ms, &StepOutcome::Interrupted),
            Word::Started { step } => {
                self.open(at_ms, step, Way::Forward);
            }
            Word::Undoing { step } => {
                self.open(at_ms, step, Way::Back);
            }
            Word::Again { step, reason } => {
                let run = self.open(at_ms, step, Way::Forward);
                run.tries += 1;
                if run.reasons.len() == REASONS_MAX {
                    run.reasons.remove(0);
                }
                run.reasons.push(reason);
            }
            Word::Done { step } => self.end(at_ms, step, Way::Forward, StepOutcome::Done),
            Word::Undone { step } => self.end(at_ms, step, Way::Back, StepOutcome::Done),
            Word::TurnedBack { reason } => {
                self.end_all(at_ms, &StepOutcome::Failed { reason });
            }
            Word::GaveUp { step, reason } => {
                let way = if self.is_open(&step, Way::Back) { Way::Back } else { Way::Forward };
                self.end(at_ms, step, way, StepOutcome::Failed { reason });
            }
        }
    }

    fn is_open(&self, step: &str, way: Way) -> bool {
        self.done.iter().any(|run| run.is_open(step, way))
    }

    /// The open run of this step: the one that is there, or a new one.
    fn open(&mut self, at_ms: u64, step: String, way: Way) -> &mut StepRun {
        let at = self.done.iter().rposition(|run| run.is_open(&step, way)).unwrap_or_else(|| {
            self.done.push(StepRun {
                attempt: self.attempt,
                step,
                way,
                started_at_ms: at_ms,
                ended_at_ms: None,
                outcome: StepOutcome::UnderWay,
                tries: 1,
                reasons: Vec::new(),
            });
            self.done.len() - 1
        });
        &mut self.done[at]
    }

    fn end(&mut self, at_ms: u64, step: String, way: Way, outcome: StepOutcome) {
        let run = self.open(at_ms, step, way);
        (run.ended_at_ms, run.outcome) = (Some(at_ms), outcome);
    }

    fn end_all(&mut self, at_ms: u64, outcome: &StepOutcome) {
        for run in self.done.iter_mut().filter(|run| run.outcome == StepOutcome::UnderWay) {
            (run.ended_at_ms, run.outcome) = (Some(at_ms), outcome.clone());
        }
    }
}

impl StepRun {
    fn is_open(&self, step: &str, way: Way) -> bool {
        self.outcome == StepOutcome::UnderWay && self.way == way && self.step == step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(step: &str) -> Word {
        Word::Started { step: step.to_owned() }
    }

    fn done(step: &str) -> Word {
        Word::Done { step: step.to_owned() }
    }

    fn told(runs: &[StepRun]) -> Vec<(u32, &str, Way, Option<u64>, u32)> {
        let tell =
            |run: &StepRun| (run.attempt, run.started_at_ms, run.way, run.ended_at_ms, run.tries);
        let steps = runs.iter().map(|run| run.step.as_str());
        let figures = runs.iter().map(tell);
        steps.zip(figures).map(|(step, (a, _, w, e, t))| (a, step, w, e, t)).collect()
    }

    #[test]
    fn a_step_that_is_tried_again_is_one_run() {
        let again = |reason: &str| Word::Again { step: "mirror".into(), reason: reason.into() };
        let words = [(1, started("mirror")), (2, again("a")), (4, again("b")), (9, done("mirror"))];
        let runs = timeline(words);
        assert_eq!(told(&runs), [(1, "mirror", Way::Forward, Some(9), 3)]);
        assert_eq!(runs[0].reasons, ["a", "b"]);
    }

    #[test]
    fn a_runner_that_ends_interrupts_its_step_and_the_next_attempt_counts_anew() {
        let words = [
            (1, started("mirror")),
            (5, Word::Resumed),
            (6, Word::Undoing { step: "mirror".into() }),
            (7, Word::Undone { step: "mirror".into() }),
            (8, Word::Attempt { number: 2 }),
            (9, started("mirror")),
        ];
        let runs = timeline(words);
        let expected = [
            (1, "mirror", Way::Forward, Some(5), 1),
            (1, "mirror", Way::Back, Some(7), 1),
            (2, "mirror", Way::Forward, None, 1),
        ];
        assert_eq!(told(&runs), expected);
        assert_eq!(runs[0].outcome, StepOutcome::Interrupted);
        assert_eq!(runs[2].outcome, StepOutcome::UnderWay);
    }

    #[test]
    fn a_step_that_fails_says_why() {
        let turned = Word::TurnedBack { reason: "the target's disk is full".into() };
        let runs = timeline([(1, started("reserve")), (3, turned)]);
        let reason = "the target's disk is full".to_owned();
        assert_eq!(runs[0].outcome, StepOutcome::Failed { reason });
        let gave_up = Word::GaveUp { step: "steer".into(), reason: "silence".into() };
        let runs = timeline([(1, started("steer")), (3, gave_up.clone()), (5, started("steer"))]);
        assert_eq!(runs.len(), 2, "a step that is taken up again is another run");
        // Words that follow from nothing are told, not lost.
        assert_eq!(timeline([(3, gave_up)]).len(), 1);
        assert_eq!(told(&timeline([(4, done("x"))])), [(1, "x", Way::Forward, Some(4), 1)]);
    }
}
