//! Checked flows from one machine to another: every byte is checked at both ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use guest::clients::Clients;
use guest::flows::plan::{FlowSpec, Mode, Plan, SessionSpec};
use guest::flows::{FlowRecord, Report, SessionRecord};
use guest::service::READY;
use lab::host::Host;

const PORT: u16 = 7000;
/// Longest wait for all to be open, or over; generous, for machines that are busy.
const SOON: Duration = Duration::from_secs(30);

/// A server on a machine; it ends with the value.
pub struct Server {
    _child: Program,
}

/// Clients on a machine; they end with the value.
pub struct Flows {
    what: &'static str,
    clients: Clients<ChildStdin, ChildStdout>,
    child: Program,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the guest's program in the calling thread's network.
fn start(args: &[&str]) -> Child {
    let mut command = Command::new(lab::programs::path("causeway-guest").unwrap());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

impl Server {
    /// Serves there by every address.
    ///
    /// # Panics
    /// It does not start.
    pub fn on(host: &Host) -> Server {
        let mut child = host.inside(|| start(&["serve"])).unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with(READY), "{ready}");
        Server { _child: Program(child) }
    }
}

impl Flows {
    /// Of every kind, to these addresses, from the calling thread's network.
    pub fn start(what: &'static str, to: &[IpAddr]) -> Flows {
        Flows::open(what, to, &[], 8)
    }

    /// Of every kind but those that fill queues: what holds a machine up for a moment then costs no
    /// packet.
    ///
    /// # Panics
    /// They do not come about.
    pub fn without_bulk_on(host: &Host, what: &'static str, to: &[IpAddr]) -> Flows {
        host.inside(|| Flows::open_with(what, to, &[], 8, 0)).unwrap()
    }

    fn open(what: &'static str, to: &[IpAddr], sources: &[IpAddr], sessions: usize) -> Flows {
        Flows::open_with(what, to, sources, sessions, 2)
    }

    fn open_with(
        what: &'static str,
        to: &[IpAddr],
        sources: &[IpAddr],
        sessions: usize,
        bulk: usize,
    ) -> Flows {
        let mut child = start(&["clients"]);
        let clients = Clients::over(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut flows = Flows { what, clients, child: Program(child) };
        let targets: Vec<_> = to.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect();
        let sessions = SessionSpec {
            count: sessions,
            targets: targets.clone(),
            sources: sources.to_vec(),
            size: 400,
            interval_ms: 10,
        };
        let plan = Plan {
            flows: vec![
                spec(8, &targets, sources, Mode::Paced { size: 300, interval_ms: 10 }),
                spec(2, &targets, sources, Mode::PingPong { size: 64 }),
                spec(2, &targets, sources, Mode::Idle),
                spec(bulk, &targets, sources, Mode::Paced { size: 20_000, interval_ms: 20 }),
            ],
            sessions: vec![sessions],
        };
        flows.clients.start(plan, SOON).unwrap();
        flows.assert_alive();
        flows
    }

    /// Of every kind, from a machine to these addresses.
    ///
    /// # Panics
    /// They do not come about.
    pub fn on(host: &Host, what: &'static str, to: &[IpAddr]) -> Flows {
        host.inside(|| Flows::start(what, to)).unwrap()
    }

    /// TCP alone.
    pub fn tcp_on(host: &Host, what: &'static str, to: &[IpAddr]) -> Flows {
        Flows::tcp_on_from(host, what, to, &[])
    }

    /// TCP alone, from these addresses of the host's.
    pub fn tcp_on_from(host: &Host, what: &'static str, to: &[IpAddr], from: &[IpAddr]) -> Flows {
        host.inside(|| Flows::open(what, to, from, 0)).unwrap()
    }

    fn assert_alive(&mut self) -> Report {
        let report = self.clients.report().unwrap();
        let dead: Vec<&FlowRecord> = report
            .flows
            .iter()
            .filter(|flow| flow.token.is_none() || !flow.ending.is_open())
            .collect();
        assert!(dead.is_empty(), "{}: {dead:#?}", self.what);
        report
    }

    /// Waits until every flow that speaks and every session was answered again from now on.
    pub fn answered_again(&mut self) {
        let before = self.assert_alive();
        crate::site::eventually(|| {
            let now = self.assert_alive();
            let silent: Vec<String> = now
                .flows
                .iter()
                .zip(&before.flows)
                .filter(|(now, before)| now.mode != Mode::Idle && now.answers < before.answers + 2)
                .map(|(now, _)| format!("{} to {}, {:?}", self.what, now.peer, now.mode))
                .chain(now.sessions.iter().zip(&before.sessions).filter_map(|(now, before)| {
                    let silent = now.answers.received < before.answers.received + 2;
                    silent.then(|| format!("{}, UDP to {}", self.what, now.peer))
                }))
                .collect();
            if silent.is_empty() { Ok(()) } else { Err(silent.join("; ")) }
        });
    }

    /// Ends all in order: nothing was lost or doubled, and nobody broke; of a session's datagrams at
    /// most so many came out of order. Says the longest stall.
    pub fn finish(self, reordered_max: u64) -> Duration {
        let Flows { what, clients, child: _child } = self;
        let report = clients.stop(SOON).unwrap();
        let broken: Vec<&FlowRecord> = report
            .flows
            .iter()
            .filter(|flow| !matches!(flow.ending, guest::ending::Ending::Fin { .. }))
            .collect();
        assert!(broken.is_empty(), "{what}: {broken:#?}");
        let wrong = report.sessions.iter().filter(|session| !is_whole(session, reordered_max));
        let wrong: Vec<String> = wrong.map(told).collect();
        assert!(
            wrong.is_empty(),
            "{what}: UDP lost, doubled or out of order:\n{}",
            wrong.join("\n")
        );
        let stalls = report.flows.iter().map(|flow| flow.stall_us_max);
        let stalls = stalls.chain(report.sessions.iter().map(|session| session.stall_us_max));
        Duration::from_micros(stalls.max().unwrap())
    }
}

fn is_whole(session: &SessionRecord, reordered_max: u64) -> bool {
    let counts = [session.at_server, session.answers];
    session.still_known()
        && session.settled
        && session.lost_up() == 0
        && session.lost_down() == 0
        && session.foreign == 0
        && counts.iter().all(|counts| counts.duplicates + counts.ancient == 0)
        && counts.iter().all(|counts| counts.reordered <= reordered_max)
}

fn told(session: &SessionRecord) -> String {
    let (to, sent, lost) = (session.peer, session.sent, [session.lost_up(), session.lost_down()]);
    let counts = [session.at_server, session.answers].map(|counts| {
        format!(
            "{} doubled, {} out of order, {} ancient",
            counts.duplicates, counts.reordered, counts.ancient
        )
    });
    let [there, back] = counts;
    let (settled, known) = (session.settled, session.still_known());
    format!(
        "to {to}: {sent} sent, lost {lost:?}; there {there}; back {back}; settled {settled}, known {known}"
    )
}

fn spec(count: usize, targets: &[SocketAddr], sources: &[IpAddr], mode: Mode) -> FlowSpec {
    FlowSpec {
        count,
        targets: targets.to_vec(),
        sources: sources.to_vec(),
        mode,
        asks_max: None,
        silent_after_ms: None,
    }
}
