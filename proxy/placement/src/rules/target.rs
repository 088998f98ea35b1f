//! What the target does: reserve, start, refuse, arm.

use super::{admit, answered, denied_by_seat, is_other_end, not_ended, same_release, write};
use crate::epoch::{Authority, Release};
use crate::identity::{Identity, Role};
use crate::order::{Answer, Denied, Effect, Facts, Plan, ProcessState, Speaker, Step};
use crate::seat::{Incarnation, Pair, Record, Seat};

/// A shell beside a seat would be a second process with a claim to run: only where no seat is.
/// *Gone* stays until a release is accepted, since it is what the other end asks for.
pub(super) fn reserve(
    record: &Record,
    facts: &Facts,
    authority: &Authority,
) -> Result<Plan, Denied> {
    admit(record, authority)?;
    not_ended(record, authority.epoch)?;
    let Some(Pair { from, to }) = &record.pair else {
        return Err(Denied::WrongEnd { wanted: "target".to_owned(), epoch: authority.epoch });
    };
    if !facts.here.is_same_agent(to) {
        return Err(Denied::WrongEnd { wanted: "target".to_owned(), epoch: authority.epoch });
    }
    if !matches!(record.seat, Seat::None | Seat::Gone { .. }) {
        return Err(denied_by_seat(record, "none or gone, for a target"));
    }
    let made_by = Release::from(authority.clone());
    let target = Incarnation { made_by: made_by.clone(), from: Some(from.clone()) };
    let stands = record.target.as_ref() == Some(&target);
    if stands && facts.process_of(&made_by).is_some() {
        return Ok(answered(Answer::Reserved));
    }
    let next = Record { target: Some(target.clone()), ..record.clone() };
    let steps = vec![
        write(next),
        Step::Do(Effect::KillOthers(made_by)),
        Step::Do(Effect::CreateTarget(target)),
    ];
    Ok(Plan { steps, answer: Answer::Reserved })
}

/// Acts once; later copies are told what became of it. Where nothing stands that could be started,
/// it is a refusal, recorded like one.
pub(super) fn start(
    record: &Record,
    facts: &Facts,
    authority: &Authority,
    release: &Release,
) -> Result<Plan, Denied> {
    if let Some(taken) = taken(record, release)? {
        return finish_accepted(record, facts).map_or_else(|| Ok(answered(taken)), Ok);
    }
    admit(record, authority)?;
    carried_by(authority, release)?;
    let Some(target) = record.target.as_ref().filter(|target| target.made_by == *release) else {
        return Ok(refused(record, release));
    };
    if record.ended >= release.epoch {
        return Ok(refused(record, release));
    }
    match facts.process_of(release) {
        Some(ProcessState::Incoming { loaded: true }) => {}
        Some(_) => return Err(Denied::NotLoaded),
        None => return Ok(refused(record, release)),
    }
    if !matches!(record.seat, Seat::None | Seat::Gone { .. }) {
        return Err(denied_by_seat(record, "none or gone, for a target"));
    }
    let accepted = Record {
        seat: Seat::Accepted(target.clone()),
        taken: Some(release.clone()),
        target: None,
        ..record.clone()
    };
    // The export is closed first: a seat is accepted on a disk that has one writer.
    let mut steps = vec![Step::Do(Effect::CloseExport(release.clone())), write(accepted.clone())];
    let finish = to_started(&accepted, target);
    steps.extend(finish.steps);
    Ok(Plan { steps, answer: finish.answer })
}

/// An agent that finds *Accepted* and the paused target finishes the order, whoever gave it, and
/// one that died after it had started lets the packets follow. `None` where there is nothing to
/// finish, or nothing to finish it with.
#[must_use]
pub fn finish_accepted(record: &Record, facts: &Facts) -> Option<Plan> {
    match &record.seat {
        Seat::Accepted(incarnation) => {
            facts.process_of(&incarnation.made_by)?;
            Some(to_started(record, incarnation))
        }
        Seat::Started { incarnation, armed: false } => {
            let taken = incarnation.made_by.clone();
            let steps = vec![Step::Do(Effect::ReleaseQueue(taken.epoch))];
            Some(Plan {
                steps,
                answer: Answer::Accepted { taken, seat: Box::new(record.seat.clone()) },
            })
        }
        Seat::None
        | Seat::Started { armed: true, .. }
        | Seat::Released { .. }
        | Seat::Gone { .. } => None,
    }
}

fn to_started(accepted: &Record, incarnation: &Incarnation) -> Plan {
    let seat = Seat::Started { incarnation: incarnation.clone(), armed: false };
    let started = Record { seat: seat.clone(), ..accepted.clone() };
    let steps = vec![
        Step::Do(Effect::PinPort(incarnation.clone())),
        Step::Do(Effect::Continue(incarnation.clone())),
        write(started),
        Step::Do(Effect::ReleaseQueue(incarnation.made_by.epoch)),
    ];
    let taken = incarnation.made_by.clone();
    Plan { steps, answer: Answer::Accepted { taken, seat: Box::new(seat) } }
}

/// Never run from this release: the one answer that lets the source run again. The source's own
/// agent may ask too, whatever the epoch has become, since only it is left when all else is lost.
pub(super) fn refuse(
    record: &Record,
    facts: &Facts,
    by: &Identity,
    authority: Option<&Authority>,
    release: &Release,
) -> Result<Plan, Denied> {
    match (by.role, authority) {
        (Role::Orchestrator, Some(authority)) => {
            admit(record, authority)?;
            carried_by(authority, release)?;
        }
        (Role::Agent, None) if is_other_end(record, facts, by) => {}
        _ => return Err(Denied::Caller { by: by.clone() }),
    }
    if release.epoch > record.epoch {
        return Err(Denied::NotClaimed { asked: release.epoch, seen: record.epoch });
    }
    if let Some(taken) = taken(record, release)? {
        return Ok(answered(taken));
    }
    // Recorded at its own source, a refusal would end the move instead of keeping it from here.
    let is_source = record.pair.as_ref().is_some_and(|pair| facts.here.is_same_agent(&pair.from));
    if is_source && release.epoch == record.epoch {
        return Err(Denied::WrongEnd { wanted: "target".to_owned(), epoch: release.epoch });
    }
    Ok(refused(record, release))
}

/// Kills what could run from this release, sees it dead, and only then records and says so.
pub(super) fn refused(record: &Record, release: &Release) -> Plan {
    let answer = Answer::Refused { release: release.clone() };
    let target = record.target.as_ref().filter(|target| target.made_by.epoch <= release.epoch);
    if target.is_none() && record.ended >= release.epoch {
        return answered(answer);
    }
    let mut next = Record { ended: record.ended.max(release.epoch), ..record.clone() };
    let mut steps = Vec::new();
    if let Some(target) = target {
        steps.push(Step::Do(Effect::KillTarget(target.made_by.clone())));
        next.target = None;
    }
    steps.push(write(next));
    Plan { steps, answer }
}

/// From the source's *Gone* alone: armed before that, a reboot could run both.
pub(super) fn arm(
    record: &Record,
    authority: &Authority,
    release: &Release,
    gone_at: &Speaker,
) -> Result<Plan, Denied> {
    admit(record, authority)?;
    let Seat::Started { incarnation, armed } = &record.seat else {
        return Err(denied_by_seat(record, "started"));
    };
    same_release(&incarnation.made_by, release)?;
    if !incarnation.from.as_ref().is_some_and(|from| gone_at.is_at(from)) {
        let wanted = "target that was started from there".to_owned();
        return Err(Denied::WrongEnd { wanted, epoch: release.epoch });
    }
    let answer = Answer::Armed { release: release.clone() };
    if *armed {
        return Ok(answered(answer));
    }
    let seat = Seat::Started { incarnation: incarnation.clone(), armed: true };
    Ok(Plan { steps: vec![write(Record { seat, ..record.clone() })], answer })
}

/// Said also when the seat has since moved on: accepted stays accepted.
fn taken(record: &Record, release: &Release) -> Result<Option<Answer>, Denied> {
    let Some(taken) = &record.taken else { return Ok(None) };
    if taken.epoch < release.epoch {
        return Ok(None);
    }
    if taken.epoch == release.epoch {
        same_release(taken, release)?;
    }
    let seat = Box::new(record.seat.clone());
    Ok(Some(Answer::Accepted { taken: taken.clone(), seat }))
}

/// A release is carried by its own move, or by a later one that took over.
fn carried_by(authority: &Authority, release: &Release) -> Result<(), Denied> {
    if release.epoch > authority.epoch {
        return Err(Denied::NotClaimed { asked: release.epoch, seen: authority.epoch });
    }
    if release.epoch == authority.epoch && release.owner != authority.owner {
        return Err(Denied::Owned { owner: authority.owner.clone(), epoch: authority.epoch });
    }
    Ok(())
}
