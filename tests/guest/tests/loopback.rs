//! Guest and clients on loopback, with nothing in between but the kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use guest::dirty::DirtyRate;
use guest::ending::{Ending, Party};
use guest::flows::plan::{Mode, Plan};
use guest::flows::{Pool, Report};
use guest::records::check::check_image;
use guest::server::{CloseHow, Filter};

use support::{ClientsProcess, Guest, WAIT_MAX, eventually, flows, line_of, sessions};

const PACED: Mode = Mode::Paced { size: 300, interval_ms: 50 };

fn start(clients: &mut ClientsProcess, flows: Vec<guest::flows::plan::FlowSpec>) {
    clients.commands().start(Plan { flows, sessions: vec![] }, WAIT_MAX).unwrap();
}

fn report_when(clients: &mut ClientsProcess, right: impl Fn(&Report) -> bool) -> Report {
    eventually(|| {
        let report = clients.commands().report().unwrap();
        if right(&report) { Ok(report) } else { Err(format!("{report:#?}")) }
    })
}

#[test]
fn a_thousand_flows_of_every_mode_keep_every_byte_and_both_logs_agree() {
    let guest = Guest::start(&[]);
    let both = [guest.v4(), guest.v6()];
    let mut clients = ClientsProcess::launch();
    let plan = Plan {
        flows: vec![
            flows(700, &both, Mode::Paced { size: 300, interval_ms: 200 }),
            flows(200, &both, Mode::Idle),
            flows(96, &both, Mode::PingPong { size: 64 }),
            flows(2, &both, Mode::Upload { frame: 16384 }),
            flows(2, &both, Mode::Download { frame: 16384 }),
        ],
        sessions: vec![sessions(50, &both, 100)],
    };
    clients.commands().start(plan, WAIT_MAX).unwrap();
    report_when(&mut clients, |report| {
        let busy = report.flows.iter().filter(|flow| flow.mode != Mode::Idle);
        let talked = busy.map(|flow| flow.answers).min() >= Some(3);
        talked && report.sessions.iter().all(|session| session.answers.received >= 3)
    });
    let report = clients.stop();

    assert_eq!((report.sockets_at_start, report.sockets_new), (1050, 0));
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Client }, "{flow:#?}");
        assert_eq!((flow.verified_up, flow.answers), (flow.sent, flow.asks), "{flow:#?}");
    }
    for session in &report.sessions {
        assert!(session.settled && session.still_known(), "{session:#?}");
        assert_eq!((session.lost_up(), session.lost_down()), (0, 0), "{session:#?}");
    }
    let log = guest.log_when(|log| log.accepted.iter().all(|line| !line.ending.is_open()));
    assert_eq!(log.accepted.len(), 1000);
    for flow in &report.flows {
        let line = line_of(&log, flow.local).unwrap();
        assert_eq!(Some(line.token), flow.token);
        assert_eq!((line.verified, line.sent), (flow.sent, flow.verified_down));
        assert_eq!(line.ending, flow.ending);
    }
    let known: BTreeSet<_> = log.sessions.iter().map(|s| (s.peer, Some(s.token))).collect();
    let told: BTreeSet<_> = report.sessions.iter().map(|s| (s.local, s.token)).collect();
    assert_eq!(known, told);
}

#[test]
fn after_the_clients_fin_the_server_finishes_what_it_was_asked() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    let mut download = flows(2, &[guest.v4(), guest.v6()], Mode::Download { frame: 1 << 20 });
    // Asked for in a few hundred bytes, so that the FIN is out long before the answers are in.
    download.asks_max = Some(20);
    start(&mut clients, vec![download]);
    let report = report_when(&mut clients, |r| r.flows.iter().all(|f| !f.ending.is_open()));
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Client }, "{flow:#?}");
        assert_eq!(flow.verified_down, 20 << 20);
        let log =
            guest.log_when(|log| line_of(log, flow.local).is_some_and(|l| !l.ending.is_open()));
        let line = line_of(&log, flow.local).unwrap();
        assert_eq!((line.sent, &line.ending), (20 << 20, &flow.ending));
    }
}

#[test]
fn a_clients_rst_is_the_clients_in_both_logs() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    start(&mut clients, vec![flows(4, &[guest.v4(), guest.v6()], PACED)]);
    clients.commands().rst(2).unwrap();
    assert!(clients.commands().rst(2).is_err(), "the flow has ended");
    let report = clients.stop();
    let log = guest.log_when(|log| log.accepted.iter().all(|line| !line.ending.is_open()));
    for flow in &report.flows {
        let expected = match flow.id {
            2 => Ending::Rst { by: Party::Client },
            _ => Ending::Fin { by: Party::Client },
        };
        assert_eq!(flow.ending, expected);
        assert_eq!(line_of(&log, flow.local).unwrap().ending, expected);
    }
}

#[test]
fn the_server_ends_on_command_those_that_it_is_told_to_and_as_it_is_told() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    start(&mut clients, vec![flows(6, &[guest.v4(), guest.v6()], PACED)]);
    let before = report_when(&mut clients, |r| r.flows.iter().all(|flow| flow.answers > 0));
    let mut control = guest.control();
    let one = Filter { token: before.flows[0].token, ..Filter::default() };
    assert_eq!(control.close(one.clone(), CloseHow::Rst).unwrap(), 1);
    let other = Filter { peer: before.flows[1].local, ..Filter::default() };
    assert_eq!(control.close(other, CloseHow::Fin).unwrap(), 1);
    assert_eq!(control.close(one, CloseHow::Rst).unwrap(), 0, "it has ended");
    let report = report_when(&mut clients, |r| {
        r.flows.iter().filter(|flow| !flow.ending.is_open()).count() >= 2
    });
    assert_eq!(report.flows[0].ending, Ending::Rst { by: Party::Server });
    assert_eq!(report.flows[1].ending, Ending::Fin { by: Party::Server });
    assert!(report.flows[2..].iter().all(|flow| flow.ending.is_open()));
    let log = guest.log_when(|log| {
        let ended = log.accepted.iter().filter(|line| !line.ending.is_open());
        ended.count() == 2
    });
    for flow in &report.flows[..2] {
        assert_eq!(line_of(&log, flow.local).unwrap().ending, flow.ending);
    }
}

#[test]
fn a_download_that_the_server_ends_is_whole_up_to_its_last_frame() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    start(&mut clients, vec![flows(2, &[guest.v4()], Mode::Download { frame: 65536 })]);
    report_when(&mut clients, |r| r.flows.iter().all(|flow| flow.answers > 100));
    guest.control().close(Filter::default(), CloseHow::Fin).unwrap();
    let report = report_when(&mut clients, |r| r.flows.iter().all(|f| !f.ending.is_open()));
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Server }, "{flow:#?}");
        assert_eq!(flow.verified_down, flow.answers * 65536);
    }
}

#[test]
fn a_pause_of_the_guest_is_a_stall_of_those_it_owes_and_of_no_idle_flow() {
    const PAUSE: Duration = Duration::from_millis(300);
    let guest = Guest::start(&[]);
    let both = [guest.v4(), guest.v6()];
    let mut clients = ClientsProcess::launch();
    let flows = vec![flows(4, &both, PACED), flows(2, &both, Mode::Idle)];
    let plan = Plan { flows, sessions: vec![sessions(2, &both, 20)] };
    clients.commands().start(plan, WAIT_MAX).unwrap();
    let progress = |least: u64| {
        move |report: &Report| {
            report.flows[..4].iter().all(|flow| flow.answers >= least)
                && report.sessions.iter().all(|session| session.answers.received >= least)
        }
    };
    report_when(&mut clients, progress(3));
    guest.stopped_during(|| {
        let owed = |report: &Report| {
            report.flows[..4].iter().all(|flow| flow.asks > flow.answers)
                && report.sessions.iter().all(|s| s.sent > s.answers.highest)
        };
        report_when(&mut clients, owed);
        std::thread::sleep(PAUSE);
    });
    let before = clients.commands().report().unwrap().flows[0].answers;
    report_when(&mut clients, progress(before + 10));
    let report = clients.stop();
    let pause_us = PAUSE.as_micros() as u64;
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Client });
        match flow.mode {
            Mode::Idle => assert_eq!(flow.stall_us_max, 0, "{flow:#?}"),
            _ => assert!(flow.stall_us_max >= pause_us, "{flow:#?}"),
        }
    }
    for session in &report.sessions {
        assert!(session.stall_us_max >= pause_us, "{session:#?}");
        assert_eq!((session.lost_up(), session.lost_down()), (0, 0), "{session:#?}");
    }
}

#[test]
fn silent_and_paused_flows_send_nothing_and_later_go_on() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    let mut silent = flows(1, &[guest.v6()], PACED);
    silent.silent_after_ms = Some(0);
    start(&mut clients, vec![flows(1, &[guest.v4()], PACED), silent]);
    let asks = |report: &Report, id: usize| report.flows[id].asks;
    let report = report_when(&mut clients, |report| asks(report, 0) >= 5);
    assert_eq!(asks(&report, 1), 0);
    clients.commands().silence(vec![0], true).unwrap();
    clients.commands().silence(vec![1], false).unwrap();
    let before = clients.commands().report().unwrap();
    let report = report_when(&mut clients, |report| asks(report, 1) >= 5);
    assert_eq!(asks(&report, 0), asks(&before, 0));
    clients.commands().pause().unwrap();
    let paused = clients.commands().report().unwrap();
    // Other flows, held by nothing but the pause, are the clock here.
    let mut others = ClientsProcess::launch();
    start(&mut others, vec![flows(1, &[guest.v4()], PACED)]);
    report_when(&mut others, |report| asks(report, 0) >= 5);
    assert_eq!(asks(&clients.commands().report().unwrap(), 1), asks(&paused, 1));
    clients.commands().resume().unwrap();
    report_when(&mut clients, |report| asks(report, 1) > asks(&paused, 1));
    let report = clients.stop();
    assert!(report.flows.iter().all(|flow| flow.verified_up == flow.sent));
}

#[test]
fn sockets_opened_after_the_start_are_counted_apart() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    start(&mut clients, vec![flows(3, &[guest.v4()], PACED)]);
    clients.commands().open(flows(2, &[guest.v6()], Mode::PingPong { size: 9 }), WAIT_MAX).unwrap();
    let again = clients.commands().start(Plan::default(), WAIT_MAX);
    assert!(again.unwrap_err().to_string().contains("started already"));
    let report = clients.stop();
    assert_eq!((report.sockets_at_start, report.sockets_new), (3, 2));
    let new = report.flows.iter().filter(|flow| flow.pool == Pool::New);
    assert_eq!(new.map(|flow| flow.id).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_flow_comes_from_the_address_it_is_given() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    let mut spec = flows(4, &[guest.v4()], PACED);
    spec.sources = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    start(&mut clients, vec![spec]);
    let report = clients.stop();
    let from: Vec<String> =
        report.flows.iter().map(|flow| flow.seen.unwrap().ip().to_string()).collect();
    assert_eq!(from, ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"]);
    assert!(report.flows.iter().all(|flow| flow.local == flow.seen));
}

#[test]
fn a_target_where_nobody_listens_ends_the_flow_as_refused() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut clients = ClientsProcess::launch();
    start(&mut clients, vec![flows(1, &[nobody], PACED)]);
    assert_eq!(clients.stop().flows[0].ending, Ending::Refused);
}

#[test]
fn clients_end_with_their_input_and_the_guest_sees_it() {
    let guest = Guest::start(&[]);
    let mut clients = ClientsProcess::launch();
    start(&mut clients, vec![flows(2, &[guest.v4()], PACED)]);
    clients.hang_up();
    guest.log_when(|log| {
        log.accepted.len() == 2 && log.accepted.iter().all(|line| !line.ending.is_open())
    });
}

#[test]
fn commands_that_are_all_there_at_once_are_all_answered() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_causeway-guest"))
        .arg("clients")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "{\"command\":\"juggle\"}\n{\"command\":\"pause\"}\n{\"command\":\"report\"}\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let kinds: Vec<&str> = answers.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["refused", "done", "report"]);
    assert!(answers.contains("juggle") && output.status.success());
}

#[test]
fn the_guest_keeps_connections_to_a_neighbour_and_both_logs_agree() {
    let neighbour = Guest::start(&[]);
    let both = [neighbour.v4(), neighbour.v6()];
    let named = format!("--neighbours={},{}", both[0], both[1]);
    let guest = Guest::start(&[&named, "--neighbour_idle=2", "--neighbour_paced=2"]);
    guest.control().connect_to(flows(2, &both, Mode::PingPong { size: 100 })).unwrap();
    let log = guest.log_when(|log| {
        let busy = log.opened.iter().filter(|flow| flow.mode != Mode::Idle && flow.answers >= 3);
        log.opened.len() == 6 && busy.count() == 4
    });
    assert!(log.opened.iter().all(|flow| flow.ending.is_open()));
    assert_eq!(guest.control().silence(vec![4, 5], true).unwrap(), 2);
    assert_eq!(guest.control().close(Filter::default(), CloseHow::Fin).unwrap(), 6);
    let log = guest.log_when(|log| log.opened.iter().all(|flow| !flow.ending.is_open()));
    let theirs = neighbour.log_when(|log| log.accepted.iter().all(|line| !line.ending.is_open()));
    for flow in &log.opened {
        let line = line_of(&theirs, flow.local).unwrap();
        assert_eq!((Some(line.token), &line.ending), (flow.token, &flow.ending));
        assert_eq!((line.verified, line.sent), (flow.sent, flow.verified_down));
    }
}

#[test]
fn records_and_dirty_memory_obey_the_control_port() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::File::create(&disk).unwrap().set_len(4 << 20).unwrap();
    let guest = Guest::start(&[&format!("--disk={}", disk.display()), "--disk_start=4096"]);
    let mut control = guest.control();
    control.records(500).unwrap();
    control.dirty(DirtyRate { mib_per_s: 20, working_set_mib: 2 }).unwrap();
    let counters = eventually(|| {
        let counters = control.counters().unwrap();
        let records = counters.records.as_ref().unwrap().synced;
        let enough = records >= 10 && counters.dirty.pages >= 100;
        if enough { Ok(counters) } else { Err(format!("{counters:?}")) }
    });
    control.records(0).unwrap();
    let summary = check_image(&disk, 4096).unwrap();
    assert!(summary.is_one_boot() && summary.records >= 10, "{summary}");
    assert_eq!(summary.runs[0].boot, counters.boot);
}

#[test]
fn a_guest_without_a_disk_refuses_records_and_changes_nothing() {
    let guest = Guest::start(&[]);
    let refused = guest.control().records(5).unwrap_err().to_string();
    assert!(refused.contains("no disk"), "{refused}");
}
