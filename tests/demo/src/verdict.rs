//! Whether every flow survived: by the ledger, by the clients' own logs, and by both together. Pure.

use std::net::SocketAddr;

use guest::ending::Ending;
use guest::flows::Report as Log;
use ledger::report::Report;
use ledger::{Foreign, KeptBy, join};
use proxy_api::Protocol;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What is wrong, in words; nothing, if every flow survived.
    pub(crate) faults: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// Finds what another has found as well.
    pub(crate) fn add(&mut self, other: Verdict) {
        self.faults.extend(other.faults);
    }

    fn note(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.faults.push(format!("{count} {what}"));
        }
    }
}

/// Judges a move by its report, and by the log of those who had connections before it and have been
/// answered since.
pub(crate) fn of_move(report: &Report, log: &Log) -> Verdict {
    let mut verdict = of_log(log);
    let totals = &report.ledger.totals;
    let alive = usize::try_from(totals.survived + totals.idle).unwrap_or(usize::MAX);
    let all = log.flows.len() + log.sessions.len();
    verdict.note(count(totals.broken), "flows are broken by the ledger");
    verdict.note(all.abs_diff(alive), "flows more or fewer survived by the ledger than there were");
    let joined = join(&report.ledger, KeptBy::Clients, &addresses(log));
    verdict.note(joined.only_ledger.len(), "flows are in the ledger alone");
    verdict.note(joined.only_log.len(), "flows are in the clients' logs alone");
    verdict.note(joined.ambiguous.len(), "flows stand twice");
    if !report.is_clean() {
        verdict.faults.push("a proxy has not told all of its flows".to_owned());
    }
    verdict
}

/// Judges connections that are to be open by what their clients know.
pub(crate) fn of_log(log: &Log) -> Verdict {
    let mut verdict = Verdict::default();
    let closed = log.flows.iter().filter(|flow| !flow.ending.is_open());
    verdict.note(closed.count(), "TCP flows are closed");
    let ungreeted = log.flows.iter().filter(|flow| flow.token.is_none());
    verdict.note(ungreeted.count(), "TCP flows never came to be");
    let unknown = log.sessions.iter().filter(|session| !session.still_known());
    verdict.note(unknown.count(), "UDP sessions were forgotten by the VM");
    verdict
}

/// Judges the last word of clients that have ended all in order.
pub(crate) fn of_ends(log: &Log) -> Verdict {
    let mut verdict = Verdict::default();
    let in_order = |ending: &Ending| matches!(ending, Ending::Fin { .. });
    let others = log.flows.iter().filter(|flow| !in_order(&flow.ending));
    verdict.note(others.count(), "TCP flows did not end in order");
    let unverified = log.flows.iter().filter(|flow| flow.sent != flow.verified_up);
    verdict.note(unverified.count(), "TCP flows have bytes that the VM never confirmed");
    let unanswered = log.flows.iter().filter(|flow| flow.asks != flow.answers);
    verdict.note(unanswered.count(), "TCP flows have messages without an answer");
    let unknown = log.sessions.iter().filter(|session| !session.still_known());
    verdict.note(unknown.count(), "UDP sessions were forgotten by the VM");
    verdict
}

/// Judges new users by how many of their flows and sessions the new site's proxy carries.
pub(crate) fn of_arrivals(carried: usize, opened: usize) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.note(opened.saturating_sub(carried), "new flows have not come to site b's proxy");
    verdict
}

/// By address and port, as the ledger has them.
fn addresses(log: &Log) -> Vec<Foreign> {
    let foreign = |protocol, opener: Option<SocketAddr>, taker| {
        opener.map(|opener| Foreign { protocol, opener, taker })
    };
    let flows = log.flows.iter().map(|flow| foreign(Protocol::Tcp, flow.local, flow.peer));
    let sessions = log.sessions.iter();
    let sessions =
        sessions.map(|session| foreign(Protocol::Udp, Some(session.local), session.peer));
    flows.chain(sessions).flatten().collect()
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
