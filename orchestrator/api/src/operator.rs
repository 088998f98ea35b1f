//! What operators say to `causeway serve`, and what it tells them.
//!
//! Each call that changes something carries a [`CallKey`]: the same key is the same call, said
//! again, and gets the answer that the first one got, also from a service that was killed and
//! started in between.

mod client;
mod flows;
mod leftovers;
mod moves;
mod report;
mod vms;

use std::fmt;
use std::str::FromStr;

use placement::Identity;
use serde::{Deserialize, Serialize};

pub use client::OperatorClient;
pub use flows::{FlowKilled, FlowView, FlowsPart};
pub use leftovers::{
    Drain, DrainList, FLOWS_LIVE, FlowAt, LeftDisk, MoveReclaimed, ReclaimVm, UnaskedProxy,
    VmAtHome, VmReclaimed,
};
pub use moves::{
    AbortMove, AbortPromised, BeginMove, Earlier, MOVE_ID_BYTES_MAX, MoveBegun, MoveId,
    MoveIdError, MoveList, MoveState, MoveView, PlanMove, StepDoes, StepView,
};
pub use report::{REPORT_GONE, REPORT_PART_BYTES_MAX, ReportPart};
pub use vms::{SeatWord, Sighting, StartVm, Unasked, VmPlace, VmPlaces, VmStarted};

/// Where each call goes; the service's table and the client read them here.
pub mod path {
    /// `GET`, viewer and up: [`ServiceStatus`](super::ServiceStatus).
    pub const STATUS: &str = "/v1/status";
    /// `GET`, viewer and up: text for Prometheus.
    pub const METRICS: &str = "/metrics";
    /// `GET`, viewer and up: [`VmPlaces`](super::VmPlaces).
    pub const VMS: &str = "/v1/vms";
    /// `POST` of a [`StartVm`](super::StartVm), operator: [`VmStarted`](super::VmStarted).
    pub const VM_START: &str = "/v1/vms/{vm}/start";
    /// `POST` of a [`PlanMove`](super::PlanMove), viewer and up: [`Plan`](crate::Plan). It changes
    /// nothing.
    pub const VM_PLAN: &str = "/v1/vms/{vm}/plan";
    /// `GET`, viewer and up: [`MoveList`](super::MoveList). `POST` of a
    /// [`BeginMove`](super::BeginMove), operator: [`MoveBegun`](super::MoveBegun).
    pub const MOVES: &str = "/v1/moves";
    /// `GET`, viewer and up: [`MoveView`](super::MoveView). With `?after=VERSION` the answer waits,
    /// at most [`FOLLOW_MS_MAX`](super::FOLLOW_MS_MAX), until there is something newer to tell.
    pub const MOVE: &str = "/v1/moves/{move}";
    /// `POST` of an [`AbortMove`](super::AbortMove), operator:
    /// [`AbortPromised`](super::AbortPromised).
    pub const MOVE_ABORT: &str = "/v1/moves/{move}/abort";
    /// `GET`, viewer and up: [`ReportPart`](super::ReportPart). Everybody is asked anew, and the first
    /// part of what comes of it answers. With `?made=MS&from=BYTE` a later part of that report.
    pub const MOVE_REPORT: &str = "/v1/moves/{move}/report";
    /// `POST` of a [`ReclaimVm`](super::ReclaimVm), operator: [`VmReclaimed`](super::VmReclaimed).
    /// Refused while flows live at the place that the VM has left, unless forced.
    pub const VM_RECLAIM: &str = "/v1/vms/{vm}/reclaim";
    /// `GET`, viewer and up: [`DrainList`](super::DrainList). `?vm=` asks of one VM.
    pub const DRAINS: &str = "/v1/drains";
    /// `GET`, viewer and up: [`FlowsPart`](super::FlowsPart). `?vm=`, `?site=`; `?from=` goes on
    /// where a part ended.
    pub const FLOWS: &str = "/v1/flows";
    /// `POST`, operator: [`FlowKilled`](super::FlowKilled).
    pub const FLOW_KILL: &str = "/v1/flows/{flow}/kill";
}

/// Longest wait of a call that follows a move.
pub const FOLLOW_MS_MAX: u64 = 10_000;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64;

/// What tells one call from another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallKey(String);

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key; write 1 to {KEY_BYTES_MAX} of a-z, 0-9 and '-'")]
pub struct CallKeyError;

impl CallKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallKey {
    type Err = CallKeyError;
    fn from_str(text: &str) -> Result<CallKey, CallKeyError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(CallKey(text.to_owned())) } else { Err(CallKeyError) }
    }
}

impl TryFrom<String> for CallKey {
    type Error = CallKeyError;
    fn try_from(text: String) -> Result<CallKey, CallKeyError> {
        text.parse()
    }
}

impl From<CallKey> for String {
    fn from(key: CallKey) -> String {
        key.0
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Who it is, by its certificate.
    pub identity: Identity,
    /// Its version.
    pub version: String,
    /// How long it has run.
    pub uptime_s: u64,
    /// What its orders carry; another one after each start.
    pub owner: placement::Owner,
    /// Moves that have not ended.
    pub moves_under_way: usize,
}
