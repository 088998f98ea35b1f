//! The moves themselves, and what became of each connection.

use std::path::PathBuf;
use std::time::Duration;

use ledger::report::Report;
use orchestrator_api::Plan;

use super::{Everybody, Story};
use crate::desk::Shown;
use crate::error::DemoError;
use crate::verdict;

/// Longest wait until proxies know each other, and the VM is well.
const GO_MAX: Duration = Duration::from_secs(60);

/// A report's files, at the operator's desk and as they are left.
pub(super) struct Files {
    pub(super) json: &'static str,
    pub(super) page: &'static str,
}

pub(super) const AWAY: (&str, Files) =
    ("web.1", Files { json: "report.json", page: "report.html" });
pub(super) const BACK: (&str, Files) =
    ("web.2", Files { json: "report-back.json", page: "report-back.html" });

impl Story<'_> {
    pub(super) fn moves_away(&mut self, everybody: &mut Everybody) -> Result<(), DemoError> {
        self.telling.chapter("The move");
        let go = self.until_go("b");
        self.types(&["plan", "web", "--to", "b"], Shown::All)?;
        go?;
        self.types(&["move", "web", "--to", "b"], Shown::Steps)?;
        self.telling.chapter("The ledger: what became of each connection");
        self.ledger(&AWAY, everybody)
    }

    pub(super) fn moves_back(&mut self, everybody: &mut Everybody) -> Result<(), DemoError> {
        self.telling.chapter("And back, under the same connections and the later ones");
        self.until_go("a")?;
        self.types(&["move", "web", "--to", "a"], Shown::Steps)?;
        self.telling.chapter("The ledger of the return");
        self.ledger(&BACK, everybody)
    }

    /// Waits until a move can be made. If none can, the plan that is shown then says why.
    fn until_go(&mut self, to: &str) -> Result<(), DemoError> {
        let desk = &mut self.desk;
        let words = ["plan", "web", "--to", to, "--json"];
        self.ending.until("a plan that says GO", GO_MAX, || {
            // Also a no-go that is told ends with a code of failure.
            Ok(desk.answers::<Plan>(&words).ok().filter(Plan::is_go).map(drop))
        })
    }

    fn ledger(
        &mut self,
        (id, files): &(&str, Files),
        everybody: &mut Everybody,
    ) -> Result<(), DemoError> {
        let log = everybody.answered_again(self.ending)?;
        self.types(&["report", id, "--json", files.json], Shown::All)?;
        let report = self.report(files.json)?;
        let found = verdict::of_move(&report, &log);
        let stall_us = log.flows.iter().map(|flow| flow.stall_us_max).max().unwrap_or_default();
        self.telling.says(&format!(
            "By the clients' own logs: {} of {} TCP flows open, {} of {} UDP sessions known to the VM;",
            log.flows.iter().filter(|flow| flow.ending.is_open()).count(),
            log.flows.len(),
            log.sessions.iter().filter(|session| session.still_known()).count(),
            log.sessions.len(),
        ));
        self.telling.says(&format!("the longest that one has waited: {} ms.", stall_us / 1_000));
        self.judge(found, "Every flow survived.");
        Ok(())
    }

    /// A report that a command has written.
    pub(super) fn report(&self, file: &str) -> Result<Report, DemoError> {
        let json = self.read(file)?;
        Ok(Report::from_json(&String::from_utf8_lossy(&json))?)
    }

    /// A file at the desk.
    pub(super) fn read(&self, file: &str) -> Result<Vec<u8>, DemoError> {
        let path: PathBuf = self.desk.file(file);
        std::fs::read(&path).map_err(|cause| DemoError::File { what: "read", path, cause })
    }
}
