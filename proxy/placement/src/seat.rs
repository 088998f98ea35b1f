//! The seat: the durable word, kept by exactly one agent, on whether the VM may run here.
//!
//! ```text
//!          reserve, start(r)          cont              arm(r)
//!   None ------------------> Accepted ----> Started(-) --------> Started(armed) = "Here"
//!    ^ Gone, likewise                                              |        ^
//!    |                                                  release(e) |        | run(e, evidence)
//!    |                                                             v        |
//!    +------------------------- Gone <---------------------------- Released
//!                                          forget(r)
//! ```
//!
//! A releases before B may be told to start, B accepts before it starts, and A forgets before B is
//! armed: at no point do two agents hold a seat from which the VM may run.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::epoch::{Epoch, Owner, Release};
use crate::names::{PartName, SiteName, VmName};

/// One end of a move: where the VM runs, or is to run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The site.
    pub site: SiteName,
    /// The agent on the hypervisor's host.
    pub agent: PartName,
    /// Where the other end's agent reaches it.
    pub address: SocketAddr,
    /// The proxy whose leg stands on the VM's network.
    pub proxy: PartName,
}

impl End {
    /// Whether both name the same agent. Its address may change between moves; it stays the same.
    #[must_use]
    pub fn is_same_agent(&self, other: &End) -> bool {
        self.site == other.site && self.agent == other.agent
    }
}

/// Both ends of a move. Every record that a claim touches keeps them, so that each agent knows whom
/// to ask when nobody drives the move any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Where the VM runs at the start.
    pub from: End,
    /// Where it is to run.
    pub to: End,
}

/// A process and its disk at this agent, named by the release that they were started from. An agent
/// continues, boots and deletes none but its seat's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incarnation {
    /// The release that made it; for the first placement, the order to start it.
    pub made_by: Release,
    /// Where it came from; nowhere, for the first placement.
    pub from: Option<End>,
}

/// Whether the VM may run here, and by whose word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Seat {
    /// It never did.
    #[default]
    None,
    /// The release is taken; nothing but to start is left.
    Accepted(Incarnation),
    /// It was started. Unarmed, it does not start by itself after a reboot without asking `from`.
    Started {
        /// What runs here.
        incarnation: Incarnation,
        /// Whether `from` has forgotten the VM.
        armed: bool,
    },
    /// It ran here, and runs no more without evidence.
    Released {
        /// The word that was given.
        release: Release,
        /// To whom.
        to: End,
        /// What is stopped here, and would run on.
        incarnation: Incarnation,
    },
    /// It ran here, and never does again from what is left.
    Gone {
        /// The word that was given.
        release: Release,
        /// To whom.
        to: End,
        /// What was set aside.
        incarnation: Incarnation,
    },
}

impl Seat {
    /// *Here*: started and armed. Only from here a new move starts; unarmed is not here.
    #[must_use]
    pub fn is_here(&self) -> bool {
        matches!(self, Seat::Started { armed: true, .. })
    }

    /// Whose release the VM last came here by, also once it has gone on; nobody's, for the first
    /// placement.
    #[must_use]
    pub fn came_from(&self) -> Option<&End> {
        match self {
            Seat::None => None,
            Seat::Accepted(incarnation)
            | Seat::Started { incarnation, .. }
            | Seat::Released { incarnation, .. }
            | Seat::Gone { incarnation, .. } => incarnation.from.as_ref(),
        }
    }

    /// What stands, or lies stopped, under this seat.
    #[must_use]
    pub fn incarnation(&self) -> Option<&Incarnation> {
        match self {
            Seat::None | Seat::Gone { .. } => None,
            Seat::Accepted(incarnation)
            | Seat::Started { incarnation, .. }
            | Seat::Released { incarnation, .. } => Some(incarnation),
        }
    }
}

/// All that one agent remembers of one VM, whatever its role in a move: written with a checksum and
/// fsynced before the agent answers or acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of which VM.
    pub vm: VmName,
    /// The highest epoch seen.
    pub epoch: Epoch,
    /// Who may act under it; nobody, once it was given back.
    pub owner: Option<Owner>,
    /// Both ends of the last move claimed here.
    pub pair: Option<Pair>,
    /// Whether the VM may run here.
    pub seat: Seat,
    /// The highest move that ended here: closed as its source, or refused as its target.
    pub ended: Epoch,
    /// The highest release accepted here.
    pub taken: Option<Release>,
    /// What was reserved here and is neither started nor refused yet, named by the release that
    /// would start it.
    pub target: Option<Incarnation>,
}

impl Record {
    /// What an agent knows of a VM it never heard of.
    #[must_use]
    pub fn unknown(vm: VmName) -> Record {
        Record {
            vm,
            epoch: Epoch::NONE,
            owner: None,
            pair: None,
            seat: Seat::None,
            ended: Epoch::NONE,
            taken: None,
            target: None,
        }
    }

    /// Whether a release of this epoch, or a later one, was accepted here.
    #[must_use]
    pub fn has_taken(&self, epoch: Epoch) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.epoch >= epoch)
    }
}
