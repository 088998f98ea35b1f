//! What a move would be like, found out without touching anything.

use placement::{PartName, SiteName};
use serde::{Deserialize, Serialize};

use super::{AgentAt, Budget};

/// Asks what a move would be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanMove {
    /// Where to.
    pub site: SiteName,
    /// To which host of the site; needed where there is more than one.
    pub agent: Option<PartName>,
    /// What it may take.
    #[serde(default)]
    pub budget: Budget,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// Where the VM runs.
    pub from: Option<AgentAt>,
    /// Where it would run.
    pub to: AgentAt,
    /// Why the move cannot be; none for a *go*.
    pub objections: Vec<Objection>,
    /// What the network between the two ends promises.
    pub level: Option<Level>,
    /// What it would take, by arithmetic on what could be learned.
    pub estimate: Option<Estimate>,
}

impl PlanView {
    /// Whether a move would begin.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.objections.is_empty()
    }
}

/// A reason against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    /// The thing, and what is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// How packets find the VM after the move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// By rules at the VM's own port, at both ends: nothing is lost.
    Port,
}

/// No promise: what the sizes and rates that are known add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// From the command to the VM's first instruction at the target.
    pub total_ms: u64,
    /// How long the VM stands still.
    pub pause_ms: u64,
    /// What it was added up from, for people.
    pub basis: String,
}
