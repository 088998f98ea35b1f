//! From events, in any order, to the ledger.
//!
//! Events are kept as a sorted set, so that order and repetition cannot matter: the ledger is a
//! function of the set alone. What does not fit together is told as an [`Oddity`], never merged in
//! silence.

use std::collections::BTreeMap;

use crate::event::{Event, FlowEnded, FlowKey, FlowListed, FlowSeen, ProxyKey, StragglerSeen};
use crate::rows::{FlowRow, Ledger, Oddity, OddityKind, Stalls, StragglerRow, Subject, Totals};
use crate::verdict::{Closer, Standing, verdict};

mod side;

/// Most different events that one fold keeps: a hundred thousand flows, each told ten times.
pub const EVENTS_MAX: usize = 1_000_000;

/// The fold has [`EVENTS_MAX`] events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger has {EVENTS_MAX} events and takes no more; feed each flow's last word only")]
pub struct Full;

/// What was fed so far.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    events: BTreeMap<Event, u64>,
}

impl Fold {
    /// Takes in one event.
    pub fn add(&mut self, event: Event) -> Result<(), Full> {
        if let Some(times) = self.events.get_mut(&event) {
            *times += 1;
            return Ok(());
        }
        if self.events.len() >= EVENTS_MAX {
            return Err(Full);
        }
        self.events.insert(event, 1);
        Ok(())
    }

    /// Takes in several.
    pub fn extend(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), Full> {
        events.into_iter().try_for_each(|event| self.add(event))
    }

    /// The ledger, as far as was told.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut oddities = Oddities::default();
        let told = Told::gather(&self.events, &mut oddities);
        let pivot_at_ms = told.pivots.first().copied();
        oddities.note(&Subject::Move, OddityKind::PivotApart, told.pivots.len().saturating_sub(1));
        let flows: Vec<FlowRow> = told
            .flows
            .iter()
            .filter_map(|(key, facts)| {
                let collected_at_ms = told.collected.get(&key.proxy).copied();
                facts.row(key, pivot_at_ms.is_some(), collected_at_ms, &mut oddities)
            })
            .collect();
        Ledger {
            pivot_at_ms,
            totals: Totals::of(&flows),
            stalls: Stalls::of(&flows),
            side_flows: side::rows(&told.side_flows, &mut oddities),
            stragglers: stragglers(&told.stragglers),
            oddities: oddities.told(),
            flows,
        }
    }
}

/// Counts what does not fit together.
#[derive(Debug, Default)]
struct Oddities(BTreeMap<(Subject, OddityKind), u64>);

impl Oddities {
    fn note(&mut self, subject: &Subject, is: OddityKind, times: usize) {
        if times > 0 {
            *self.0.entry((subject.clone(), is)).or_default() += times as u64;
        }
    }

    fn told(self) -> Vec<Oddity> {
        self.0.into_iter().map(|((subject, is), times)| Oddity { subject, is, times }).collect()
    }
}

/// The events, by what they are about. All lists are sorted, the time first within one flow.
#[derive(Debug, Default)]
struct Told<'e> {
    pivots: Vec<u64>,
    collected: BTreeMap<&'e ProxyKey, u64>,
    flows: BTreeMap<&'e FlowKey, Facts<'e>>,
    side_flows: side::Sightings,
    stragglers: Vec<&'e StragglerSeen>,
}

impl<'e> Told<'e> {
    fn gather(events: &'e BTreeMap<Event, u64>, oddities: &mut Oddities) -> Told<'e> {
        let mut told = Told::default();
        for (event, times) in events {
            let again = usize::try_from(times.saturating_sub(1)).unwrap_or(usize::MAX);
            oddities.note(&subject(event), OddityKind::Repeated, again);
            match event {
                Event::Pivot { at_ms } => told.pivots.push(*at_ms),
                Event::Collected { proxy, at_ms } => {
                    let latest = told.collected.entry(proxy).or_default();
                    *latest = (*latest).max(*at_ms);
                }
                Event::Listed(listed) => {
                    told.flows.entry(&listed.flow).or_default().listed.push(listed);
                }
                Event::Seen(seen) => told.flows.entry(&seen.flow).or_default().seen.push(seen),
                Event::Ended(end) => told.flows.entry(&end.flow).or_default().ended.push(end),
                Event::SideFlow(seen) => told.side_flows.take(seen),
                Event::Straggler(seen) => {
                    told.stragglers.push(seen);
                    told.flows.entry(&seen.flow).or_default().is_straggler = true;
                }
            }
        }
        told
    }
}

fn subject(event: &Event) -> Subject {
    match event {
        Event::Pivot { .. } => Subject::Move,
        Event::Collected { proxy, .. } => Subject::Proxy(proxy.clone()),
        Event::Listed(FlowListed { flow, .. })
        | Event::Seen(FlowSeen { flow, .. })
        | Event::Ended(FlowEnded { flow, .. })
        | Event::Straggler(StragglerSeen { flow, .. }) => Subject::Flow(flow.clone()),
        Event::SideFlow(seen) => Subject::SideFlow(seen.tuple),
    }
}

/// All that was told of one flow.
#[derive(Debug, Default)]
struct Facts<'e> {
    listed: Vec<&'e FlowListed>,
    seen: Vec<&'e FlowSeen>,
    ended: Vec<&'e FlowEnded>,
    is_straggler: bool,
}

impl Facts<'_> {
    fn row(
        &self,
        key: &FlowKey,
        has_pivot: bool,
        collected_at_ms: Option<u64>,
        oddities: &mut Oddities,
    ) -> Option<FlowRow> {
        self.note_oddities(key, oddities);
        let listed = *self.listed.first()?;
        let end = self.ended.first().copied();
        // A word from before the pivot says nothing of what came after.
        let heard = |seen: &&&FlowSeen| !has_pivot || seen.after_pivot.is_some();
        let heard = self.seen.iter().rev().find(|seen| heard(seen)).copied();
        let standing = standing(end, heard, collected_at_ms);
        let seen = heard.or_else(|| self.seen.last().copied());
        let (passed, after_pivot, owed_bytes, heard_at_ms) = match (end, seen) {
            (Some(end), _) => (end.passed, end.after_pivot, end.owed_bytes, end.at_ms),
            (None, Some(seen)) => (seen.passed, seen.after_pivot, seen.owed_bytes, seen.at_ms),
            (None, None) => (listed.passed, None, 0, listed.at_ms),
        };
        let after_pivot = match (has_pivot, after_pivot) {
            (true, told) => told.unwrap_or_default(),
            (false, _) => passed.since(listed.passed),
        };
        let stalls = self.seen.iter().map(|seen| seen.stall_us_max);
        let stall_us_max = stalls.chain(self.ended.iter().map(|end| end.stall_us_max)).max();
        Some(FlowRow {
            flow: key.clone(),
            protocol: listed.protocol,
            service: listed.service.clone(),
            client: listed.client,
            vip: listed.vip,
            backend: listed.backend.clone(),
            server: listed.server,
            source: listed.source,
            opened_at_ms: listed.opened_at_ms,
            listed_at_ms: listed.at_ms,
            passed_at_listing: listed.passed,
            passed,
            after_pivot,
            stall_us_max,
            owed_bytes,
            owed_since_ms: if end.is_some() { None } else { seen.and_then(|s| s.owed_since_ms) },
            heard_at_ms,
            ended_at_ms: end.map(|end| end.at_ms),
            close_reason: end.map(|end| end.reason),
            closed_by: end.map(|end| Closer::of(end.reason)),
            verdict: verdict(after_pivot, standing),
        })
    }

    fn note_oddities(&self, key: &FlowKey, oddities: &mut Oddities) {
        let subject = Subject::Flow(key.clone());
        let mut note = |is, times| oddities.note(&subject, is, times);
        let is_told_of = !self.seen.is_empty() || !self.ended.is_empty();
        let Some((first, later)) = self.listed.split_first() else {
            note(OddityKind::NeverListed, usize::from(is_told_of));
            return;
        };
        let (same, other): (Vec<_>, Vec<_>) =
            later.iter().partition::<Vec<&FlowListed>, _>(|again| is_same_flow(first, again));
        note(OddityKind::ListedAgain, same.len());
        note(OddityKind::ListedApart, other.len());
        note(OddityKind::PinnedStraggler, usize::from(self.is_straggler));
        note(OddityKind::EndedApart, self.ended.len().saturating_sub(1));
        if let Some(end) = self.ended.first() {
            let late = self.seen.iter().filter(|seen| seen.at_ms > end.at_ms).count();
            note(OddityKind::SeenAfterEnd, late);
        }
        let mut words: Vec<_> =
            self.seen.iter().map(|s| (s.at_ms, s.passed, s.after_pivot)).collect();
        words.extend(self.ended.first().map(|end| (end.at_ms, end.passed, end.after_pivot)));
        words.sort_unstable();
        let fell = words.windows(2).filter(|pair| {
            let [(_, before, _), (_, after, _)] = pair else { return false };
            after.up < before.up || after.down < before.down
        });
        note(OddityKind::BytesFell, fell.count());
        let too_much = words.iter().filter(|(_, all, after)| {
            after.is_some_and(|after| after.up > all.up || after.down > all.down)
        });
        note(OddityKind::MoreAfterPivotThanInAll, too_much.count());
    }
}

fn is_same_flow(one: &FlowListed, other: &FlowListed) -> bool {
    let who = |listed: &FlowListed| {
        (listed.protocol, listed.client, listed.vip, listed.server, listed.opened_at_ms)
    };
    who(one) == who(other) && one.service == other.service && one.backend == other.backend
}

fn standing(
    end: Option<&FlowEnded>,
    seen: Option<&FlowSeen>,
    collected_at_ms: Option<u64>,
) -> Standing {
    if let Some(end) = end {
        return Standing::Over { reason: end.reason, owed_bytes: end.owed_bytes };
    }
    match seen {
        // Its proxy has told all since then, and nothing of this one.
        Some(seen) if collected_at_ms.is_some_and(|at| at > seen.at_ms) => Standing::Unknown,
        Some(seen) => Standing::Open {
            owed_bytes: seen.owed_bytes,
            owed_for_ms: seen.owed_since_ms.map_or(0, |since| seen.at_ms.saturating_sub(since)),
        },
        None => Standing::Unknown,
    }
}

fn stragglers(seen: &[&StragglerSeen]) -> Vec<StragglerRow> {
    let mut rows = BTreeMap::new();
    let mut counted = std::collections::BTreeSet::new();
    for seen in seen {
        let client = seen.client.ip().to_canonical();
        let row = rows.entry(client).or_insert_with(|| StragglerRow {
            client,
            connections: 0,
            first_at_ms: seen.at_ms,
            last_at_ms: seen.at_ms,
            services: Vec::new(),
        });
        row.connections += u64::from(counted.insert(&seen.flow));
        row.first_at_ms = row.first_at_ms.min(seen.at_ms);
        row.last_at_ms = row.last_at_ms.max(seen.at_ms);
        if let Err(place) = row.services.binary_search(&seen.service) {
            row.services.insert(place, seen.service.clone());
        }
    }
    rows.into_values().collect()
}
