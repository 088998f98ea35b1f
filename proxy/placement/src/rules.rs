//! The rules of fencing: what an agent does when it is asked.
//!
//! [`decide`] is total and pure. It is what the agent runs, what the tests step and what a model
//! checks. Each rule stands where it is applied; its absence ran a VM twice, ran an old state, or
//! left one stopped for ever.

mod claim;
mod reboot;
mod source;
mod target;

pub use reboot::{AfterBoot, Alone, after_boot, boot_on_answer, run_on_refusal, when_alone};
pub use target::finish_accepted;

use crate::epoch::{Authority, Epoch, Release};
use crate::identity::{Identity, Role};
use crate::order::{Answer, Command, Denied, Facts, Order, Plan, Step};
use crate::seat::{End, Record, Seat};

/// What to do about `order`, given what is remembered and seen. Serial per VM: no other order of
/// the same VM may be decided until the plan's last step is done or has failed.
///
/// # Errors
/// [`Denied`]: nothing may be changed.
pub fn decide(record: &Record, facts: &Facts, order: &Order) -> Result<Plan, Denied> {
    match &order.command {
        Command::Refuse { authority, release } => {
            target::refuse(record, facts, &order.by, authority.as_ref(), release)
        }
        _ if order.by.role != Role::Orchestrator => Err(Denied::Caller { by: order.by.clone() }),
        Command::Place { owner } => claim::place(record, facts, owner),
        Command::Claim { authority, pair, takeover } => {
            claim::claim(record, facts, authority, pair, *takeover)
        }
        Command::GiveBack { authority } => claim::give_back(record, authority),
        Command::Reserve { authority } => target::reserve(record, facts, authority),
        Command::Hold { authority } => source::hold(record, facts, authority),
        Command::Stop { authority } => source::stop(record, facts, authority),
        Command::Release { authority } => source::release(record, facts, authority),
        Command::Start { authority, release } => target::start(record, facts, authority, release),
        Command::Run { authority, evidence } => {
            source::run(record, facts, authority, evidence.as_ref())
        }
        Command::Forget { authority, release } => source::forget(record, authority, release),
        Command::Arm { authority, release, gone_at } => {
            target::arm(record, authority, release, gone_at)
        }
        Command::Reclaim { release, keep_disk } => source::reclaim(record, release, *keep_disk),
    }
}

/// Whether a command under this authority is the standing claim's: anything older is refused, and
/// anything equal from another owner; only a claim raises the epoch.
fn admit(record: &Record, authority: &Authority) -> Result<(), Denied> {
    let (asked, seen) = (authority.epoch, record.epoch);
    if asked < seen {
        return Err(Denied::Older { asked, seen });
    }
    if asked > seen {
        return Err(Denied::NotClaimed { asked, seen });
    }
    match &record.owner {
        Some(owner) if *owner == authority.owner => Ok(()),
        Some(owner) => Err(Denied::Owned { owner: owner.clone(), epoch: seen }),
        None => Err(Denied::GivenBack { epoch: seen }),
    }
}

/// A move that ended here gets no hold, stop, release or forget any more.
fn not_ended(record: &Record, epoch: Epoch) -> Result<(), Denied> {
    if record.ended >= epoch { Err(Denied::Ended { ended: record.ended }) } else { Ok(()) }
}

/// A release is named by its epoch; two of one epoch with different owners cannot both be true.
fn same_release(ours: &Release, theirs: &Release) -> Result<(), Denied> {
    if ours == theirs { Ok(()) } else { Err(Denied::OtherRelease { ours: ours.clone() }) }
}

fn denied_by_seat(record: &Record, wanted: &str) -> Denied {
    let found = match &record.seat {
        Seat::None => "none",
        Seat::Accepted(_) => "accepted",
        Seat::Started { armed: true, .. } => "here",
        Seat::Started { armed: false, .. } => "started but not armed",
        Seat::Released { .. } => "released",
        Seat::Gone { .. } => "gone",
    };
    Denied::Seat { found: found.to_owned(), wanted: wanted.to_owned() }
}

fn write(record: Record) -> Step {
    Step::Write(Box::new(record))
}

fn answered(answer: Answer) -> Plan {
    Plan { steps: Vec::new(), answer }
}

/// Whether the caller is the agent at the other end of this VM's move, as the record names it:
/// either end of the last claim, which may be the other way round by now, what was reserved here,
/// or where the seat came from, whose giver may only now ask what became of its release.
fn is_other_end(record: &Record, facts: &Facts, by: &Identity) -> bool {
    let stands_at = |end: &End| end.site == by.site && end.agent == by.name;
    if by.role != Role::Agent || stands_at(&facts.here) {
        return false;
    }
    let sat = record.seat.came_from();
    let reserved = record.target.as_ref().and_then(|target| target.from.as_ref());
    let claimed = record.pair.iter().flat_map(|pair| [&pair.from, &pair.to]);
    claimed.chain(sat).chain(reserved).any(stands_at)
}
