//! The report of a move: one value with everything that is told of it, and from which the page is
//! made again at any time.
//!
//! It is made of the journal (see [`timeline`]), of figures that were sampled on the way (see
//! [`series`]) and of the ledger. All times are by the orchestrator's clock, in milliseconds since
//! 1970, except where a field says otherwise.

use std::collections::BTreeMap;

use placement::{Epoch, PartName, SiteName, VmName};
use serde::{Deserialize, Serialize};

use crate::rows::Ledger;

pub mod series;
pub mod timeline;

pub use series::{SAMPLES_MAX, Sample, Series, StallSample};
pub use timeline::{StepOutcome, StepRun, Way, Word, timeline};

/// The version of the reports that this release writes, and the newest that it reads.
pub const REPORT_VERSION: u32 = 1;

/// Largest report that is read: some hundred thousand flows.
pub const REPORT_BYTES_MAX: usize = 256 << 20;

/// A move, told whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it is to be read: [`REPORT_VERSION`].
    pub version: u32,
    /// When it was made.
    pub made_at_ms: u64,
    /// Which move.
    pub migration: Migration,
    /// How it stands, or ended.
    pub outcome: Outcome,
    /// When it began.
    pub started_at_ms: u64,
    /// When its last step so far ended; unset while one is under way.
    pub ended_at_ms: Option<u64>,
    /// How long the VM stood still; unset where it never did.
    pub pause: Option<Pause>,
    /// What was done, in the journal's order.
    pub steps: Vec<StepRun>,
    /// Single moments that the picture of the pause shows.
    pub moments: Vec<Moment>,
    /// Bytes that had been carried by then, in the order of time.
    pub samples: Vec<Sample>,
    /// What the flows were owed then, in the order of time.
    pub stall_samples: Vec<StallSample>,
    /// What was predicted, and what came.
    pub comparison: Comparison,
    /// The packets that waited; unset where nothing was held.
    pub hold: Option<Hold>,
    /// What became of the flows.
    pub ledger: Ledger,
    /// What was given back at the site that the VM left.
    pub reclaimed: Vec<Reclaimed>,
    /// Who was asked for it, and what they told: the ledger is no more whole than this.
    pub sources: Vec<Source>,
}

/// Which move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Its name in the journal.
    pub name: String,
    /// The VM.
    pub vm: VmName,
    /// Where it ran.
    pub from: Place,
    /// Where it was to run.
    pub to: Place,
    /// The epoch of the last attempt; 0 where none came so far.
    pub epoch: Epoch,
    /// Who ordered it.
    pub ordered_by: String,
    /// How many attempts it took, this one included.
    pub attempt: u32,
}

/// One end of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The site.
    pub site: SiteName,
    /// The agent that has the VM there.
    pub agent: Option<PartName>,
}

/// How a move stands, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Outcome {
    /// The VM runs at the target, and all steps are done.
    Completed,
    /// The VM runs at the target; connections or leftovers remain at the source.
    Draining,
    /// The VM runs at the source, as before.
    Undone {
        /// Why, in the journal's words.
        because: String,
    },
    /// It is under way.
    UnderWay {
        /// At this step.
        step: String,
    },
    /// The source has let go, and the target cannot be asked.
    InDoubt {
        /// What stands in the way.
        because: String,
    },
    /// Its driver stopped trying for now.
    GaveUp {
        /// At this step.
        step: String,
        /// What the last try said.
        because: String,
    },
}

/// How long the VM stood still: from the order to stop it to the word that it runs, and so never
/// shorter than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it was stopped.
    pub stopped_at_ms: u64,
    /// When it ran again, here or there.
    pub running_at_ms: u64,
    /// How long it was allowed to stand still, where somebody said so.
    pub budget_ms: Option<u64>,
}

impl Pause {
    /// Its length.
    #[must_use]
    pub fn lasted_ms(&self) -> u64 {
        self.running_at_ms.saturating_sub(self.stopped_at_ms)
    }
}

/// Something that happened at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

/// What was predicted before anything was touched, and what came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// From the first step to the VM's running at the target.
    pub total_ms: Versus,
    /// How long the VM stood still.
    pub pause_ms: Versus,
    /// Disk that was carried.
    pub disk_bytes: Versus,
    /// Memory that was carried, repeats included.
    pub memory_bytes: Versus,
    /// Bytes on the wire between the sites.
    pub wire_bytes: Versus,
}

/// An estimate and the actual figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versus {
    /// As estimated; unset where nobody did.
    pub estimate: Option<u64>,
    /// As it came; unset where it is not known yet.
    pub actual: Option<u64>,
}

/// The packets that waited while the VM ran nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// From when on they waited.
    pub began_at_ms: u64,
    /// Until when.
    pub ended_at_ms: Option<u64>,
    /// Packets that waited, what lay in the VM's own queue included.
    pub held: u64,
    /// Of them, given to the VM.
    pub released: u64,
    /// Of them, dropped, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// Most bytes that waited at once.
    pub held_bytes_max: u64,
}

impl Hold {
    /// Packets dropped, whatever the cause.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Something at the site that the VM left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaimed {
    /// At which site.
    pub site: SiteName,
    /// What sort of thing: an address, a disk, a process.
    pub what: String,
    /// Which one.
    pub name: String,
    /// What became of it.
    #[serde(flatten)]
    pub became: Became,
}

/// What became of a thing that the VM left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "became", rename_all = "snake_case")]
pub enum Became {
    /// It is gone, or free for others.
    Released,
    /// It waits.
    Quarantined {
        /// Until then, if nobody asks for it before.
        until_ms: u64,
    },
    /// It was kept.
    Kept {
        /// Why.
        because: String,
    },
}

/// Somebody whose word the report is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub is: Party,
    /// Its name.
    pub name: PartName,
    /// At which site.
    pub site: SiteName,
    /// When it last told, by the orchestrator's clock; unset where it never did.
    pub told_at_ms: Option<u64>,
    /// What it said when it was asked last.
    #[serde(flatten)]
    pub said: Said,
    /// What it knew and did not tell, for there was too much.
    pub left_out: u64,
}

/// What somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// It carries flows.
    Proxy,
    /// It watches the VM's port.
    Agent,
}

impl Party {
    /// What, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Party::Proxy => "proxy",
            Party::Agent => "agent",
        }
    }
}

/// What somebody said when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// All that it knows.
    Told,
    /// It knows nothing of this move, or no more.
    Nothing {
        /// In its words.
        because: String,
    },
    /// It could not be asked.
    Silent {
        /// Why.
        because: String,
    },
}

impl Report {
    /// Whether no flow broke, and every proxy has told of all of its: what `causeway report
    /// --strict` asks. Side flows have no verdict, so that who watches them does not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let has_told = |source: &Source| match source.said {
            Said::Told => source.left_out == 0,
            // It told as long as it knew, and has been reclaimed, or ended, since.
            Said::Nothing { .. } => source.told_at_ms.is_some() && source.left_out == 0,
            Said::Silent { .. } => false,
        };
        let mut proxies = self.sources.iter().filter(|source| source.is == Party::Proxy);
        self.ledger.totals.broken == 0 && proxies.all(has_told)
    }
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Longer than [`REPORT_BYTES_MAX`].
    #[error(
        "the report has {bytes} bytes, and at most {REPORT_BYTES_MAX} are read; is it the file that `causeway report` wrote?"
    )]
    TooLarge {
        /// What it has.
        bytes: usize,
    },
    /// A newer release wrote it.
    #[error(
        "the report has version {found}, and this release reads up to {REPORT_VERSION}; use the release that wrote it, or a newer one"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is no report.
    #[error("this is not readable as a report; give the JSON file that `causeway report` wrote")]
    Unreadable(#[source] serde_json::Error),
    /// It cannot be written.
    #[error("the report cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
}

impl Report {
    /// The report as its file has it.
    pub fn to_json(&self) -> Result<String, ReportError> {
        let mut json = serde_json::to_string_pretty(self).map_err(ReportError::Unwritable)?;
        json.push('\n');
        Ok(json)
    }

    /// Reads a report's file.
    pub fn from_json(json: &str) -> Result<Report, ReportError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if json.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLarge { bytes: json.len() });
        }
        let Versioned { version } = serde_json::from_str(json).map_err(ReportError::Unreadable)?;
        if version > REPORT_VERSION {
            return Err(ReportError::Newer { found: version });
        }
        serde_json::from_str(json).map_err(ReportError::Unreadable)
    }
}
