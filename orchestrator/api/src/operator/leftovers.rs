//! What moves leave where a VM was: how far it has drained, and how it is given back.

use placement::{Epoch, PartName, SiteName, VmName};
use serde::{Deserialize, Serialize};

use super::{CallKey, MoveId};
use crate::migration::Place;

/// The code of a refusal because flows live.
pub const FLOWS_LIVE: &str = "flows_live";

/// Asks that what moves of one VM left be given back: once it is healthy where it runs, and no flow
/// lives at the place that it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReclaimVm {
    /// A repetition gets the same answer, and goes on where an earlier one was broken off.
    pub key: CallKey,
    /// Of the move of this release alone; unset: of each that has left something.
    #[serde(default)]
    pub release: Option<Epoch>,
    /// Flows that live are broken off.
    #[serde(default)]
    pub force: bool,
    /// Disks that were set aside stay.
    #[serde(default)]
    pub keep_disk: bool,
}

/// What was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReclaimed {
    /// Of which VM.
    pub vm: VmName,
    /// Each move's, the oldest first.
    pub reclaimed: Vec<MoveReclaimed>,
    /// Where the VM is at home with it; none while some place that it left is not given back.
    #[serde(default)]
    pub home: Option<VmAtHome>,
}

/// Nothing is left of a VM's moves: where it runs, it speaks with all others by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmAtHome {
    /// The move by which it came.
    #[serde(rename = "move")]
    pub id: MoveId,
    /// Where it runs.
    pub at: Place,
    /// Machines there that it was told of, for it may have believed them elsewhere.
    pub told: usize,
    /// When.
    pub at_unix_ms: u64,
    /// By whose word.
    pub by: String,
}

/// Nothing of one move is left where the VM was, but what is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveReclaimed {
    /// Of which move.
    #[serde(rename = "move")]
    pub id: MoveId,
    /// Its release, which the disk is named by.
    pub release: Epoch,
    /// Where the VM was.
    pub at: Place,
    /// What became of the disk.
    pub disk: LeftDisk,
    /// Flows that were broken off for it.
    pub broken_off: Vec<FlowAt>,
    /// When.
    pub at_unix_ms: u64,
    /// By whose word.
    pub by: String,
}

/// What became of a disk that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "disk", deny_unknown_fields)]
pub enum LeftDisk {
    /// It is gone.
    Deleted,
    /// It lies in the agent's folder of disks.
    Kept {
        /// Under this name.
        name: String,
    },
}

/// A flow, and the proxy that carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowAt {
    /// The proxy's site.
    pub site: SiteName,
    /// Its name.
    pub proxy: PartName,
    /// The flow's id.
    pub flow: String,
}

/// Every place that a VM has left and that was not given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainList {
    /// By VM, the oldest move first.
    pub drains: Vec<Drain>,
}

/// How far one place that a VM has left has drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// By which move.
    #[serde(rename = "move")]
    pub id: MoveId,
    /// Its release.
    pub release: Epoch,
    /// The place.
    pub at: Place,
    /// Flows from before the VM left that live there.
    pub pinned: u64,
    /// Later ones that live there.
    pub stragglers: u64,
    /// Of all these, when the oldest began, by its proxy's clock.
    pub oldest_at_unix_ms: Option<u64>,
    /// When any of them was last heard, by its proxy's clock.
    pub last_bytes_at_unix_ms: Option<u64>,
    /// When this was asked.
    pub as_of_unix_ms: u64,
    /// Proxies there that have not told all of theirs.
    pub unasked: Vec<UnaskedProxy>,
}

impl Drain {
    /// Whether no flow keeps the place from being given back.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.pinned + self.stragglers == 0 && self.unasked.is_empty()
    }
}

/// A proxy that could not be asked, or not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnaskedProxy {
    /// Its site.
    pub site: SiteName,
    /// Its name.
    pub proxy: PartName,
    /// Why.
    pub why: String,
}
