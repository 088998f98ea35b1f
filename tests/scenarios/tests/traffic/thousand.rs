//! A thousand checked flows through one VIP: every byte right, every flow accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use guest::ending::{Ending, Party};
use guest::flows::Report;
use guest::flows::plan::{FlowSpec, Mode, Plan, SessionSpec};
use proxy_api::{CloseReason, Flow, FlowState, Protocol, StateFilter};
use scenarios::running::SOON;
use scenarios::site::{Guest, Proxy, Site, eventually, service};

fn flows(count: usize, targets: &[SocketAddr], mode: Mode) -> FlowSpec {
    let (targets, sources) = (targets.to_vec(), Vec::new());
    FlowSpec { count, targets, sources, mode, asks_max: None, silent_after_ms: None }
}

/// A client's address and the VIP that it called: what a row of the one list and a row of the
/// other have in common.
type Ends = (SocketAddr, SocketAddr);

fn by_ends(flows: &[Flow], protocol: Protocol) -> BTreeMap<Ends, &Flow> {
    let of = flows.iter().filter(|flow| flow.protocol == protocol);
    let rows: BTreeMap<Ends, &Flow> = of.clone().map(|f| ((f.client, f.vip), f)).collect();
    assert_eq!(rows.len(), of.count(), "two flows with the same ends");
    rows
}

fn reported(report: &Report) -> BTreeMap<Ends, &guest::flows::FlowRecord> {
    let local = |flow: &guest::flows::FlowRecord| flow.local.expect("it was connected");
    report.flows.iter().map(|flow| ((local(flow), flow.peer), flow)).collect()
}

fn plan(vips: &[SocketAddr]) -> Plan {
    let targets = vips.to_vec();
    let sessions = SessionSpec { count: 30, targets, sources: vec![], size: 200, interval_ms: 200 };
    Plan {
        flows: vec![
            flows(700, vips, Mode::Paced { size: 300, interval_ms: 250 }),
            flows(200, vips, Mode::Idle),
            flows(92, vips, Mode::PingPong { size: 64 }),
            flows(4, vips, Mode::Upload { frame: 16_384 }),
            flows(4, vips, Mode::Download { frame: 16_384 }),
        ],
        sessions: vec![sessions],
    }
}

#[test]
fn a_thousand_checked_flows_and_sessions_are_carried_and_accounted_for() {
    let site = Site::new();
    let guests = [site.guest(), site.guest()];
    let backends = [&guests[0].addresses[..], &guests[1].addresses[..]];
    let vips = site.vips(80);
    let leg = site.leg();
    let source = format!("source = [\"{}\", \"{}\"]", leg[0], leg[1]);
    let web = service("web", "tcp", &vips, &source, &backends);
    let names = service("names", "udp", &vips, "", &backends);
    site.configure(&format!("{web}{names}"));
    let proxy = site.start();

    let mut clients = site.clients();
    clients.tell().start(plan(&vips), SOON).unwrap();
    eventually(|| {
        let report = clients.tell().report().unwrap();
        let mut busy = report.flows.iter().filter(|flow| flow.mode != Mode::Idle);
        let talked = busy.all(|flow| flow.answers >= 3)
            && report.sessions.iter().all(|session| session.answers.received >= 3);
        if talked { Ok(()) } else { Err("not all have talked".to_owned()) }
    });
    check_living(&proxy, &clients.tell().report().unwrap());

    let report = clients.stop();
    check_report(&report);
    let ended = eventually(|| match proxy.service("web").flows_active {
        0 => Ok(proxy.flows()),
        left => Err(format!("{left} flows left")),
    });
    let told = by_ends(&ended, Protocol::Tcp);
    assert!(told.keys().eq(reported(&report).keys()), "a row that only one list has");
    for (ends, record) in reported(&report) {
        let flow = told[&ends];
        assert_eq!(flow.state, FlowState::Closed { reason: CloseReason::ClientFin }, "{flow:#?}");
        assert_eq!((flow.up.taken, flow.down.taken), (flow.up.given, flow.down.given), "{flow:#?}");
        assert!(flow.up.given >= record.sent && flow.down.given >= record.verified_down);
        assert_eq!(flow.source.unwrap().ip(), leg[usize::from(ends.0.is_ipv6())]);
    }
    check_backends(&guests, &told);
    check_measures(&proxy, &told);
}

/// The clients' list and the proxy's have the same rows, read in small pages.
fn check_living(proxy: &Proxy<'_>, report: &Report) {
    let live = proxy.flows_by(StateFilter::Live, 73);
    assert!(live.is_sorted_by_key(|flow| flow.id), "pages are in order");
    let told = by_ends(&live, Protocol::Tcp);
    assert!(told.keys().eq(reported(report).keys()), "a row that only one list has");
    assert!(told.values().all(|flow| flow.state == FlowState::Open));
    assert_eq!(proxy.service("web").flows_active, 1_000);
    let shares: Vec<u64> = proxy.service("web").backends.iter().map(active).collect();
    assert_eq!(shares, [500, 500]);
    let sessions = report.sessions.iter().map(|session| (session.local, session.peer));
    let sessions: BTreeSet<Ends> = sessions.collect();
    assert!(by_ends(&live, Protocol::Udp).into_keys().eq(sessions));
}

/// What the backends accepted are the proxy's sources, and no others.
fn check_backends(guests: &[Guest], told: &BTreeMap<Ends, &Flow>) {
    let mut accepted: Vec<SocketAddr> = Vec::new();
    for guest in guests {
        let log = guest.log();
        assert_eq!(log.accepted_dropped, 0);
        accepted.extend(log.accepted.iter().map(|line| line.peer));
    }
    let mut sources: Vec<SocketAddr> = told.values().map(|flow| flow.source.unwrap()).collect();
    accepted.sort_unstable();
    sources.sort_unstable();
    assert_eq!(accepted, sources);
}

/// The metrics and the access log say what the API says.
fn check_measures(proxy: &Proxy<'_>, told: &BTreeMap<Ends, &Flow>) {
    let web = [("service", "web")];
    let by_client = [("service", "web"), ("reason", "client_fin")];
    let up: u64 = told.values().map(|flow| flow.up.given).sum();
    let down: u64 = told.values().map(|flow| flow.down.given).sum();
    for (name, labels, value) in [
        ("causeway_flows_opened_total", &web[..], 1_000),
        ("causeway_flows_active", &web, 0),
        ("causeway_flows_closed_total", &by_client, 1_000),
        ("causeway_connect_seconds_count", &web, 1_000),
        ("causeway_bytes_total", &[("service", "web"), ("way", "up")], up),
        ("causeway_bytes_total", &[("service", "web"), ("way", "down")], down),
    ] {
        assert_eq!(proxy.metric(name, labels) as u64, value, "{name} {labels:?}");
    }
    let entries = proxy.events("flow ended");
    assert_eq!(entries.iter().filter(|entry| entry["service"] == "web").count(), 1_000);
}

fn active(backend: &proxy_api::Backend) -> u64 {
    backend.addresses.iter().map(|address| address.flows_active).sum()
}

fn check_report(report: &Report) {
    assert_eq!((report.sockets_at_start, report.sockets_new), (1_030, 0));
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Client }, "{flow:#?}");
        assert_eq!((flow.verified_up, flow.answers), (flow.sent, flow.asks), "{flow:#?}");
    }
    for session in &report.sessions {
        assert!(session.still_known() && session.foreign == 0, "{session:#?}");
        assert_eq!((session.lost_up(), session.lost_down()), (0, 0), "{session:#?}");
    }
}
