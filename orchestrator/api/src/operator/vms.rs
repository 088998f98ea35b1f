//! Virtual machines: where they run, and how one comes into the world.

use placement::{Epoch, PartName, SiteName, VmName};
use serde::{Deserialize, Serialize};

use super::{CallKey, MoveId};
use crate::agent::{Phase, ProcessDoes};
use crate::definition::VmDefinition;
use crate::migration::Place;

/// The first start of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartVm {
    /// A repetition gets the same answer.
    pub key: CallKey,
    /// What it is. Its name is the one in the path.
    pub definition: VmDefinition,
    /// Where it is to run.
    pub site: SiteName,
    /// On which host of the site; needed where there is more than one.
    pub agent: Option<PartName>,
    /// The operator vouches that no agent which cannot be asked has a record of this VM.
    pub is_new: bool,
}

/// A VM that was started, or runs already as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStarted {
    /// Which.
    pub vm: VmName,
    /// Where it runs.
    pub at: Place,
    /// Agents that could not be asked, for which the operator vouched.
    pub vouched_for: Vec<Unasked>,
}

/// Every VM that an agent told of, and every agent that told nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPlaces {
    /// By name.
    pub vms: Vec<VmPlace>,
    /// What is said of VMs is not the whole truth while there are any of these.
    pub unasked: Vec<Unasked>,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPlace {
    /// Its name.
    pub vm: VmName,
    /// Where it runs, by the one record that says so.
    pub runs_at: Option<Place>,
    /// The highest epoch that any agent told.
    pub epoch: Epoch,
    /// What each agent told.
    pub sightings: Vec<Sighting>,
    /// The move under way.
    #[serde(rename = "move")]
    pub mover: Option<MoveId>,
}

/// What one agent knows of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Who told.
    pub at: Place,
    /// The highest epoch it has seen.
    pub epoch: Epoch,
    /// Its seat.
    pub seat: SeatWord,
    /// What the VM's processes there do.
    pub processes: Vec<ProcessDoes>,
    /// How far a copy is there.
    pub copy: Option<Phase>,
}

/// A seat, without what only programs want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatWord {
    /// It never ran here.
    None,
    /// It is about to start here.
    Accepted,
    /// It runs here; its source has not forgotten it yet.
    Started,
    /// It runs here.
    Here,
    /// It was given away, and the taker's answer is not known here.
    Released,
    /// It has left.
    Gone,
}

impl SeatWord {
    /// Whether the VM runs by this seat.
    #[must_use]
    pub fn runs(self) -> bool {
        matches!(self, SeatWord::Accepted | SeatWord::Started | SeatWord::Here)
    }
}

impl From<&placement::Seat> for SeatWord {
    fn from(seat: &placement::Seat) -> SeatWord {
        match seat {
            placement::Seat::None => SeatWord::None,
            placement::Seat::Accepted(_) => SeatWord::Accepted,
            placement::Seat::Started { armed: false, .. } => SeatWord::Started,
            placement::Seat::Started { armed: true, .. } => SeatWord::Here,
            placement::Seat::Released { .. } => SeatWord::Released,
            placement::Seat::Gone { .. } => SeatWord::Gone,
        }
    }
}

/// An agent that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unasked {
    /// Which.
    pub at: Place,
    /// Why.
    pub why: String,
}
