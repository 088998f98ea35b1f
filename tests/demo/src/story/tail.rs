//! What comes after a move: new users arrive at the new site, old connections end, the old place is
//! given back, and the reports are left.

use std::time::{Duration, Instant};

use guest::flows::Report as Log;
use orchestrator_api::operator::{Drain, FlowView};
use serde::Deserialize;

use super::moves::{AWAY, BACK, Files};
use super::{Everybody, Story};
use crate::desk::Shown;
use crate::error::DemoError;
use crate::users::{NAME, Names, Users};
use crate::verdict;

/// Flows of those who do not honour TTLs.
const STRAGGLERS: usize = 2;
/// For one newcomer there were so many before.
const REGULARS_PER_NEWCOMER: usize = 10;
/// Longest wait until silent UDP sessions are forgotten.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// What `causeway status --json` says of places that VMs have left.
#[derive(Deserialize)]
struct Drains {
    drains: Vec<Drain>,
}

impl Story<'_> {
    /// Who believes an old answer comes to the old site, all others to the new one.
    pub(super) fn arrivals(
        &mut self,
        everybody: &mut Everybody,
        names: &mut Names<'_>,
        old_names: &mut Names<'_>,
    ) -> Result<(), DemoError> {
        self.telling.chapter("New users");
        let at = old_names.ignoring()?;
        let client = self.stage.world.client(2);
        let mut stragglers = Users::start(&client, at, STRAGGLERS, 0)?;
        stragglers.answered_again(self.ending)?;
        self.telling
            .says(&format!("A client that never asks for {NAME} again still comes to {},", at[0]));
        self.telling.says("and site a's proxy serves it through the tunnel.");
        everybody.stragglers = Some(stragglers);

        self.until_outdated(names.good_until)?;
        let at = names.honouring()?;
        let count = self.asked.flows.div_ceil(REGULARS_PER_NEWCOMER);
        let mut newcomers = Users::start(&self.stage.world.client(1), at, count, 1)?;
        newcomers.answered_again(self.ending)?;
        self.telling.says(&format!(
            "Clients that honour TTLs have asked anew: it is {} now, site b's VIP.",
            at[0]
        ));
        everybody.newcomers = Some(newcomers);
        self.telling.typed("causeway flows web");
        let flows = self.desk.flows_of("web")?;
        let (at_a, at_b) = (carried_at(&flows, "a"), carried_at(&flows, "b"));
        self.telling.says(&format!(
            "Site a's proxy carries {at_a} flows, the old ones and the stray; site b's {at_b}, direct."
        ));
        self.judge(verdict::of_arrivals(at_b, count + 1), "New users reach site b directly.");
        Ok(())
    }

    /// Waits until an answer that was given before the move may be believed no longer.
    fn until_outdated(&mut self, until: Instant) -> Result<(), DemoError> {
        let telling = &mut *self.telling;
        let wait = until.saturating_duration_since(Instant::now());
        self.ending.until("the end of an old answer", wait + DRAIN_MAX, || {
            let left = until.saturating_duration_since(Instant::now());
            telling.passing(&format!("{} s until an old answer runs out", left.as_secs()));
            Ok(left.is_zero().then_some(()))
        })
    }

    /// Old connections end, and what the VM has left is given back.
    pub(super) fn drain(&mut self, everybody: Everybody) -> Result<(), DemoError> {
        self.telling.chapter("The old place is drained, and given back");
        let status = if self.asked.back { "web" } else { AWAY.0 };
        self.types(&["status", status], Shown::If(is_of_drain))?;
        let Everybody { regulars, stragglers, newcomers } = everybody;
        // Who is at the VM's own site may stay.
        let (leaving, staying) =
            if self.asked.back { (newcomers, None) } else { (None, newcomers) };
        let ended = [Some(regulars), stragglers, leaving].into_iter().flatten();
        let mut log = Log::default();
        for users in ended {
            let Log { flows, sessions, .. } = users.stop()?;
            log.flows.extend(flows);
            log.sessions.extend(sessions);
        }
        let lost: u64 = log.sessions.iter().map(|told| told.lost_up() + told.lost_down()).sum();
        let sent: u64 = log.sessions.iter().map(|told| 2 * told.sent).sum();
        self.telling.says(&format!(
            "Its users end {} flows and {} sessions; of {sent} datagrams {lost} were lost on the way.",
            log.flows.len(),
            log.sessions.len()
        ));
        self.judge(
            verdict::of_ends(&log),
            "Every byte of every flow has arrived, once and in order.",
        );
        self.until_drained()?;
        self.types(&["status", status], Shown::If(is_of_drain))?;
        self.types(&["reclaim", "web"], Shown::All)?;
        if let Some(mut staying) = staying {
            let log = staying.answered_again(self.ending)?;
            self.judge(verdict::of_log(&log), "Those at site b have noticed nothing.");
            self.staying = Some(staying);
        }
        Ok(())
    }

    fn until_drained(&mut self) -> Result<(), DemoError> {
        let (telling, desk) = (&mut *self.telling, &mut self.desk);
        let words = ["status", "--json"];
        self.ending.until("a drained place", DRAIN_MAX, || {
            let drains = desk.answers::<Drains>(&words)?.drains;
            let left: u64 = drains.iter().map(|drain| drain.pinned + drain.stragglers).sum();
            if left > 0 {
                telling.passing(&format!("{left} UDP sessions are silent, and soon forgotten"));
            }
            Ok(drains.iter().all(Drain::is_drained).then_some(()))
        })
    }

    /// The reports, as they are after all of it.
    pub(super) fn last_words(&mut self) -> Result<(), DemoError> {
        self.telling.chapter("The report");
        for (id, Files { json, page }) in
            [Some(&AWAY), self.asked.back.then_some(&BACK)].into_iter().flatten()
        {
            let words = ["report", id, "--html", page, "--json", json];
            self.types(&words, Shown::Nothing)?;
            self.left.leave(json, &self.read(json)?)?;
            let page = self.left.leave(page, &self.read(page)?)?;
            self.telling.says(&format!("Of {id}, with pictures: {}", page.display()));
        }
        if !self.asked.back {
            // Of an earlier demo, and no part of what this one tells.
            self.left.remove(BACK.1.json)?;
            self.left.remove(BACK.1.page)?;
        }
        Ok(())
    }
}

fn carried_at(flows: &[FlowView], site: &str) -> usize {
    flows.iter().filter(|flow| flow.at.site.as_str() == site).count()
}

/// Lines of `causeway status` that are about places that VMs have left.
fn is_of_drain(line: &str) -> bool {
    line.contains(" left ")
}
