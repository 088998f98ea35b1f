//! What may be asked of an agent about one VM, what it knows when it decides, and what it answers.

use serde::{Deserialize, Serialize};

use crate::epoch::{Authority, Epoch, Owner, Release};
use crate::identity::Identity;
use crate::names::{PartName, SiteName};
use crate::seat::{End, Incarnation, Pair, Record, Seat};

/// A command with its caller, as the caller's certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who asks.
    pub by: Identity,
    /// What is asked.
    pub command: Command,
}

/// What an agent is asked to do with one VM. Each is one step of *Fencing*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command", deny_unknown_fields)]
pub enum Command {
    /// The first placement: record it, then boot.
    Place {
        /// Who orders it.
        owner: Owner,
    },
    /// Take the VM for one move.
    Claim {
        /// The next epoch and its owner.
        authority: Authority,
        /// Both ends of the move.
        pair: Pair,
        /// Take it from an owner that is gone.
        takeover: bool,
    },
    /// Own it no more. The epoch stays used.
    GiveBack {
        /// As claimed.
        authority: Authority,
    },
    /// At the target: make a shell that waits to receive.
    Reserve {
        /// As claimed.
        authority: Authority,
    },
    /// At the source: keep packets back from here on.
    Hold {
        /// As claimed.
        authority: Authority,
    },
    /// At the source: stop the VM.
    Stop {
        /// As claimed.
        authority: Authority,
    },
    /// At the source: give the word that it runs here no more.
    Release {
        /// As claimed.
        authority: Authority,
    },
    /// At the target: accept the release and run.
    Start {
        /// As claimed; later than the release after a takeover.
        authority: Authority,
        /// What the source recorded.
        release: Release,
    },
    /// At the target: never run from this release.
    Refuse {
        /// As claimed; none where the source's own agent asks.
        authority: Option<Authority>,
        /// What the source recorded.
        release: Release,
    },
    /// At the source: the move is off, run on.
    Run {
        /// As claimed.
        authority: Authority,
        /// Why that is safe; needed where the source has released.
        evidence: Option<Evidence>,
    },
    /// At the source: what is left here never runs again.
    Forget {
        /// As claimed.
        authority: Authority,
        /// What the source recorded.
        release: Release,
    },
    /// At the target: start by yourself after a reboot.
    Arm {
        /// As claimed.
        authority: Authority,
        /// What the source recorded.
        release: Release,
        /// The agent that answered *Gone* of that release.
        gone_at: Speaker,
    },
    /// At a source of old: delete what the move left.
    Reclaim {
        /// Of which move. Bound to no epoch: the next move may be under way.
        release: Release,
        /// The disk that was set aside stays, under its name.
        #[serde(default)]
        keep_disk: bool,
    },
}

/// An agent as the author of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speaker {
    /// Its site.
    pub site: SiteName,
    /// Its name.
    pub agent: PartName,
}

impl Speaker {
    /// Whether `end` is where it stands.
    #[must_use]
    pub fn is_at(&self, end: &End) -> bool {
        self.site == end.site && self.agent == end.agent
    }
}

/// Why a source that has released may run the VM again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "evidence", deny_unknown_fields)]
pub enum Evidence {
    /// The target refused. A status, a time-out or silence is none.
    Refused {
        /// Who did.
        by: Speaker,
        /// Which release, or a later one.
        release: Release,
    },
    /// The very owner that got the release never journalled the pivot and has journalled the undo.
    Undone {
        /// Which release.
        release: Release,
    },
    /// The operator vouches that the target is off and stays off.
    Fenced {
        /// Which release.
        release: Release,
        /// Who says so.
        operator: PartName,
    },
}

/// What the agent sees when it decides; nothing of it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Which end this agent is.
    pub here: End,
    /// Every process of this VM on this host.
    pub processes: Vec<Process>,
    /// Whether the owner has been silent for a lease, by this agent's own clock.
    pub lease_ran_out: bool,
}

impl Facts {
    /// The process that this release made.
    #[must_use]
    pub fn process_of(&self, made_by: &Release) -> Option<ProcessState> {
        self.processes
            .iter()
            .find(|process| process.made_by == *made_by)
            .map(|process| process.state)
    }
}

/// One process of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What made it.
    pub made_by: Release,
    /// What it does.
    pub state: ProcessState,
}

/// What a process does, as far as the agent can vouch for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProcessState {
    /// It runs the VM.
    Running,
    /// A command to run is unanswered: it may run, now or in a moment. After a restart of the agent
    /// or a time-out one is assumed, until the process has answered.
    Unsure,
    /// The VM stands still, and a command of ours made it so.
    Stopped,
    /// Stopped, and all of it is at the target, the barrier of the disk included.
    Completed {
        /// In which move.
        of: Epoch,
    },
    /// It waits to receive.
    Incoming {
        /// Whether everything has arrived.
        loaded: bool,
    },
}

/// What an agent does, in this order; a crash may come between any two steps. An effect that fails
/// ends the plan, and the caller learns the failure instead of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What to say once all are done.
    pub answer: Answer,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write the record and have it on the disk.
    Write(Box<Record>),
    /// Act on the world. Each effect may be repeated.
    Do(Effect),
}

/// What an agent can do to the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Start a process from the seat's disk.
    Boot(Incarnation),
    /// Let a stopped process run.
    Continue(Incarnation),
    /// Stop a running process.
    Stop(Incarnation),
    /// Have the local proxy divert its flows, then turn the VM's port round.
    Hold(Epoch),
    /// End every process of this VM but the one named; see them dead.
    KillOthers(Release),
    /// Make a shell and an empty disk that wait to receive.
    CreateTarget(Incarnation),
    /// End the target that this release made; see it dead.
    KillTarget(Release),
    /// Close the disk's export and its channel: from here on one writer.
    CloseExport(Release),
    /// Give the bridge the VM's address on the target's port.
    PinPort(Incarnation),
    /// Have the local proxy release what it holds, here.
    ReleaseQueue(Epoch),
    /// End the process; see it dead.
    Kill(Incarnation),
    /// Rename the disk after the move that left it.
    SetDiskAside {
        /// Whose disk.
        incarnation: Incarnation,
        /// The move.
        left_by: Release,
    },
    /// Delete the disk that this move left.
    DeleteLeftover(Release),
    /// Take away what leads others from here to where this release went, unless a later one needs it.
    ClearPort(Release),
}

/// What an agent says after it has acted. Each names the release that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", deny_unknown_fields)]
pub enum Answer {
    /// The claim stands; this is all that is remembered.
    Granted {
        /// As it is after the claim.
        record: Box<Record>,
    },
    /// Nobody owns it any more.
    GivenBack,
    /// The target waits.
    Reserved,
    /// Packets are kept back.
    Held,
    /// The VM stands still.
    Stopped,
    /// It runs here no more.
    Released {
        /// The word.
        release: Release,
    },
    /// This release, or a later one, was accepted here.
    Accepted {
        /// The one that was.
        taken: Release,
        /// What has become of it.
        seat: Box<Seat>,
    },
    /// It never runs from this release: evidence.
    Refused {
        /// Which.
        release: Release,
    },
    /// It runs here.
    Runs,
    /// What is left here never runs again: evidence.
    Gone {
        /// The word that led to it.
        release: Release,
    },
    /// It starts by itself from now on.
    Armed {
        /// What it was started from.
        release: Release,
    },
    /// Nothing of that move is left.
    Reclaimed {
        /// Which.
        release: Release,
    },
}

/// Why an agent does not do as it was asked. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "denied", deny_unknown_fields)]
pub enum Denied {
    /// The caller's role, or its place in this move, does not entitle it.
    #[error("{by} may not ask this: it is neither an orchestrator nor the other end of this move")]
    Caller {
        /// Who asked.
        by: Identity,
    },
    /// A later epoch has been seen here.
    #[error("epoch {asked} is over: epoch {seen} has been seen here; claim a later one")]
    Older {
        /// What the command carried.
        asked: Epoch,
        /// The highest here.
        seen: Epoch,
    },
    /// Only a claim raises the epoch.
    #[error("epoch {asked} was never claimed here, where {seen} is the highest; claim it first")]
    NotClaimed {
        /// What the command carried.
        asked: Epoch,
        /// The highest here.
        seen: Epoch,
    },
    /// Somebody else owns the VM.
    #[error("{owner} owns the VM in epoch {epoch}; wait for its end, or order a takeover")]
    Owned {
        /// Who.
        owner: Owner,
        /// Since which epoch.
        epoch: Epoch,
    },
    /// Nobody does: the claim was given back.
    #[error("nobody owns epoch {epoch} any more; claim a later one")]
    GivenBack {
        /// The epoch that was given back.
        epoch: Epoch,
    },
    /// The move is between others, or the other way round.
    #[error("this agent is not the {wanted} of epoch {epoch}; ask the one that the claim names")]
    WrongEnd {
        /// `source`, `target`, or `source or target`.
        wanted: String,
        /// The move.
        epoch: Epoch,
    },
    /// The move was ended here.
    #[error("epoch {ended} ended here; begin a new move")]
    Ended {
        /// The highest that did.
        ended: Epoch,
    },
    /// The seat does not allow it.
    #[error("the VM's seat here is {found}, and must be {wanted}")]
    Seat {
        /// What it is, by name.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// The record names another release.
    #[error("the record here names {ours}; ask again what it stands for")]
    OtherRelease {
        /// Which.
        ours: Release,
    },
    /// A command to run is unanswered.
    #[error("a command to run is unanswered, so the VM may start at any time; ask again")]
    Unsure,
    /// The seat's process is gone.
    #[error("no process of the VM is here; run it first, or begin a new move")]
    NoProcess,
    /// Not all of the VM is at the target.
    #[error("the VM has not completed move {epoch}; finish the copy and the barrier first")]
    NotCompleted {
        /// The move.
        epoch: Epoch,
    },
    /// Not all of the VM has arrived.
    #[error("the target has not loaded everything yet; ask again, or refuse it")]
    NotLoaded,
    /// The source has released, and nothing shows that the target does not run.
    #[error(
        "the VM was released to {to_agent} at {to_site}; only its refusal, the undo of the owner that got the release, or the operator's fence lets it run here again"
    )]
    NoEvidence {
        /// The target's site.
        to_site: SiteName,
        /// The target's agent.
        to_agent: PartName,
    },
}
