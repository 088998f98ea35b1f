//! The first placement, claiming a VM for one move, and giving it back.

use super::{admit, answered, denied_by_seat, write};
use crate::epoch::{Authority, Epoch, Owner, Release};
use crate::order::{Answer, Denied, Effect, Facts, Plan, Step};
use crate::seat::{Incarnation, Pair, Record, Seat};

/// The first placement is recorded, armed, before the process starts. Whether any other agent has a
/// record is for the orchestrator to find out: this one can only speak for itself.
pub(super) fn place(record: &Record, facts: &Facts, owner: &Owner) -> Result<Plan, Denied> {
    let made_by = Release { epoch: Epoch::FIRST, owner: owner.clone() };
    let incarnation = Incarnation { made_by, from: None };
    let placed = Seat::Started { incarnation: incarnation.clone(), armed: true };
    if record.seat == placed && record.epoch == Epoch::FIRST {
        let boot = facts.process_of(&incarnation.made_by).is_none();
        let steps = boot.then_some(Step::Do(Effect::Boot(incarnation))).into_iter().collect();
        return Ok(Plan { steps, answer: Answer::Runs });
    }
    if record.epoch != Epoch::NONE {
        return Err(denied_by_seat(record, "unknown to this agent, for a first placement"));
    }
    let next = Record { epoch: Epoch::FIRST, seat: placed, ..record.clone() };
    Ok(Plan { steps: vec![write(next), Step::Do(Effect::Boot(incarnation))], answer: Answer::Runs })
}

/// Granted if nobody owns the VM, its owner has been silent for a lease, or a takeover is ordered.
/// The same claim once more gets the same answer.
pub(super) fn claim(
    record: &Record,
    facts: &Facts,
    authority: &Authority,
    pair: &Pair,
    takeover: bool,
) -> Result<Plan, Denied> {
    if !facts.here.is_same_agent(&pair.from) && !facts.here.is_same_agent(&pair.to) {
        let wanted = "source or target".to_owned();
        return Err(Denied::WrongEnd { wanted, epoch: authority.epoch });
    }
    if authority.epoch <= record.epoch {
        // Not later than what was seen: it can only be the standing claim, said again.
        admit(record, authority)?;
        if record.pair.as_ref() == Some(pair) {
            return Ok(answered(Answer::Granted { record: Box::new(record.clone()) }));
        }
        return Err(Denied::Older { asked: authority.epoch, seen: record.epoch });
    }
    if let Some(owner) = &record.owner
        && !facts.lease_ran_out
        && !takeover
    {
        return Err(Denied::Owned { owner: owner.clone(), epoch: record.epoch });
    }
    let next = Record {
        epoch: authority.epoch,
        owner: Some(authority.owner.clone()),
        pair: Some(pair.clone()),
        ..record.clone()
    };
    let answer = Answer::Granted { record: Box::new(next.clone()) };
    Ok(Plan { steps: vec![write(next)], answer })
}

pub(super) fn give_back(record: &Record, authority: &Authority) -> Result<Plan, Denied> {
    match admit(record, authority) {
        Err(Denied::GivenBack { .. }) => return Ok(answered(Answer::GivenBack)),
        admitted => admitted?,
    }
    let next = Record { owner: None, ..record.clone() };
    Ok(Plan { steps: vec![write(next)], answer: Answer::GivenBack })
}
