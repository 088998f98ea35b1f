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

#[cfg(test)]
mod tests {
    use guest::ending::Party;
    use guest::flows::plan::Mode;
    use guest::flows::{FlowRecord, Pool, SessionRecord};
    use guest::traffic::Token;
    use guest::traffic::session::Counts;
    use serde_json::json;

    use super::*;

    fn flow(ending: Ending) -> FlowRecord {
        FlowRecord {
            id: 0,
            pool: Pool::Start,
            mode: Mode::Idle,
            local: Some("192.0.2.1:1000".parse().unwrap()),
            peer: "198.18.1.1:7000".parse().unwrap(),
            seen: None,
            token: Some(Token([1; 16])),
            opened_ms: 0,
            ended_ms: None,
            asks: 3,
            answers: 3,
            skipped: 0,
            sent: 600,
            verified_up: 600,
            verified_down: 600,
            stall_us_max: 0,
            ending,
        }
    }

    fn session() -> SessionRecord {
        SessionRecord {
            id: 0,
            local: "192.0.2.1:1000".parse().unwrap(),
            peer: "198.18.1.1:7000".parse().unwrap(),
            nonce: 1,
            token: Some(Token([2; 16])),
            token_changed: None,
            sent: 3,
            unsent: 0,
            at_server: Counts::default(),
            answers: Counts::default(),
            foreign: 0,
            settled: true,
            stall_us_max: 0,
            error: None,
        }
    }

    fn log(ending: Ending) -> Log {
        Log { flows: vec![flow(ending)], sessions: vec![session()], ..Log::default() }
    }

    fn fin() -> Ending {
        Ending::Fin { by: Party::Client }
    }

    /// A report whose ledger has so many flows, all of which survived, and no row of any.
    fn report(survived: u64, broken: u64) -> Report {
        let place = json!({ "site": "a", "agent": "hv1" });
        let versus = json!({ "estimate": null, "actual": null });
        let text = json!({
            "version": 1, "made_at_ms": 0, "outcome": { "is": "completed" }, "started_at_ms": 0,
            "ended_at_ms": 1, "pause": null, "steps": [], "moments": [], "samples": [],
            "stall_samples": [], "hold": null, "reclaimed": [], "sources": [],
            "migration": {
                "name": "web.1", "vm": "web", "from": place, "to": place, "epoch": 2,
                "ordered_by": "ada", "attempt": 1
            },
            "comparison": {
                "total_ms": versus, "pause_ms": versus, "disk_bytes": versus,
                "memory_bytes": versus, "wire_bytes": versus
            },
            "ledger": {
                "pivot_at_ms": 1, "flows": [], "side_flows": [], "stragglers": [], "oddities": [],
                "stalls": { "flows": 0, "p50_us": 0, "p90_us": 0, "p99_us": 0, "max_us": 0 },
                "totals": {
                    "flows": survived + broken, "survived": survived, "idle": 0,
                    "idle_one_way": 0, "closed_by_client": 0, "closed_by_server": 0,
                    "broken": broken, "broken_by": {}, "after_pivot": { "up": 0, "down": 0 }
                }
            }
        });
        Report::from_json(&text.to_string()).unwrap()
    }

    #[test]
    fn a_flow_that_its_client_has_lost_is_a_fault() {
        assert!(of_log(&log(Ending::Open)).is_good());
        let reset = log(Ending::Rst { by: Party::Server });
        assert_eq!(of_log(&reset).faults, ["1 TCP flows are closed"]);
        let mut refused = log(Ending::Refused);
        refused.flows[0].token = None;
        assert_eq!(of_log(&refused).faults.len(), 2);
        let mut forgotten = log(Ending::Open);
        forgotten.sessions[0].token_changed = Some(Token([3; 16]));
        assert_eq!(of_log(&forgotten).faults, ["1 UDP sessions were forgotten by the VM"]);
    }

    #[test]
    fn a_ledger_that_has_other_flows_than_the_clients_is_a_fault() {
        assert!(of_move(&report(0, 0), &Log::default()).is_good());
        let alone = of_move(&report(2, 0), &log(Ending::Open));
        assert_eq!(alone.faults, ["2 flows are in the clients' logs alone"]);
        let fewer = of_move(&report(1, 0), &log(Ending::Open));
        assert_eq!(fewer.faults.len(), 2, "{fewer:?}");
        let broken = of_move(&report(0, 1), &Log::default());
        assert!(broken.faults[0].starts_with("1 flows are broken"), "{broken:?}");
    }

    #[test]
    fn an_end_out_of_order_and_a_byte_that_is_not_confirmed_are_faults() {
        assert!(of_ends(&log(fin())).is_good());
        assert_eq!(of_ends(&log(Ending::Open)).faults, ["1 TCP flows did not end in order"]);
        let mut unverified = log(fin());
        unverified.flows[0].verified_up -= 1;
        assert_eq!(of_ends(&unverified).faults.len(), 1);
        let mut unanswered = log(fin());
        unanswered.flows[0].answers -= 1;
        assert_eq!(of_ends(&unanswered).faults, ["1 TCP flows have messages without an answer"]);
    }

    #[test]
    fn new_users_who_come_elsewhere_are_a_fault() {
        assert!(of_arrivals(3, 3).is_good());
        assert_eq!(of_arrivals(1, 3).faults, ["2 new flows have not come to site b's proxy"]);
    }
}
