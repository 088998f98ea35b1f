//! The ledger as a value: what the fold makes, and what reports, tests and operators read.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use placement::PartName;
use proxy_api::{CloseReason, Passed, Protocol};
use serde::{Deserialize, Serialize};

use crate::event::{FlowKey, ProxyKey, Tuple};
use crate::verdict::{Broken, Closer, Verdict};

/// Of one move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// When the target accepted. Where it never did, what counts is what passed since the listing.
    pub pivot_at_ms: Option<u64>,
    /// Every flow alive at the cutover: by proxy, then by id.
    pub flows: Vec<FlowRow>,
    /// Of them, how many became what.
    pub totals: Totals,
    /// How long they were owed something.
    pub stalls: Stalls,
    /// Connections of the VM's own, which no proxy carries. They have no verdict.
    pub side_flows: Vec<SideFlowRow>,
    /// Who still came to the old site, by the client's address.
    pub stragglers: Vec<StragglerRow>,
    /// What does not fit together. The ledger stands on what its rules say then; nothing of it is
    /// hidden.
    pub oddities: Vec<Oddity>,
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Which.
    pub flow: FlowKey,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its service.
    pub service: PartName,
    /// The client's address.
    pub client: SocketAddr,
    /// The VIP that the client reached.
    pub vip: SocketAddr,
    /// The backend that serves it.
    pub backend: PartName,
    /// The backend's address.
    pub server: SocketAddr,
    /// The proxy's address towards the backend.
    pub source: Option<SocketAddr>,
    /// When it began.
    pub opened_at_ms: u64,
    /// When it was listed.
    pub listed_at_ms: u64,
    /// What had passed when it was listed.
    pub passed_at_listing: Passed,
    /// What has passed in all, as last told.
    pub passed: Passed,
    /// What passed after the pivot, or, in a move without one, since the listing.
    pub after_pivot: Passed,
    /// Longest time that bytes were owed since the listing; unset where nobody told.
    pub stall_us_max: Option<u64>,
    /// What is owed, or was as it ended.
    pub owed_bytes: u64,
    /// Since when.
    pub owed_since_ms: Option<u64>,
    /// When it was last told of.
    pub heard_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// Why.
    pub close_reason: Option<CloseReason>,
    /// By whom.
    pub closed_by: Option<Closer>,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How many flows became what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Alive at the cutover.
    pub flows: u64,
    /// Payload passed both ways after the pivot.
    pub survived: u64,
    /// Open, nothing owed.
    pub idle: u64,
    /// Of the idle ones, those whose payload moved one way.
    pub idle_one_way: u64,
    /// Ended by the client.
    pub closed_by_client: u64,
    /// Ended by the server.
    pub closed_by_server: u64,
    /// All else.
    pub broken: u64,
    /// The broken ones by cause; without those that none has.
    pub broken_by: BTreeMap<Broken, u64>,
    /// Payload that passed after the pivot.
    pub after_pivot: Passed,
}

/// How long flows were owed something, over those that ever were, each by its longest time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Flows that were owed something.
    pub flows: u64,
    /// Half of them had no longer stall.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// None had a longer one.
    pub max_us: u64,
}

/// One side flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFlowRow {
    /// Which.
    pub tuple: Tuple,
    /// Whether the source's port saw it.
    pub at_source: bool,
    /// First packet there; unset where that was not told.
    pub first_at_source_ms: Option<u64>,
    /// Last packet there.
    pub last_at_source_ms: Option<u64>,
    /// Whether it has shown something at the target's port.
    pub at_target: bool,
    /// First packet there.
    pub first_at_target_ms: Option<u64>,
    /// Last packet there.
    pub last_at_target_ms: Option<u64>,
}

impl SideFlowRow {
    /// From its last packet at the source to its first at the target, by the clocks of both.
    #[must_use]
    pub fn gap_ms(&self) -> Option<i64> {
        let (last, first) = (self.last_at_source_ms?, self.first_at_target_ms?);
        i64::try_from(first).ok()?.checked_sub(i64::try_from(last).ok()?)
    }
}

/// One client that still came to the old site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StragglerRow {
    /// Its address.
    pub client: IpAddr,
    /// How many connections it opened there.
    pub connections: u64,
    /// The first.
    pub first_at_ms: u64,
    /// The last so far.
    pub last_at_ms: u64,
    /// For which services.
    pub services: Vec<PartName>,
}

/// Something that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Oddity {
    /// About what.
    pub subject: Subject,
    /// What is odd.
    pub is: OddityKind,
    /// How many times.
    pub times: u64,
}

/// What an oddity is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "of", content = "which", rename_all = "snake_case")]
pub enum Subject {
    /// The move as a whole.
    Move,
    /// One proxy.
    Proxy(ProxyKey),
    /// One flow.
    Flow(FlowKey),
    /// One side flow.
    SideFlow(Tuple),
}

/// What is odd, and what the ledger does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddityKind {
    /// The very same word was fed again. It counts once.
    Repeated,
    /// The pivot has two times. The first stands.
    PivotApart,
    /// Two listings of one id differ in who it is. The first stands.
    ListedApart,
    /// It was listed again later. The first stands.
    ListedAgain,
    /// Two ends are told. The first stands.
    EndedApart,
    /// It was seen alive after its end. The end stands.
    SeenAfterEnd,
    /// A later word says that fewer bytes had passed. The later word stands.
    BytesFell,
    /// More passed after the pivot than passed in all. The word stands.
    MoreAfterPivotThanInAll,
    /// It was told of and never listed. It has no row.
    NeverListed,
    /// It counts as alive at the cutover and as a straggler. Both rows stand.
    PinnedStraggler,
    /// It showed packets at the target before its last at the source: the clocks of the two differ,
    /// or the watch is wrong.
    AtBothEnds,
}

impl OddityKind {
    /// The kind in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            OddityKind::Repeated => "told again, word for word; counted once",
            OddityKind::PivotApart => "the pivot was told with two times; the first stands",
            OddityKind::ListedApart => "two listings differ in who it is; the first stands",
            OddityKind::ListedAgain => "listed again later; the first stands",
            OddityKind::EndedApart => "two ends were told; the first stands",
            OddityKind::SeenAfterEnd => "seen alive after its end; the end stands",
            OddityKind::BytesFell => "fewer bytes had passed later; the later word stands",
            OddityKind::MoreAfterPivotThanInAll => "more passed after the pivot than in all",
            OddityKind::NeverListed => "told of and never listed; it has no row",
            OddityKind::PinnedStraggler => "listed at the cutover, and told as a straggler",
            OddityKind::AtBothEnds => "at the target before its last at the source: clocks differ",
        }
    }
}

impl Totals {
    pub(crate) fn of(rows: &[FlowRow]) -> Totals {
        let mut totals = Totals::default();
        for row in rows {
            totals.flows += 1;
            totals.after_pivot.up = totals.after_pivot.up.saturating_add(row.after_pivot.up);
            totals.after_pivot.down = totals.after_pivot.down.saturating_add(row.after_pivot.down);
            match row.verdict {
                Verdict::Survived => totals.survived += 1,
                Verdict::Idle => {
                    totals.idle += 1;
                    totals.idle_one_way += u64::from(row.after_pivot != Passed::default());
                }
                Verdict::ClosedByClient => totals.closed_by_client += 1,
                Verdict::ClosedByServer => totals.closed_by_server += 1,
                Verdict::Broken(cause) => {
                    totals.broken += 1;
                    *totals.broken_by.entry(cause).or_default() += 1;
                }
            }
        }
        totals
    }
}

impl Stalls {
    pub(crate) fn of(rows: &[FlowRow]) -> Stalls {
        let mut stalls: Vec<u64> =
            rows.iter().filter_map(|row| row.stall_us_max.filter(|stall| *stall > 0)).collect();
        stalls.sort_unstable();
        let rank = |percent| nearest_rank(&stalls, percent);
        Stalls {
            flows: stalls.len() as u64,
            p50_us: rank(50),
            p90_us: rank(90),
            p99_us: rank(99),
            max_us: rank(100),
        }
    }
}

/// The smallest of the sorted values that at least `percent` of them do not exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let stalls: Vec<u64> = (1..=200).collect();
        let ranks = [50, 90, 99, 100].map(|percent| nearest_rank(&stalls, percent));
        assert_eq!(ranks, [100, 180, 198, 200]);
        assert_eq!(nearest_rank(&[7], 50), 7);
        assert_eq!(nearest_rank(&[], 100), 0);
    }
}
