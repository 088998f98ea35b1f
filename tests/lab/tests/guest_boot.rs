//! A real VM boots from the lab's image, and does all that later tests ask of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use guest::control::Control;
use guest::dirty::DirtyRate;
use guest::ending::{Ending, Party};
use guest::flows::Report;
use guest::flows::plan::{FlowSpec, Mode, Plan, SessionSpec};
use guest::records::check::check_image;
use guest::service::READY;
use guest::settings::{CONTROL_PORT, PORT};
use lab::host::Host;
use lab::sandbox::{Launch, Process};
use lab::vm::{Machine, Vm, VmPlan};
use lab::vm_lock::{self, VmLock};
use lab::world::{Station, World, WorldPlan};

/// Longest wait for what the guest does at once when it has a core to itself.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Where the guest's neighbour listens.
const NEIGHBOUR_PORT: u16 = 9000;

fn targets(station: Station, port: u16) -> Vec<SocketAddr> {
    station.ip.each().map(|ip| SocketAddr::new(ip, port)).into()
}

fn control(from: &Host, vm: Station) -> Control<TcpStream> {
    let address = SocketAddr::new(vm.ip.v4.into(), CONTROL_PORT);
    from.inside(|| Control::connect(address, WAIT_MAX)).unwrap().unwrap()
}

fn serve_as_neighbour(on: &Host, station: Station) -> Process {
    let [v4, v6] = station.ip.each();
    let flags = [format!("--listen={v4},{v6}"), format!("--port={NEIGHBOUR_PORT}")];
    let launch = Launch::ours("causeway-guest").unwrap().arg("serve").args(flags).with_stdout();
    let mut process = on.spawn(&launch).unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with(READY), "{ready}");
    process
}

/// Asks again until the answer is right.
fn wait<T>(what: &str, time_max: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + time_max;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(now) => assert!(Instant::now() < until, "{what} is still not right: {now}"),
        }
        thread::sleep(POLL);
    }
}

fn flows(count: usize, targets: &[SocketAddr], mode: Mode) -> FlowSpec {
    FlowSpec {
        count,
        targets: targets.to_vec(),
        sources: Vec::new(),
        mode,
        asks_max: None,
        silent_after_ms: None,
    }
}

fn traffic(vm: Station) -> Plan {
    let guest = targets(vm, PORT);
    let session = SessionSpec {
        count: 20,
        targets: guest.clone(),
        sources: Vec::new(),
        size: 200,
        interval_ms: 100,
    };
    Plan {
        flows: vec![
            flows(800, &guest, Mode::Paced { size: 200, interval_ms: 1000 }),
            flows(100, &guest, Mode::Idle),
            flows(96, &guest, Mode::PingPong { size: 64 }),
            flows(2, &guest, Mode::Upload { frame: 16384 }),
            flows(2, &guest, Mode::Download { frame: 16384 }),
        ],
        sessions: vec![session],
    }
}

#[test]
fn a_vm_boots_and_serves_a_thousand_checked_flows_records_and_neighbours() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let plan = WorldPlan { kept: machine.kept(), ..WorldPlan::with_sites(&["a"]) };
    let world = World::build(&plan).unwrap();
    let site = world.site("a");
    let vm_plan = VmPlan::usual(machine, site);
    let (host, station) = (site.neighbour(1), vm_plan.station);
    let begun = Instant::now();
    let vm = Vm::boot(&vm_plan, site).unwrap();
    println!("booted in {:?} with {:?}", begun.elapsed(), vm_plan.machine.accelerator);

    let neighbour = serve_as_neighbour(&host, site.neighbour_station(1));
    let near = targets(site.neighbour_station(1), NEIGHBOUR_PORT);
    let mut control = control(&host, station);
    control.connect_to(flows(2, &near, Mode::Idle)).unwrap();
    control.connect_to(flows(4, &near, Mode::Paced { size: 200, interval_ms: 100 })).unwrap();
    control.dirty(DirtyRate { mib_per_s: 8, working_set_mib: 32 }).unwrap();

    let (process, mut clients) = lab::clients::start(&host).unwrap();
    clients.start(traffic(station), WAIT_MAX).unwrap();
    let talking = Instant::now();
    wait("every flow's traffic", WAIT_MAX, || {
        let report = clients.report().unwrap();
        if has_talked(&report) { Ok(()) } else { Err(summary(&report)) }
    });
    let answers: u64 = clients.report().unwrap().flows.iter().map(|flow| flow.answers).sum();
    println!("{answers} answers in {:?}", talking.elapsed());

    let running = site.place().path(Path::new("/run/copy"));
    let known = control.counters().unwrap().records.unwrap().synced;
    std::fs::copy(vm.disk(), &running).unwrap();
    let copied = check_image(&running, vm_plan.records_start).unwrap();
    assert!(copied.records >= known, "{copied} of {known} that were fsynced");

    let report = clients.stop(WAIT_MAX).unwrap();
    assert!(process.wait(WAIT_MAX).unwrap().success());
    check_clients(&report);
    check_against_log(&mut control, &report);
    check_neighbour(&mut control);
    drop(neighbour);

    let counters = wait("records and dirty pages", WAIT_MAX, || {
        let counters = control.counters().unwrap();
        let recorded = counters.records.as_ref().unwrap().synced >= 20;
        let enough = recorded && counters.dirty.pages >= 1000;
        if enough { Ok(counters) } else { Err(format!("{counters:?}")) }
    });
    vm.wait_alive().unwrap();
    let disk = vm.disk();
    println!("{}", vm.end().unwrap());
    let records = check_image(&disk, vm_plan.records_start).unwrap();
    println!("{records}");
    assert!(records.is_one_boot() && !records.torn_tail, "{records}");
    assert!(records.records >= counters.records.unwrap().synced, "{records}");
    assert_eq!(records.runs[0].boot, counters.boot);
}

fn has_talked(report: &Report) -> bool {
    let busy = report.flows.iter().filter(|flow| flow.mode != Mode::Idle);
    let flows = busy.map(|flow| flow.answers).min() >= Some(3);
    flows && report.sessions.iter().all(|session| session.answers.received >= 5)
}

fn summary(report: &Report) -> String {
    let open = report.flows.iter().filter(|flow| flow.ending.is_open()).count();
    let silent = report.flows.iter().filter(|flow| flow.answers == 0).count();
    let ended = report.flows.iter().find(|flow| !flow.ending.is_open());
    format!("{open} flows open, {silent} without an answer, the first that ended: {ended:?}")
}

fn check_clients(report: &Report) {
    assert_eq!((report.flows.len(), report.sockets_new), (1000, 0));
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Client }, "{flow:#?}");
        assert_eq!((flow.verified_up, flow.answers), (flow.sent, flow.asks), "{flow:#?}");
    }
    for session in &report.sessions {
        assert!(session.settled && session.still_known(), "{session:#?}");
        assert_eq!((session.lost_up(), session.lost_down()), (0, 0), "{session:#?}");
        assert_eq!(session.at_server.duplicates, 0, "{session:#?}");
    }
}

/// Every flow is one line of the guest's log, found by its address, and both say the same.
fn check_against_log(control: &mut Control<TcpStream>, report: &Report) {
    let log = wait("the end of every flow in the guest's log", WAIT_MAX, || {
        let log = control.log().unwrap();
        let open = log.accepted.iter().filter(|line| line.ending.is_open()).count();
        if open == 0 { Ok(log) } else { Err(format!("{open} are open")) }
    });
    assert_eq!(log.accepted.len(), report.flows.len());
    for flow in &report.flows {
        let line = log.accepted.iter().find(|line| Some(line.peer) == flow.local).unwrap();
        assert_eq!((Some(line.token), &line.ending), (flow.token, &flow.ending));
        assert_eq!((line.verified, line.sent), (flow.sent, flow.verified_down));
    }
    for session in &report.sessions {
        let line = log.sessions.iter().find(|line| line.peer == session.local).unwrap();
        assert_eq!((Some(line.token), line.counts), (session.token, session.at_server));
    }
}

fn check_neighbour(control: &mut Control<TcpStream>) {
    let opened = wait("traffic to the neighbour", WAIT_MAX, || {
        let opened = control.log().unwrap().opened;
        let busy = opened.iter().filter(|flow| flow.mode != Mode::Idle && flow.answers >= 3);
        if busy.count() == 4 { Ok(opened) } else { Err(format!("{opened:#?}")) }
    });
    assert_eq!(opened.len(), 6);
    assert!(opened.iter().all(|flow| flow.ending.is_open() && flow.token.is_some()));
    assert!(opened.iter().any(|flow| flow.local.unwrap().is_ipv6()));
}
