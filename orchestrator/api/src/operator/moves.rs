//! Moves: how one is ordered, told and called off.

use std::fmt;
use std::str::FromStr;

use placement::{Epoch, PartName, SiteName, VmName};
use serde::{Deserialize, Serialize};

use super::CallKey;
use crate::followed::{HealthTold, NamesTold};
use crate::migration::{MoveOptions, MoveProgress, Place};

/// Longest id of a move, in bytes.
pub const MOVE_ID_BYTES_MAX: usize = 84;

/// One move, as operators name it: the VM, and which of its moves, from 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MoveId {
    /// Of which VM.
    pub vm: VmName,
    /// Which of its moves.
    pub number: u64,
}

/// A text that names no move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a move; write VM.NUMBER, as `causeway status` lists them")]
pub struct MoveIdError;

impl FromStr for MoveId {
    type Err = MoveIdError;
    fn from_str(text: &str) -> Result<MoveId, MoveIdError> {
        if text.len() > MOVE_ID_BYTES_MAX {
            return Err(MoveIdError);
        }
        let (vm, number) = text.rsplit_once('.').ok_or(MoveIdError)?;
        // One move has one spelling.
        let digits = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        let number = number.parse().ok().filter(|_| digits).ok_or(MoveIdError)?;
        Ok(MoveId { vm: vm.parse().map_err(|_| MoveIdError)?, number })
    }
}

impl TryFrom<String> for MoveId {
    type Error = MoveIdError;
    fn try_from(text: String) -> Result<MoveId, MoveIdError> {
        text.parse()
    }
}

impl From<MoveId> for String {
    fn from(id: MoveId) -> String {
        id.to_string()
    }
}

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vm, self.number)
    }
}

impl fmt::Debug for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Orders a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginMove {
    /// A repetition names the same move, and begins none.
    pub key: CallKey,
    /// Of which VM.
    pub vm: VmName,
    /// Where to.
    pub site: SiteName,
    /// To which host of the site; needed where there is more than one.
    pub agent: Option<PartName>,
    /// How.
    #[serde(default)]
    pub options: MoveOptions,
}

/// Asks what a move would be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanMove {
    /// Where to.
    pub site: SiteName,
    /// To which host of the site; needed where there is more than one.
    pub agent: Option<PartName>,
    /// How.
    #[serde(default)]
    pub options: MoveOptions,
}

/// A move that is in the journal: whatever dies now, it is brought to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveBegun {
    /// What it is called.
    #[serde(rename = "move")]
    pub id: MoveId,
}

/// Asks that a move be called off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortMove {
    /// A repetition gets the same answer.
    pub key: CallKey,
    /// Why, for the record.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The move will be undone, whatever dies now; the VM stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortPromised {
    /// Which move.
    #[serde(rename = "move")]
    pub id: MoveId,
}

/// All moves that the service knows of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveList {
    /// The newest first.
    pub moves: Vec<MoveView>,
}

/// One move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveView {
    /// What it is called.
    #[serde(rename = "move")]
    pub id: MoveId,
    /// Grows with each change, as long as the service lives.
    pub version: u64,
    /// Where the VM ran at its beginning.
    pub from: Place,
    /// Where it is to run.
    pub to: Place,
    /// How.
    pub options: MoveOptions,
    /// Who ordered it.
    pub ordered_by: String,
    /// Under which epoch it acts, once it has claimed the VM.
    pub epoch: Option<Epoch>,
    /// Which attempt is under way, or was the last.
    pub attempt: u32,
    /// How it stands.
    pub state: MoveState,
    /// Past the pivot it only goes forward.
    pub is_past_pivot: bool,
    /// When it was ordered.
    pub began_at_unix_ms: u64,
    /// When it ended.
    pub ended_at_unix_ms: Option<u64>,
    /// The steps of the attempt, in the order in which they began.
    pub steps: Vec<StepView>,
    /// Attempts before this one.
    pub earlier: Vec<Earlier>,
    /// How far the step under way is, where it tells.
    pub progress: Option<MoveProgress>,
    /// What name servers made of its last order, of this attempt.
    #[serde(default)]
    pub names: Option<NamesTold>,
    /// How the application is at the target, once that was asked.
    #[serde(default)]
    pub health: Option<HealthTold>,
    /// What else happened, for people, the newest last.
    pub told: Vec<String>,
    /// The closed gate that it waits at.
    pub waits_at_gate: Option<String>,
}

/// How a move stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum MoveState {
    /// It goes forward.
    UnderWay,
    /// It is being undone; the VM stays where it is.
    TurningBack {
        /// Why.
        why: String,
    },
    /// It cannot go on for now, and is tried again by itself.
    Waiting {
        /// Why.
        why: String,
    },
    /// The VM runs at the target, which nothing takes back.
    Completed,
    /// The VM runs where it ran, and nothing is left of the move.
    Undone {
        /// Why.
        why: String,
    },
    /// Nobody can drive it without an operator's help.
    Stuck {
        /// What is wrong, and what to do.
        why: String,
    },
}

impl MoveState {
    /// Whether nothing more happens.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, MoveState::Completed | MoveState::Undone { .. })
    }
}

/// An attempt that was undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Which, from 1.
    pub attempt: u32,
    /// Why it was.
    pub why: String,
}

/// One step of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name.
    pub step: String,
    /// How it stands.
    pub does: StepDoes,
    /// When it began.
    pub began_at_unix_ms: u64,
    /// When it was done, or undone.
    pub ended_at_unix_ms: Option<u64>,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try did not count.
    pub trouble: Option<String>,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepDoes {
    /// It is being done.
    UnderWay,
    /// It has had its effect.
    Done,
    /// The pivot was refused, for ever.
    Refused,
    /// It is being undone.
    Undoing,
    /// It is undone.
    Undone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_move_has_one_spelling() {
        let id: MoveId = "web-01.12".parse().unwrap();
        assert_eq!((id.vm.as_str(), id.number), ("web-01", 12));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"web-01.12\"");
        let long = format!("web.{}", "9".repeat(MOVE_ID_BYTES_MAX));
        for text in
            ["", "web", "web.", ".1", "web.0", "web.01", "web.+1", "web.1.2", "Web.1", &long]
        {
            assert!(text.parse::<MoveId>().is_err(), "{text:?} was taken");
        }
    }
}
