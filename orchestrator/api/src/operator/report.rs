//! A move's report, as it comes over the line: its JSON in parts, for one of many flows is longer than
//! an answer may be.

use serde::{Deserialize, Serialize};

use super::MoveId;

/// Longest part, in bytes. Written as a string of JSON it may take six times as many, and still fits
/// into one answer.
pub const REPORT_PART_BYTES_MAX: usize = 2 << 20;

/// The refusal's code where the report that was asked for has made room for others: ask for a new one.
pub const REPORT_GONE: &str = "report_gone";

/// Some of a report's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportPart {
    /// Of which move.
    #[serde(rename = "move")]
    pub id: MoveId,
    /// When the report was made, which names it.
    pub made_at_unix_ms: u64,
    /// The part.
    pub text: String,
    /// Set where there is more: ask again from there.
    pub more_from: Option<u64>,
}
