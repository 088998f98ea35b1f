//! A move as it is wished for, planned and followed: what an operator says and sees of it, and what
//! the workflow takes and gives.

use std::fmt;
use std::str::FromStr;

use placement::{End, NameError, Pair, PartName, SiteName, VmName};
use serde::{Deserialize, Serialize};

use crate::definition::VmDefinition;

/// The pause that a move aims at.
pub const PAUSE_MS: u64 = 500;
/// The pace of a copy: a gigabit per second.
pub const PACE_BYTES_PER_S: u64 = 125_000_000;
/// How long a VM may stand still before its move is called off. Far above the pause budget: what it
/// bounds is trouble, not the copy.
pub const STOPPED_MS_MAX: u64 = 60_000;

/// A hypervisor's host, by the agent that runs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The site.
    pub site: SiteName,
    /// The agent at it.
    pub agent: PartName,
}

impl Place {
    /// Whether `end` is the same host. Its address may change; it stays the same.
    #[must_use]
    pub fn is_at(&self, end: &End) -> bool {
        self.site == end.site && self.agent == end.agent
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.agent)
    }
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Not of the form `SITE/AGENT`.
    #[error("'{0}' names no host; write SITE/AGENT")]
    Form(String),
    /// One of the names is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Place {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Place, PlaceError> {
        let form = || PlaceError::Form(text.chars().take(80).collect());
        let (site, agent) = text.split_once('/').ok_or_else(form)?;
        Ok(Place { site: site.parse()?, agent: agent.parse()? })
    }
}

impl From<&End> for Place {
    fn from(end: &End) -> Place {
        Place { site: end.site.clone(), agent: end.agent.clone() }
    }
}

/// What an operator wants moved, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveWish {
    /// Which VM.
    pub vm: VmName,
    /// Where to.
    pub to: Place,
    /// How.
    #[serde(default)]
    pub options: MoveOptions,
}

/// How a move is made. The defaults work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MoveOptions {
    /// How long the VM may stand still, as far as the copy can see to it: memory is copied until
    /// what remains fits it.
    pub pause_ms: u64,
    /// How fast memory is copied.
    pub pace_bytes_per_s: u64,
    /// How long the VM may stand still before the move is called off, whatever the reason.
    pub stopped_ms_max: u64,
    /// Keep the VM's packets back while it stands still. Refused where an agent cannot.
    pub hold: bool,
}

impl Default for MoveOptions {
    fn default() -> MoveOptions {
        MoveOptions {
            pause_ms: PAUSE_MS,
            pace_bytes_per_s: PACE_BYTES_PER_S,
            stopped_ms_max: STOPPED_MS_MAX,
            hold: false,
        }
    }
}

impl MoveOptions {
    /// So much memory may remain when the VM is stopped.
    #[must_use]
    pub fn remaining_bytes_max(&self) -> u64 {
        let bytes = u128::from(self.pace_bytes_per_s) * u128::from(self.pause_ms) / 1_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// A move with both its ends: what the workflow is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Which VM.
    pub vm: VmName,
    /// Where it runs, and where it is to run.
    pub pair: Pair,
    /// How.
    pub options: MoveOptions,
}

/// What the check of a move came to. Nothing was touched for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which VM.
    pub vm: VmName,
    /// Where it runs.
    pub from: Place,
    /// Where it is to run.
    pub to: Place,
    /// What the VM is.
    pub definition: Option<VmDefinition>,
    /// All that was found; the move may be made if nothing of it forbids.
    pub findings: Vec<Finding>,
    /// What each of the VM's networks promises.
    pub networks: Vec<PlannedNetwork>,
    /// The names that depend on the VM, as the first name server tells them that knows them.
    #[serde(default)]
    pub names: Vec<PlannedName>,
    /// How long it will take, where that can be guessed.
    pub estimate: Option<Estimate>,
}

impl Plan {
    /// Whether the move may be made.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight != Weight::Forbids)
    }

    /// Why it may not, in a line.
    #[must_use]
    pub fn why_not(&self) -> String {
        let forbids = self.findings.iter().filter(|finding| finding.weight == Weight::Forbids);
        forbids.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What follows from it.
    pub weight: Weight,
    /// The thing, by name.
    pub thing: String,
    /// What is wrong with it, or worth knowing.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.thing, self.what, self.remedy)
    }
}

/// What follows from a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The move cannot be made like this.
    Forbids,
    /// It can; this is what to expect.
    Warns,
}

/// A network of the VM, and what a move promises there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNetwork {
    /// By the name that both sites' agents know it by.
    pub network: PartName,
    /// What it has at both ends.
    pub level: NetworkLevel,
}

/// A name that depends on the VM, and what a move does to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedName {
    /// The name.
    pub name: String,
    /// The site that it is answered with now.
    pub site: SiteName,
    /// Whether it is answered with the target's site after the move.
    pub follows: bool,
}

/// How a VM's packets can be handled on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkLevel {
    /// At the VM's own port, at both ends: nothing is lost.
    Port,
    /// The VM is connected, and that is all: established connections break.
    Plain,
}

/// A guess, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// From the start to the VM's start at the target.
    pub total_ms: u64,
    /// How long the VM stands still.
    pub pause_ms: u64,
    /// Bytes of its disks.
    pub disk_bytes: u64,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// What was assumed, in words.
    pub assumed: Vec<String>,
}

/// How far a step of a move is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveProgress {
    /// What it does.
    pub doing: Doing,
    /// Which copy, from 1, where the step counts them: a VM that switches over by itself is copied
    /// anew.
    pub copy: Option<u32>,
    /// What the mirrors have to carry, as known so far.
    pub disk_bytes: u64,
    /// Of it, carried.
    pub disk_done_bytes: u64,
    /// Memory carried, repeats included.
    pub memory_done_bytes: u64,
    /// Memory that is still to be carried.
    pub memory_remaining_bytes: u64,
    /// As fast as that lately.
    pub bytes_per_s: Option<u64>,
    /// At this rate it takes so long still.
    pub left_ms: Option<u64>,
    /// Something that happened, in words.
    pub told: Option<String>,
}

/// What a step of a move does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Disks are mirrored.
    Mirroring,
    /// Memory is copied.
    Copying,
    /// Little enough remains.
    Ready,
    /// The VM stands still, and the rest is on its way.
    Finishing,
    /// All of it is at the target.
    Completed,
    /// A closed gate keeps it waiting.
    AtGate,
    /// The copy begins anew.
    Anew,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_way_through_its_text() {
        let place: Place = "a/hv1".parse().unwrap();
        assert_eq!(place.to_string(), "a/hv1");
        for text in ["a", "a/", "/hv1", "a/b/c", "A/hv1"] {
            assert!(text.parse::<Place>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_may_remain_follows_from_pace_and_pause() {
        let options = MoveOptions { pause_ms: 64, ..MoveOptions::default() };
        assert_eq!(options.remaining_bytes_max(), 8_000_000);
        let absurd = MoveOptions { pause_ms: u64::MAX, pace_bytes_per_s: u64::MAX, ..options };
        assert_eq!(absurd.remaining_bytes_max(), u64::MAX);
        let written: MoveOptions = serde_json::from_str(r#"{"pause_ms":64}"#).unwrap();
        assert_eq!(written, options);
    }
}
