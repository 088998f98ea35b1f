//! What guest and clients say when something between them is broken.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::sync::atomic::Ordering;

use guest::ending::Ending;
use guest::flows::plan::{Mode, Plan};
use guest::flows::{FlowRecord, Report};
use guest::traffic::frame::HEADER_BYTES;
use guest::traffic::hello::HELLO_BYTES;
use guest::traffic::{Fault, Where};

use support::relay::{UdpRelay, Way, corrupting, reconnecting};
use support::{ClientsProcess, Guest, WAIT_MAX, eventually, flows, sessions};

const SIZE: u32 = 1000;
const FRAME: u64 = HEADER_BYTES as u64 + SIZE as u64;

/// Runs one flow to `target` until it has ended.
fn flow_until_its_end(target: std::net::SocketAddr) -> FlowRecord {
    let mut clients = ClientsProcess::launch();
    let flows = vec![flows(1, &[target], Mode::PingPong { size: SIZE })];
    clients.commands().start(Plan { flows, sessions: vec![] }, WAIT_MAX).unwrap();
    let mut report: Report = eventually(|| {
        let report = clients.commands().report().unwrap();
        if report.flows[0].ending.is_open() { Err(format!("{report:?}")) } else { Ok(report) }
    });
    report.flows.remove(0)
}

#[test]
fn a_byte_altered_on_the_way_down_is_located_by_the_client() {
    let guest = Guest::start(&[]);
    // In the payload of the third answer, 77 bytes in.
    let offset = HELLO_BYTES as u64 + 2 * FRAME + HEADER_BYTES as u64 + 77;
    let flow = flow_until_its_end(corrupting(guest.v4(), Way::Down, offset));
    let place = Where { stream_offset: offset, frame: 2, payload_offset: 2 * u64::from(SIZE) + 77 };
    match flow.ending {
        Ending::Faulted { fault: Fault::Altered { at, expected, found } } => {
            assert_eq!((at, found), (place, expected ^ 0x10));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(flow.verified_down, place.payload_offset);
}

#[test]
fn a_byte_altered_on_the_way_up_is_located_by_the_guest() {
    let guest = Guest::start(&[]);
    let offset = 4 * FRAME + HEADER_BYTES as u64 + 5;
    let flow = flow_until_its_end(corrupting(guest.v4(), Way::Up, offset));
    assert!(!flow.ending.is_open());
    let log = guest.log_when(|log| log.accepted.iter().all(|line| !line.ending.is_open()));
    let line = log.accepted.iter().find(|line| Some(line.token) == flow.token).unwrap();
    match &line.ending {
        Ending::Faulted { fault: Fault::Altered { at, .. } } => {
            assert_eq!((at.stream_offset, at.frame), (offset, 4));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_opened_anew_behind_the_clients_back_is_told_by_its_token() {
    let guest = Guest::start(&[]);
    // Between two answers, where the second connection's stream fits in without a seam.
    let flow = flow_until_its_end(reconnecting(guest.v4(), HELLO_BYTES as u64 + 3 * FRAME));
    let Ending::Faulted { fault: Fault::Reestablished { at, token } } = flow.ending else {
        panic!("{flow:#?}");
    };
    assert_eq!((at.frame, at.stream_offset), (3, HELLO_BYTES as u64 + 3 * FRAME));
    let log = guest.log_when(|log| log.accepted.len() == 2);
    let tokens: Vec<_> = log.accepted.iter().map(|line| Some(line.token)).collect();
    assert!(tokens.contains(&flow.token) && tokens.contains(&Some(token)));
}

#[test]
fn lost_and_repeated_datagrams_are_counted_at_both_ends() {
    let guest = Guest::start(&[]);
    let relay = UdpRelay::start(guest.v4());
    let mut clients = ClientsProcess::launch();
    let plan = Plan { flows: vec![], sessions: vec![sessions(1, &[relay.address], 5)] };
    clients.commands().start(plan, WAIT_MAX).unwrap();
    eventually(|| {
        let report = clients.commands().report().unwrap();
        let session = &report.sessions[0];
        if session.sent >= 150 { Ok(()) } else { Err(format!("{session:?}")) }
    });
    // What is still on its way when the relay turns kind is neither lost nor repeated.
    relay.be_kind();
    let sent = clients.commands().report().unwrap().sessions[0].sent;
    eventually(|| {
        let session = clients.commands().report().unwrap().sessions.remove(0);
        if session.answers.highest > sent + 3 { Ok(()) } else { Err(format!("{session:?}")) }
    });
    let session = stop_soon(clients);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
    assert!(session.settled && session.still_known(), "{session:#?}");
    assert!(count(&relay.lost_up) > 10 && count(&relay.repeated_down) > 5);
    assert_eq!(session.lost_up(), count(&relay.lost_up), "{session:#?}");
    assert_eq!(session.at_server.duplicates, count(&relay.repeated_up), "{session:#?}");
    let back = session.answers;
    // An answer to a repeated datagram is a repeated answer, whether or not the relay repeats it.
    let answered = session.at_server.received + session.at_server.duplicates;
    let came = back.received + back.duplicates;
    assert_eq!(came, answered - count(&relay.lost_down) + count(&relay.repeated_down));
    let log = guest.log_when(|log| log.sessions.len() == 1);
    assert_eq!(log.sessions[0].counts, session.at_server);
}

/// Lost answers never come, so that the end is the longest wait: keep it short.
fn stop_soon(clients: ClientsProcess) -> guest::flows::SessionRecord {
    clients.stop_within(std::time::Duration::from_secs(2)).sessions.remove(0)
}

#[test]
fn a_guest_that_has_forgotten_a_session_is_found_out() {
    let first = Guest::start(&[]);
    let port = format!("--port={}", first.v4().port());
    let mut clients = ClientsProcess::launch();
    let plan = Plan { flows: vec![], sessions: vec![sessions(1, &[first.v4()], 10)] };
    clients.commands().start(plan, WAIT_MAX).unwrap();
    let session =
        |clients: &mut ClientsProcess| clients.commands().report().unwrap().sessions.remove(0);
    eventually(|| session(&mut clients).token.ok_or_else(String::new));
    assert!(session(&mut clients).still_known());
    drop(first);
    let _second = Guest::start(&[&port]);
    eventually(|| session(&mut clients).token_changed.ok_or_else(String::new));
    assert!(!session(&mut clients).still_known());
}
