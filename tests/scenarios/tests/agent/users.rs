//! Clients that use the VM by its VIP while it moves, and a move's ledger held against what they and
//! the proxy know themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter};
use std::net::SocketAddr;

use guest::clients::Clients;
use guest::flows::Pool;
use guest::flows::plan::{FlowSpec, Mode, Plan, SessionSpec};
use guest::settings::{CONTROL_PORT, PORT};
use lab::sandbox::Process;
use lab::world::{Site, World};
use ledger::report::{Party, Report, Said};
use ledger::{Foreign, KeptBy, join};
use proxy_api::{Flow, FlowId, FlowState, Protocol};

use crate::crew::{Crew, WAIT_MAX, until};
use crate::service::Service;

/// Usually so many use it, by TCP and by UDP.
const FLOWS: usize = 12;
const SESSIONS: usize = 4;
const MODE: Mode = Mode::Paced { size: 200, interval_ms: 100 };

/// Who use the VM by the VIP of one site.
pub(crate) struct Users {
    _process: Process,
    clients: Clients<PipeWriter, PipeReader>,
}

impl Users {
    /// Opens flows and sessions, of both families.
    pub(crate) fn start(world: &World, site: &Site) -> Users {
        Users::of(world, site, &[(FLOWS, MODE)], SESSIONS)
    }

    /// The same, so many of each kind.
    pub(crate) fn of(
        world: &World,
        site: &Site,
        flows: &[(usize, Mode)],
        sessions: usize,
    ) -> Users {
        let (process, mut clients) = lab::clients::start(&world.client(1)).unwrap();
        let flows = flows.iter().map(|(count, mode)| flows_of(site, *count, *mode)).collect();
        let (size, interval_ms) = (100, 200);
        let (targets, sources) = (targets(site), Vec::new());
        let sessions = SessionSpec { count: sessions, targets, sources, size, interval_ms };
        clients.start(Plan { flows, sessions: vec![sessions] }, WAIT_MAX).unwrap();
        Users { _process: process, clients }
    }

    /// Opens one more flow, from the pool that is counted apart.
    pub(crate) fn opens_another(&mut self, site: &Site) {
        self.clients.open(flows_of(site, 1, MODE), WAIT_MAX).unwrap();
    }

    /// Ends one flow by RST.
    pub(crate) fn resets(&mut self, flow: usize) {
        self.clients.rst(flow).unwrap();
    }

    /// As they know it themselves.
    pub(crate) fn report(&mut self) -> guest::flows::Report {
        self.clients.report().unwrap()
    }

    /// Ends all in order, and gives the last word of each.
    pub(crate) fn stop(self) -> guest::flows::Report {
        self.clients.stop(WAIT_MAX).unwrap()
    }

    /// Every flow is open and is answered again, on the connection that it began with, and so is every
    /// session.
    pub(crate) fn all_go_on(&mut self) {
        self.others_go_on(&[]);
    }

    /// The same of all flows but these.
    pub(crate) fn others_go_on(&mut self, ended: &[usize]) {
        let before = self.clients.report().unwrap();
        until("all are answered again", || {
            let now = self.clients.report().unwrap();
            let pairs = now.flows.iter().zip(&before.flows);
            let pairs = pairs.filter(|(now, _)| !ended.contains(&now.id));
            let dead: Vec<_> = pairs.clone().filter(|(now, _)| !now.ending.is_open()).collect();
            assert!(dead.is_empty(), "{dead:#?}");
            let flows = pairs.clone().all(|(now, before)| now.answers > before.answers);
            assert!(pairs.clone().all(|(now, before)| now.token == before.token));
            let sessions = now.sessions.iter().zip(&before.sessions);
            let sessions = sessions.clone().all(|(now, before)| {
                now.still_known() && now.answers.received > before.answers.received
            });
            (flows && sessions).then_some(())
        });
    }

    /// Their own log of what they opened at the start, by address and port.
    pub(crate) fn log(&mut self) -> Vec<Foreign> {
        let report = self.clients.report().unwrap();
        let at_start = report.flows.iter().filter(|flow| flow.pool == Pool::Start);
        let flows = at_start.map(|flow| Foreign {
            protocol: Protocol::Tcp,
            opener: flow.local.expect("it was connected"),
            taker: flow.peer,
        });
        let sessions = report.sessions.iter().map(|session| Foreign {
            protocol: Protocol::Udp,
            opener: session.local,
            taker: session.peer,
        });
        flows.chain(sessions).collect()
    }
}

fn targets(site: &Site) -> Vec<SocketAddr> {
    site.vip(1).each().map(|ip| SocketAddr::new(ip, PORT)).into()
}

fn flows_of(site: &Site, count: usize, mode: Mode) -> FlowSpec {
    let (targets, sources) = (targets(site), Vec::new());
    FlowSpec { count, targets, sources, mode, asks_max: None, silent_after_ms: None }
}

/// A move's report is there; its page comes of its file alone; and its rows are the flows that the
/// clients and their proxy know of, by address and port.
pub(crate) fn ledger_agrees(service: &Service, id: &str, at: &Crew<'_>, users: &mut Users) {
    let said = service
        .says(&["report", id, "--json", "/tmp/report.json", "--html", "/tmp/report.html"], 0);
    assert!(said.contains("flows at the cutover") && said.contains(id), "{said}");
    println!("{said}");
    let json = service.written("/tmp/report.json");
    let page = service.written("/tmp/report.html");
    look_at(&json, &page);
    // Made again without a service, and without an operator's file.
    let words = ["report", "--from", "/tmp/report.json", "--html", "/tmp/again.html"];
    service.says_without_file(&words, 0);
    assert!(service.written("/tmp/again.html") == page, "the page differs from its file's");

    let report = Report::from_json(&json).unwrap();
    assert!(report.pause.is_some() && report.ledger.pivot_at_ms.is_some(), "{report:#?}");
    assert!(report.samples.len() > 1, "{:?}", report.samples);
    let carried = report.samples.last().unwrap();
    assert!(carried.disk_bytes > 0 && carried.memory_bytes > 0, "{carried:?}");
    assert!(report.comparison.memory_bytes.actual.is_some(), "{:?}", report.comparison);
    let proxies = report.sources.iter().filter(|source| source.is == Party::Proxy);
    assert!(proxies.clone().count() > 1);
    assert!(proxies.clone().all(|source| source.said == Said::Told), "{:?}", report.sources);

    let log = users.log();
    let joined = join(&report.ledger, KeptBy::Clients, &log);
    assert!(joined.is_complete(), "{joined:#?}");
    assert_eq!(joined.both.len(), log.len());
    same_as_the_proxy_tells(&report, &at.proxy.flows());

    side_flows_are_there(&report);
    assert!(report.is_clean(), "{:#?}", report.ledger);
    service.says(&["report", id, "--strict"], 0);
}

/// The neighbour's connection is told, with when it last passed at the source; and none of those that
/// a proxy carries is.
fn side_flows_are_there(report: &Report) {
    let rows = &report.ledger.side_flows;
    let of_neighbour = rows.iter().find(|row| row.tuple.vm.port() == CONTROL_PORT);
    let row = of_neighbour.unwrap_or_else(|| panic!("no neighbour's in {rows:#?}"));
    assert!(row.at_source && row.last_at_source_ms.is_some(), "{row:?}");
    let sources: BTreeSet<_> = report.ledger.flows.iter().filter_map(|row| row.source).collect();
    assert!(rows.iter().all(|row| !sources.contains(&row.tuple.peer)), "{rows:#?}");
}

/// Each row is a flow of the proxy's, as it stands there; flows may end meanwhile.
pub(crate) fn same_as_the_proxy_tells(report: &Report, flows: &[Flow]) {
    let of_proxy: BTreeMap<FlowId, &Flow> = flows.iter().map(|flow| (flow.id, flow)).collect();
    let told: BTreeSet<FlowId> = report.ledger.flows.iter().map(|row| row.flow.id).collect();
    assert_eq!(told, of_proxy.keys().copied().collect::<BTreeSet<_>>());
    for row in &report.ledger.flows {
        let flow = of_proxy[&row.flow.id];
        let ends = (row.client, row.vip, row.source, row.server);
        assert_eq!(ends, (flow.client, flow.vip, flow.source, flow.server));
        assert_eq!((row.protocol, row.opened_at_ms), (flow.protocol, flow.opened_at_ms));
        if let Some(reason) = row.close_reason {
            assert_eq!(flow.state, FlowState::Closed { reason });
        }
    }
}

/// Writes them where `CAUSEWAY_REPORT_OUT` says, for eyes to judge them.
fn look_at(json: &str, page: &str) {
    if let Some(out) = std::env::var_os("CAUSEWAY_REPORT_OUT") {
        let out = std::path::PathBuf::from(out);
        std::fs::write(out.join("report.json"), json).unwrap();
        std::fs::write(out.join("report.html"), page).unwrap();
    }
}
