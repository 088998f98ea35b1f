//! What becomes of calls: decided by whoever tests, call by call, so that a run can be had again.

use std::fmt;

use orchestrator_api::agent::PortRequest;
use orchestrator_api::{CopyRequest, OrderRequest, Place};
use placement::VmName;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It is served and answered.
    None,
    /// It never arrives.
    Lost,
    /// It is served, and its answer is lost.
    AnswerLost,
    /// It arrives so many calls later; its caller has given up.
    Late(u16),
    /// It is served now, and again so many calls later.
    Twice(u16),
    /// The agent dies after so many steps of its plan, and is started again.
    Dies(usize),
    /// Its caller is killed once it was served.
    CallerKilled,
    /// Its caller is killed while it is under way: it arrives so many calls later.
    CallerKilledLate(u16),
}

/// One call, as whoever decides about it sees it.
#[derive(Debug, Clone)]
pub struct Called {
    /// Which call of all, from 0.
    pub point: usize,
    /// Whom it is for.
    pub place: Place,
    /// Of which step.
    pub step: String,
    /// What is asked, in words.
    pub what: String,
}

/// What is asked of an agent.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Order(Box<OrderRequest>),
    Copy(CopyRequest),
    Port(VmName, PortRequest),
}

impl Asked {
    fn step(&self) -> String {
        match self {
            Asked::Order(order) => order.key.step.to_string(),
            Asked::Copy(copy) => copy.key.step.to_string(),
            Asked::Port(..) => "port".to_owned(),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Order(order) => {
                let (key, command) = (&order.key, &order.command);
                write!(f, "{}/{} in {}: {command:?}", key.step, key.attempt, key.epoch)
            }
            Asked::Copy(copy) => {
                let (key, command) = (&copy.key, &copy.command);
                write!(f, "{}/{} in {}: {command:?}", key.step, key.attempt, key.epoch)
            }
            Asked::Port(vm, asked) => write!(f, "port of {vm}: {:?}", asked.command),
        }
    }
}

type Decide = Box<dyn FnMut(&Called) -> Mishap + Send>;

/// What has become of calls, and who decides what becomes of the next.
#[derive(Default)]
pub(crate) struct Fate {
    point: usize,
    decide: Option<Decide>,
    late: Vec<(usize, Place, Asked)>,
    story: Vec<String>,
}

impl Fate {
    pub(crate) fn decide(&mut self, decide: impl FnMut(&Called) -> Mishap + Send + 'static) {
        self.decide = Some(Box::new(decide));
    }

    pub(crate) fn next(&mut self, place: &Place, asked: &Asked) -> (usize, Mishap) {
        let point = self.point;
        self.point += 1;
        let (step, what) = (asked.step(), asked.to_string());
        let called = Called { point, place: place.clone(), step, what };
        let mishap = self.decide.as_mut().map_or(Mishap::None, |decide| decide(&called));
        self.story.push(format!("{point}: {place} {asked} ({mishap:?})"));
        (point, mishap)
    }

    pub(crate) fn later(&mut self, point: usize, delay: u16, place: &Place, asked: &Asked) {
        self.late.push((point + usize::from(delay), place.clone(), asked.clone()));
    }

    pub(crate) fn due(&mut self, point: usize) -> Vec<(Place, Asked)> {
        let (due, still) =
            std::mem::take(&mut self.late).into_iter().partition(|late| late.0 <= point);
        self.late = still;
        let due: Vec<(usize, Place, Asked)> = due;
        due.into_iter().map(|(_, place, asked)| (place, asked)).collect()
    }

    pub(crate) fn tell(&mut self, line: String) {
        self.story.push(line);
    }

    pub(crate) fn story(&self) -> String {
        self.story.join("\n")
    }
}
