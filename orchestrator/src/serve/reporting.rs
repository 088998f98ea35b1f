//! Collecting for a move's report: figures while the move runs, everybody's word at its end, and anew
//! whenever a report is asked for. Nothing here decides about a move, or holds one up: what cannot be
//! had or kept is named in the log and in the report.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::state::StateError;
use ledger::Ledger;
use ledger::report::{Report, ReportError};
use ledger::verdict::Broken;
use orchestrator_api::operator::{MoveId, MoveView, REPORT_PART_BYTES_MAX, ReportPart, StepDoes};
use saga::journal::JournalError;
use saga::{Record, SagaName};
use tokio::sync::Mutex as Turn;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::clock::unix_ms;
use super::moves::Shared;
use super::table::Entry;
use crate::report::collect::glance;
use crate::report::{
    Collected, Figures, Kept, Made, OfMove, claimed_in, collect_taken_over, make, taken_over_in,
};

/// The folder of what is collected, in the state folder.
pub(crate) const FOLDER: &str = "reports";
/// Between two looks at a move under way.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at what flows are owed where a proxy has more than it tells on a page: they cost
/// it time in the very moments that matter.
const CROWDED_INTERVAL: Duration = Duration::from_secs(1);
/// Between two times that its figures are kept: so much of them a crash may cost.
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// How long after a move's end it is looked at what its flows are owed.
const STALLS_AFTER: Duration = Duration::from_secs(3);
/// How long a proxy may take to say what its flows are owed just now.
const GLANCE_MAX: Duration = Duration::from_millis(500);
/// So long after the pivot a report still waits for flows that are owed something.
const SETTLE_MS_MAX: u64 = 10_000;
/// Between two looks at them.
const SETTLE_INTERVAL: Duration = Duration::from_millis(250);
/// Reports whose later parts can be asked for.
const MADE_MAX: usize = 4;
/// In this step it is asked whom the VM speaks with: later its port at the source may be gone, and while
/// it stands still nobody is to be asked who has to do with its move.
const MEMORY: &str = "memory";
/// From this step on flows wait, and how long is sampled.
const HOLD: &str = "hold";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreported {
    /// There is no such move.
    #[error("there is no move {0}; see `causeway status` for those there are")]
    Unknown(MoveId),
    /// It has made room for others.
    #[error("that report of {0} is kept no longer; ask for a new one")]
    Gone(MoveId),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What was collected cannot be read.
    #[error(transparent)]
    Kept(#[from] StateError),
    /// It cannot be written as JSON.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A thread of ours ended.
    #[error("the service ends")]
    Ending(#[from] JoinError),
}

/// What is kept for reports, and those made last.
#[derive(Debug)]
pub(crate) struct Reports {
    kept: Arc<Kept>,
    /// One collecting at a time: what two read and keep would lose words of one of them.
    collecting: Turn<()>,
    made: Mutex<VecDeque<Arc<Text>>>,
    made_last_ms: Mutex<u64>,
}

/// A report as its file has it.
#[derive(Debug)]
struct Text {
    id: MoveId,
    made_at_ms: u64,
    json: String,
}

impl Reports {
    /// Opens what earlier services kept.
    pub(crate) fn open(state_folder: &Path) -> Result<Reports, StateError> {
        let kept = Arc::new(Kept::open(&state_folder.join(FOLDER))?);
        Ok(Reports {
            kept,
            collecting: Turn::new(()),
            made: Mutex::default(),
            made_last_ms: Mutex::default(),
        })
    }

    /// What was sampled of a move; none where nothing can be read, which is told in the log.
    pub(crate) fn figures(&self, id: &MoveId) -> Figures {
        let kept = self.kept.figures(id).unwrap_or_else(|error| {
            let why = daemon::with_causes(&error);
            tracing::warn!(%id, why, "what was sampled of a move cannot be read");
            None
        });
        kept.unwrap_or_default()
    }

    /// Whether nothing was ever collected of it.
    pub(crate) fn is_uncollected(&self, id: &MoveId) -> bool {
        matches!(self.kept.collected(id), Ok(None))
    }

    /// This moment, for a report to be named by: no two have the same.
    fn moment(&self) -> u64 {
        let mut last = self.made_last_ms.lock().unwrap_or_else(PoisonError::into_inner);
        *last = unix_ms().max(*last + 1);
        *last
    }

    fn find(&self, id: &MoveId, made_at_ms: u64) -> Option<Arc<Text>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().find(|text| text.id == *id && text.made_at_ms == made_at_ms).cloned()
    }

    /// Keeps a report for those who ask for its parts.
    fn remember(&self, text: Text) -> Arc<Text> {
        let text = Arc::new(text);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() == MADE_MAX {
            made.pop_front();
        }
        made.push_back(Arc::clone(&text));
        text
    }
}

impl Shared {
    /// Looks on while a move runs, and collects what everybody knows at its end.
    pub(crate) async fn attend(self, id: MoveId, entry: Arc<Entry>) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept_at = Instant::now();
        let mut ended_at = None;
        let mut owed_after = Instant::now();
        let mut watched = None;
        loop {
            looks.tick().await;
            let view = entry.view();
            if view.state.has_ended() {
                ended_at = ended_at.or_else(|| Some(Instant::now()));
            }
            let last = view.steps.last().filter(|step| step.does == StepDoes::UnderWay);
            if last.is_some_and(|step| step.step == MEMORY) && watched != view.epoch {
                watched = view.epoch;
                self.collected(&id, &entry).await;
            }
            let is_near = view.steps.iter().any(|step| step.step == HOLD);
            if is_near && Instant::now() >= owed_after && self.sample_stalls(&view, &entry).await {
                owed_after = Instant::now() + CROWDED_INTERVAL;
            }
            let has_ended = ended_at.is_some_and(|at| at.elapsed() >= STALLS_AFTER);
            if kept_at.elapsed() >= KEEP_INTERVAL || has_ended {
                kept_at = Instant::now();
                self.keep_figures(&id, &entry).await;
            }
            if has_ended {
                break;
            }
        }
        self.collected(&id, &entry).await;
    }

    async fn collected(&self, id: &MoveId, entry: &Entry) {
        if let Err(error) = self.collect_for(id, entry).await {
            let why = daemon::with_causes(&error);
            tracing::warn!(%id, why, "nothing was collected of a move; a report asks again");
        }
    }

    /// Collects for moves that ended when a service did: of each VM its last one, for proxies forget
    /// those before.
    pub(crate) fn collect_missed(&self) {
        for view in self.table.views() {
            let is_last = self.table.next_of(&view.id.vm).number == view.id.number + 1;
            if is_last
                && view.state.has_ended()
                && self.reports.is_uncollected(&view.id)
                && let Some(entry) = self.table.get(&view.id)
            {
                tokio::spawn(self.clone().attend(view.id, entry));
            }
        }
    }

    /// Asks everybody what they know of a move by now, and keeps it.
    pub(crate) async fn collect_for(
        &self,
        id: &MoveId,
        entry: &Entry,
    ) -> Result<Collected, Unreported> {
        let _alone = self.reports.collecting.lock().await;
        let (kept, of) = (Arc::clone(&self.reports.kept), id.clone());
        let mut collected = spawn_blocking(move || kept.collected(&of)).await??.unwrap_or_default();
        let records = self.records_of(id).await?;
        let Some(epoch) = claimed_in(&records) else { return Ok(collected) };
        let taken_over = taken_over_in(&records);
        let (vm, pair) = (&id.vm, &entry.ordered.wanted.pair);
        let is_last = self.table.next_of(vm).number == id.number + 1;
        let of = OfMove { vm, pair, epoch, is_last };
        collect_taken_over(self.parties(), of, &taken_over, unix_ms, &mut collected).await;
        let (kept, of) = (Arc::clone(&self.reports.kept), id.clone());
        let (told, collected) =
            spawn_blocking(move || (kept.keep_collected(&of, &collected), collected)).await?;
        if let Err(error) = told {
            // What was told is told all the same.
            let why = daemon::with_causes(&error);
            tracing::warn!(%id, why, "what was collected of a move is not kept");
        }
        Ok(collected)
    }

    /// The first part of a report that is made now, or a later part of one made before.
    pub(crate) async fn report(
        &self,
        id: &MoveId,
        later: Option<(u64, u64)>,
    ) -> Result<ReportPart, Unreported> {
        if let Some((made_at_ms, from)) = later {
            let text = self.reports.find(id, made_at_ms);
            let text = text.ok_or_else(|| Unreported::Gone(id.clone()))?;
            return text.part(from).ok_or_else(|| Unreported::Gone(id.clone()));
        }
        let entry = self.table.get(id).ok_or_else(|| Unreported::Unknown(id.clone()))?;
        let (mut report, mut at_ms) = self.made(id, &entry).await?;
        while has_yet_to_settle(&report.ledger, at_ms) {
            sleep(SETTLE_INTERVAL).await;
            (report, at_ms) = self.made(id, &entry).await?;
        }
        let json = spawn_blocking(move || report.to_json()).await??;
        let text = self.reports.remember(Text { id: id.clone(), made_at_ms: at_ms, json });
        text.part(0).ok_or_else(|| Unreported::Gone(id.clone()))
    }

    async fn records_of(&self, id: &MoveId) -> Result<Vec<Record>, JournalError> {
        let saga = SagaName::new(id.to_string()).expect("a move's name is one of a saga");
        self.journal().read(&saga).await
    }

    /// A report as of now, and when that is.
    async fn made(&self, id: &MoveId, entry: &Entry) -> Result<(Report, u64), Unreported> {
        let collected = self.collect_for(id, entry).await?;
        let records = self.records_of(id).await?;
        let (view, figures, at_ms) = (entry.view(), entry.figures.told(), self.reports.moment());
        let made = spawn_blocking(move || {
            let (records, view) = (&records, &view);
            let (collected, figures) = (&collected, &figures);
            make(Made { at_ms, view, records, collected, figures })
        });
        Ok((made.await?, at_ms))
    }

    /// Samples what flows are owed; whether there are more of them than a page holds.
    async fn sample_stalls(&self, view: &MoveView, entry: &Entry) -> bool {
        let Some(epoch) = view.epoch else { return false };
        let of = OfMove { vm: &view.id.vm, pair: &entry.ordered.wanted.pair, epoch, is_last: true };
        let pages = glance(self.parties(), of, GLANCE_MAX).await;
        if !pages.is_empty() {
            entry.figures.owed(unix_ms(), &pages);
        }
        pages.iter().any(|page| page.more_after.is_some())
    }

    async fn keep_figures(&self, id: &MoveId, entry: &Entry) {
        let Some(figures) = entry.figures.news() else { return };
        let (kept, of) = (Arc::clone(&self.reports.kept), id.clone());
        let done = spawn_blocking(move || kept.keep_figures(&of, &figures)).await;
        let done = done.map_err(io::Error::other).map(|kept| kept.map_err(io::Error::other));
        if let Err(error) | Ok(Err(error)) = done {
            let why = daemon::with_causes(&error);
            tracing::warn!(%id, why, "what was sampled of a move is not kept");
        }
    }
}

/// Whether flows are owed what they could not have had yet: TCP's own timers go on a second or two
/// after a VM that stood still.
fn has_yet_to_settle(ledger: &Ledger, at_ms: u64) -> bool {
    let pivot_at_ms = ledger.pivot_at_ms.unwrap_or(0);
    let is_young = at_ms.saturating_sub(pivot_at_ms) < SETTLE_MS_MAX;
    is_young && ledger.totals.broken_by.contains_key(&Broken::Stuck)
}

impl Text {
    /// From this byte on; none where it is none of the text, or in the midst of a sign.
    fn part(&self, from: u64) -> Option<ReportPart> {
        let rest = self.json.get(usize::try_from(from).ok()?..)?;
        let end = (0..=rest.len().min(REPORT_PART_BYTES_MAX)).rev();
        let text = rest.get(..end.into_iter().find(|at| rest.is_char_boundary(*at))?)?;
        let next = from + text.len() as u64;
        Some(ReportPart {
            id: self.id.clone(),
            made_at_unix_ms: self.made_at_ms,
            text: text.to_owned(),
            more_from: (next < self.json.len() as u64).then_some(next),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(made_at_ms: u64, json: String) -> Text {
        Text { id: "web.1".parse().unwrap(), made_at_ms, json }
    }

    #[test]
    fn the_parts_of_a_long_report_make_it_whole_and_cut_no_sign() {
        let json = "äö".repeat(REPORT_PART_BYTES_MAX / 3);
        let text = text(1, format!("x{json}"));
        let (mut whole, mut from) = (String::new(), Some(0));
        while let Some(at) = from {
            let part = text.part(at).unwrap();
            assert!(part.text.len() <= REPORT_PART_BYTES_MAX);
            whole += &part.text;
            from = part.more_from;
        }
        assert_eq!(whole, text.json);
        assert_eq!(text.part(2), None, "in the midst of a sign");
        assert_eq!(text.part(u64::MAX), None);
    }

    #[test]
    fn a_report_soon_after_the_pivot_waits_for_what_flows_are_owed() {
        let mut ledger = Ledger { pivot_at_ms: Some(1_000), ..Ledger::default() };
        assert!(!has_yet_to_settle(&ledger, 1_100));
        ledger.totals.broken_by.insert(Broken::Stuck, 3);
        assert!(has_yet_to_settle(&ledger, 1_100));
        assert!(!has_yet_to_settle(&ledger, 1_000 + SETTLE_MS_MAX), "it is told in the end");
        ledger.totals.broken_by = [(Broken::Killed, 3)].into();
        assert!(!has_yet_to_settle(&ledger, 1_100), "that is no matter of time");
    }

    #[test]
    fn only_the_last_reports_can_be_asked_for_their_parts() {
        let outer = tempfile::tempdir().unwrap();
        let reports = Reports::open(outer.path()).unwrap();
        let id: MoveId = "web.1".parse().unwrap();
        for made_at_ms in 0..=MADE_MAX as u64 {
            reports.remember(text(made_at_ms, "{}".to_owned()));
        }
        assert!(reports.find(&id, 0).is_none());
        assert!(reports.find(&id, 1).is_some());
        assert!(reports.find(&"web.2".parse().unwrap(), 1).is_none());
    }
}
