//! Guests, clients and unkind relays as processes and threads, on loopback alone.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod relay;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use guest::clients::Clients;
use guest::control::Control;
use guest::flows::plan::{FlowSpec, Mode, SessionSpec};
use guest::log::{Accepted, Log};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for what should happen at once; beside a compiler "at once" can take seconds.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running `causeway-guest serve`; it ends with this value.
pub(crate) struct Guest {
    child: Child,
    port: u16,
    control: u16,
}

impl Guest {
    pub(crate) fn start(flags: &[&str]) -> Self {
        // It waits for no input whose end it could see: killed with the test that started it.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_causeway-guest")])
            .args(["serve", "--listen=127.0.0.1,::1", "--port=0", "--control=0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let number = |name: &str| -> u16 {
            let word = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("not ready: '{ready}'")).parse().unwrap()
        };
        let (port, control) = (number("port="), number("control="));
        Self { child, port, control }
    }

    pub(crate) fn v4(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn v6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.port).into()
    }

    /// Lets the guest run no instruction for as long as `work` takes, as a VM that is being moved.
    pub(crate) fn stopped_during(&self, work: impl FnOnce()) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        work();
        kill_process(pid, Signal::CONT).unwrap();
    }

    pub(crate) fn control(&self) -> Control<std::net::TcpStream> {
        Control::connect((Ipv4Addr::LOCALHOST, self.control).into(), WAIT_MAX).unwrap()
    }

    /// The log, once it is as it should be.
    pub(crate) fn log_when(&self, right: impl Fn(&Log) -> bool) -> Log {
        let mut control = self.control();
        eventually(|| {
            let log = control.log().unwrap();
            if right(&log) { Ok(log) } else { Err(format!("{log:#?}")) }
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A running `causeway-guest clients`; it ends with this value.
pub(crate) struct ClientsProcess {
    child: Child,
    commands: Option<Clients<ChildStdin, ChildStdout>>,
}

impl ClientsProcess {
    pub(crate) fn launch() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_causeway-guest"))
            .arg("clients")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = Clients::over(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, commands: Some(commands) }
    }

    pub(crate) fn commands(&mut self) -> &mut Clients<ChildStdin, ChildStdout> {
        self.commands.as_mut().unwrap()
    }

    pub(crate) fn stop(self) -> guest::flows::Report {
        self.stop_within(WAIT_MAX)
    }

    pub(crate) fn stop_within(mut self, wait: Duration) -> guest::flows::Report {
        let report = self.commands.take().unwrap().stop(wait).unwrap();
        assert!(self.child.wait().unwrap().success());
        report
    }

    /// Closes the program's input and returns once it has exited.
    pub(crate) fn hang_up(mut self) {
        self.commands = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ClientsProcess {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Asks again until the answer is right.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + WAIT_MAX;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(now) => assert!(Instant::now() < until, "still not right: {now}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn flows(count: usize, targets: &[SocketAddr], mode: Mode) -> FlowSpec {
    FlowSpec {
        count,
        targets: targets.to_vec(),
        sources: Vec::new(),
        mode,
        asks_max: None,
        silent_after_ms: None,
    }
}

pub(crate) fn sessions(count: usize, targets: &[SocketAddr], interval_ms: u64) -> SessionSpec {
    let (targets, sources) = (targets.to_vec(), Vec::new());
    SessionSpec { count, targets, sources, size: 200, interval_ms }
}

/// The guest's line of the flow that a client calls `local`.
pub(crate) fn line_of(log: &Log, local: Option<SocketAddr>) -> Option<&Accepted> {
    log.accepted.iter().find(|line| Some(line.peer) == local)
}
