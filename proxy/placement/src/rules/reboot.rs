//! What an agent does of its own accord: after a reboot of its host, and when nobody drives a move
//! any more. Silence decides nothing: it waits.

use super::{source, target::refused, write};
use crate::epoch::Release;
use crate::order::{Answer, Denied, Effect, Facts, Plan, ProcessState, Speaker, Step};
use crate::seat::{End, Incarnation, Record, Seat};

/// What a seat whose process is gone calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterBoot {
    /// Boot it.
    Boot(Plan),
    /// Ask where it came from, on a connection opened since this boot, and decide by
    /// [`boot_on_answer`].
    AskFrom {
        /// Whom.
        from: End,
        /// What must still be released there.
        release: Release,
    },
    /// Ask where it went to refuse the release; only a refusal lets it run here.
    AskTo {
        /// Whom.
        to: End,
        /// Which release.
        release: Release,
    },
    /// It has no business here.
    Nothing,
}

/// What to do about a VM after the host came up again. `facts` tell whether a process outlived a
/// mere restart of the agent; then there is nothing to boot.
#[must_use]
pub fn after_boot(record: &Record, facts: &Facts) -> AfterBoot {
    let stands = |incarnation: &Incarnation| facts.process_of(&incarnation.made_by).is_some();
    match &record.seat {
        Seat::Started { incarnation, .. } | Seat::Accepted(incarnation) if stands(incarnation) => {
            AfterBoot::Nothing
        }
        Seat::Started { incarnation, armed: true } => {
            // The move that was under way is over: its copy died with the process.
            let next = Record { ended: record.ended.max(record.epoch), ..record.clone() };
            let steps = vec![write(next), Step::Do(Effect::Boot(incarnation.clone()))];
            AfterBoot::Boot(Plan { steps, answer: Answer::Runs })
        }
        Seat::Accepted(incarnation) | Seat::Started { incarnation, armed: false } => {
            match &incarnation.from {
                Some(from) => {
                    let release = incarnation.made_by.clone();
                    AfterBoot::AskFrom { from: from.clone(), release }
                }
                None => AfterBoot::Nothing,
            }
        }
        Seat::Released { release, to, .. } => {
            AfterBoot::AskTo { to: to.clone(), release: release.clone() }
        }
        Seat::Gone { .. } | Seat::None => AfterBoot::Nothing,
    }
}

/// What the answer of `from` means for an accepted or unarmed seat here. `None` where this record
/// has no such seat. A source that holds anything but this very release may be running the VM, so
/// that the seat here is given up; its disk is kept.
#[must_use]
pub fn boot_on_answer(record: &Record, seat_of_from: &Seat) -> Option<Plan> {
    let (Seat::Accepted(incarnation) | Seat::Started { incarnation, armed: false }) = &record.seat
    else {
        return None;
    };
    let released = match seat_of_from {
        Seat::Released { release, .. } | Seat::Gone { release, .. } => Some(release),
        Seat::None | Seat::Accepted(_) | Seat::Started { .. } => None,
    };
    if released != Some(&incarnation.made_by) {
        let given_up = Record { seat: Seat::None, ..record.clone() };
        return Some(Plan { steps: vec![write(given_up)], answer: Answer::GivenBack });
    }
    let seat = Seat::Started { incarnation: incarnation.clone(), armed: false };
    let next = Record { seat, ..record.clone() };
    let steps = vec![write(next), Step::Do(Effect::Boot(incarnation.clone()))];
    Some(Plan { steps, answer: Answer::Runs })
}

/// What an agent may do when the orchestrator is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alone {
    /// Carry this out.
    Do(Plan),
    /// Send the target's agent a refusal of this release to answer; run on a refusal.
    AskTo {
        /// Whom.
        to: End,
        /// Which release.
        release: Release,
    },
    /// Ask the source's agent for its record; once it has answered, whatever it says, carry out
    /// the plan, which refuses the idle target.
    AskFromThen {
        /// Whom.
        from: End,
        /// The refusal.
        refuse: Plan,
    },
    /// Nothing is owed.
    Nothing,
}

/// What is owed here once `pause_budget_passed`, if nobody drives the move: a source that stands
/// still runs on, one that has released asks, a target that was accepted is started, an idle one
/// is refused.
#[must_use]
pub fn when_alone(record: &Record, facts: &Facts, pause_budget_passed: bool) -> Alone {
    if matches!(record.seat, Seat::Accepted(_)) {
        return super::finish_accepted(record, facts).map_or(Alone::Nothing, Alone::Do);
    }
    if !pause_budget_passed {
        return Alone::Nothing;
    }
    match &record.seat {
        Seat::Started { incarnation, armed: true } => {
            match facts.process_of(&incarnation.made_by) {
                Some(ProcessState::Stopped | ProcessState::Completed { .. }) => {
                    Alone::Do(source::run_again(record, facts, incarnation, record.epoch))
                }
                Some(
                    ProcessState::Running | ProcessState::Unsure | ProcessState::Incoming { .. },
                )
                | None => Alone::Nothing,
            }
        }
        Seat::Released { release, to, .. } => {
            Alone::AskTo { to: to.clone(), release: release.clone() }
        }
        Seat::None | Seat::Gone { .. } | Seat::Accepted(_) | Seat::Started { armed: false, .. } => {
            idle_target(record)
        }
    }
}

/// What a source does with the refusal that it asked for by itself ([`Alone::AskTo`],
/// [`AfterBoot::AskTo`]): it runs on, as it would by an orchestrator's order.
///
/// # Errors
/// [`Denied`] where the record has moved on, or the refusal is of something else.
pub fn run_on_refusal(
    record: &Record,
    facts: &Facts,
    by: &Speaker,
    refused: &Release,
) -> Result<Plan, Denied> {
    let Seat::Released { release, to, incarnation } = &record.seat else {
        return Err(super::denied_by_seat(record, "released"));
    };
    source::weigh_refusal(by, refused, release, to)?;
    Ok(source::run_again(record, facts, incarnation, record.epoch))
}

fn idle_target(record: &Record) -> Alone {
    let Some(Incarnation { made_by, from: Some(from) }) = &record.target else {
        return Alone::Nothing;
    };
    Alone::AskFromThen { from: from.clone(), refuse: refused(record, made_by) }
}
