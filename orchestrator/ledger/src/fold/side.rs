//! Side flows: one row for each tuple, from what the watches at both ports saw.

use std::collections::BTreeMap;

use super::Oddities;
use crate::event::{SideFlowSeen, Tuple, VmEnd};
use crate::rows::{OddityKind, SideFlowRow, Subject};

/// Watches tell their times to the second, each by its own clock: less than this says nothing.
const APART_MS: i64 = 2_000;

/// First and last packet at one port, as far as they were told.
type Span = (Option<u64>, Option<u64>);

/// First and last packet at each port.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<Tuple, BTreeMap<VmEnd, Span>>);

impl Sightings {
    pub(super) fn take(&mut self, seen: &SideFlowSeen) {
        let ends = self.0.entry(seen.tuple).or_default();
        let span = ends.entry(seen.end).or_insert((seen.first_at_ms, seen.last_at_ms));
        let first = span.0.into_iter().chain(seen.first_at_ms).min();
        *span = (first, span.1.max(seen.last_at_ms));
    }
}

pub(super) fn rows(sightings: &Sightings, oddities: &mut Oddities) -> Vec<SideFlowRow> {
    let row = |(tuple, ends): (&Tuple, &BTreeMap<VmEnd, Span>)| {
        let (source, target) = (ends.get(&VmEnd::Source), ends.get(&VmEnd::Target));
        let row = SideFlowRow {
            tuple: *tuple,
            at_source: source.is_some(),
            first_at_source_ms: source.and_then(|span| span.0),
            last_at_source_ms: source.and_then(|span| span.1),
            at_target: target.is_some(),
            first_at_target_ms: target.and_then(|span| span.0),
            last_at_target_ms: target.and_then(|span| span.1),
        };
        let overlaps = row.gap_ms().is_some_and(|gap| gap < -APART_MS);
        let subject = Subject::SideFlow(*tuple);
        oddities.note(&subject, OddityKind::AtBothEnds, usize::from(overlaps));
        row
    };
    sightings.0.iter().map(row).collect()
}
