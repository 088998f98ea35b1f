//! What the source does: hold, stop, release, run on, forget, and delete what is left.

use super::{admit, answered, denied_by_seat, not_ended, same_release, write};
use crate::epoch::{Authority, Epoch, Release};
use crate::order::{Answer, Denied, Effect, Evidence, Facts, Plan, ProcessState, Speaker, Step};
use crate::seat::{End, Incarnation, Pair, Record, Seat};

pub(super) fn hold(record: &Record, facts: &Facts, authority: &Authority) -> Result<Plan, Denied> {
    moving_away(record, facts, authority)?;
    let steps = vec![Step::Do(Effect::Hold(authority.epoch))];
    Ok(Plan { steps, answer: Answer::Held })
}

/// A process that may start at any moment cannot be stopped for good: a `cont` still on its way
/// would follow the `stop`.
pub(super) fn stop(record: &Record, facts: &Facts, authority: &Authority) -> Result<Plan, Denied> {
    let (incarnation, _) = moving_away(record, facts, authority)?;
    match facts.process_of(&incarnation.made_by) {
        None | Some(ProcessState::Incoming { .. }) => Err(Denied::NoProcess),
        Some(ProcessState::Unsure) => Err(Denied::Unsure),
        Some(ProcessState::Running | ProcessState::Stopped | ProcessState::Completed { .. }) => {
            let steps = vec![Step::Do(Effect::Stop(incarnation.clone()))];
            Ok(Plan { steps, answer: Answer::Stopped })
        }
    }
}

/// Given once, and said as often as it is asked for. The record's word *armed* goes with the old
/// seat: from here on the VM runs at this agent only on evidence.
pub(super) fn release(
    record: &Record,
    facts: &Facts,
    authority: &Authority,
) -> Result<Plan, Denied> {
    admit(record, authority)?;
    let release = Release::from(authority.clone());
    if let Seat::Released { release: ours, .. } = &record.seat {
        same_release(ours, &release)?;
        return Ok(answered(Answer::Released { release }));
    }
    let (incarnation, to) = moving_away(record, facts, authority)?;
    match facts.process_of(&incarnation.made_by) {
        Some(ProcessState::Completed { of }) if of == authority.epoch => {}
        Some(ProcessState::Unsure) => return Err(Denied::Unsure),
        Some(_) => return Err(Denied::NotCompleted { epoch: authority.epoch }),
        None => return Err(Denied::NoProcess),
    }
    let seat = Seat::Released {
        release: release.clone(),
        to: to.clone(),
        incarnation: incarnation.clone(),
    };
    let next = Record { seat, ..record.clone() };
    Ok(Plan { steps: vec![write(next)], answer: Answer::Released { release } })
}

/// The move is off: the record says so before the process runs, so that no late stop or release of
/// this move can follow.
pub(super) fn run(
    record: &Record,
    facts: &Facts,
    authority: &Authority,
    evidence: Option<&Evidence>,
) -> Result<Plan, Denied> {
    admit(record, authority)?;
    let incarnation = match &record.seat {
        Seat::Started { incarnation, armed: true } => incarnation,
        Seat::Released { release, to, incarnation } => {
            let evidence = evidence.ok_or_else(|| no_evidence(to))?;
            weigh(evidence, release, to, authority)?;
            incarnation
        }
        Seat::None | Seat::Accepted(_) | Seat::Started { armed: false, .. } | Seat::Gone { .. } => {
            return Err(denied_by_seat(record, "here, or released"));
        }
    };
    Ok(run_again(record, facts, incarnation, authority.epoch))
}

/// Here again, and everything up to `ended` is over.
pub(super) fn run_again(
    record: &Record,
    facts: &Facts,
    incarnation: &Incarnation,
    ended: Epoch,
) -> Plan {
    let next = Record {
        seat: Seat::Started { incarnation: incarnation.clone(), armed: true },
        ended: record.ended.max(ended),
        ..record.clone()
    };
    let again = match facts.process_of(&incarnation.made_by) {
        Some(_) => Effect::Continue(incarnation.clone()),
        None => Effect::Boot(incarnation.clone()),
    };
    let release_queue = Step::Do(Effect::ReleaseQueue(ended));
    Plan { steps: vec![write(next), Step::Do(again), release_queue], answer: Answer::Runs }
}

/// Whether `evidence` shows that nothing runs, or ever will, from `release`.
fn weigh(
    evidence: &Evidence,
    release: &Release,
    to: &End,
    authority: &Authority,
) -> Result<(), Denied> {
    match evidence {
        Evidence::Refused { by, release: refused } => weigh_refusal(by, refused, release, to),
        Evidence::Undone { release: undone } => {
            same_release(release, undone)?;
            if authority.owner == release.owner { Ok(()) } else { Err(no_evidence(to)) }
        }
        Evidence::Fenced { release: fenced, .. } => same_release(release, fenced),
    }
}

/// Only a refusal by the very agent that would have run it, of this release or a later one.
pub(super) fn weigh_refusal(
    by: &Speaker,
    refused: &Release,
    release: &Release,
    to: &End,
) -> Result<(), Denied> {
    if !by.is_at(to) || refused.epoch < release.epoch {
        return Err(no_evidence(to));
    }
    if refused.epoch == release.epoch { same_release(release, refused) } else { Ok(()) }
}

fn no_evidence(to: &End) -> Denied {
    Denied::NoEvidence { to_site: to.site.clone(), to_agent: to.agent.clone() }
}

/// Only after the target runs; from then on what lies here is a leftover with the move's name.
pub(super) fn forget(
    record: &Record,
    authority: &Authority,
    release: &Release,
) -> Result<Plan, Denied> {
    admit(record, authority)?;
    not_ended(record, authority.epoch)?;
    let (ours, to, incarnation) = match &record.seat {
        Seat::Released { release, to, incarnation } | Seat::Gone { release, to, incarnation } => {
            (release, to, incarnation)
        }
        Seat::None | Seat::Accepted(_) | Seat::Started { .. } => {
            return Err(denied_by_seat(record, "released"));
        }
    };
    same_release(ours, release)?;
    let seat =
        Seat::Gone { release: release.clone(), to: to.clone(), incarnation: incarnation.clone() };
    let aside = Effect::SetDiskAside { incarnation: incarnation.clone(), left_by: release.clone() };
    let mut steps = vec![Step::Do(Effect::Kill(incarnation.clone())), Step::Do(aside)];
    if record.seat != seat {
        steps.insert(0, write(Record { seat, ..record.clone() }));
    }
    Ok(Plan { steps, answer: Answer::Gone { release: release.clone() } })
}

/// Names the leftover of one move and is bound to no epoch. What was released and is not forgotten
/// is no leftover: it may have to run again.
pub(super) fn reclaim(record: &Record, release: &Release, keep_disk: bool) -> Result<Plan, Denied> {
    if let Seat::Released { release: ours, .. } = &record.seat
        && ours.epoch <= release.epoch
    {
        return Err(denied_by_seat(record, "gone, before its leftover is deleted"));
    }
    if let Seat::Gone { release: ours, .. } = &record.seat
        && ours.epoch == release.epoch
    {
        same_release(ours, release)?;
    }
    let mut steps = vec![Step::Do(Effect::ClearPort(release.clone()))];
    if !keep_disk {
        steps.push(Step::Do(Effect::DeleteLeftover(release.clone())));
    }
    Ok(Plan { steps, answer: Answer::Reclaimed { release: release.clone() } })
}

/// The common ground of hold, stop and release: the standing claim, at its source, from Here, in a
/// move that has not ended.
fn moving_away<'a>(
    record: &'a Record,
    facts: &Facts,
    authority: &Authority,
) -> Result<(&'a Incarnation, &'a End), Denied> {
    admit(record, authority)?;
    not_ended(record, authority.epoch)?;
    let Some(Pair { from, to }) = &record.pair else {
        return Err(Denied::WrongEnd { wanted: "source".to_owned(), epoch: authority.epoch });
    };
    if !facts.here.is_same_agent(from) {
        return Err(Denied::WrongEnd { wanted: "source".to_owned(), epoch: authority.epoch });
    }
    match &record.seat {
        Seat::Started { incarnation, armed: true } => Ok((incarnation, to)),
        Seat::None
        | Seat::Accepted(_)
        | Seat::Started { armed: false, .. }
        | Seat::Released { .. }
        | Seat::Gone { .. } => Err(denied_by_seat(record, "here")),
    }
}
