//! Some sites, and the emulator's program between them.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wan::{Client, Counters, Tally};

use crate::sandbox::Namespace;

/// How long anything may take that is a matter of milliseconds on a free machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before looking again.
const GLANCE: Duration = Duration::from_millis(5);

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(GLANCE);
    }
}

/// Sites `a`, `b`, `c`… with their namespaces; fields are dropped in this order.
pub(crate) struct World {
    pub(crate) emulator: Program,
    pub(crate) sites: Vec<Namespace>,
    pub(crate) folder: TempDir,
}

impl World {
    /// Sites joined by links with these settings.
    pub(crate) fn new(sites: usize, settings: &str) -> Self {
        let sites: Vec<Namespace> = (0..sites).map(|_| Namespace::new().unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("wan.sock");
        let mut words = vec!["--all".to_owned(), settings.to_owned()];
        for (index, site) in sites.iter().enumerate() {
            words.push("--port".into());
            words.push(port(index, &site.path().display().to_string()));
        }
        let emulator = Program::start(control, &words);
        for (index, site) in sites.iter().enumerate() {
            set_up(index, site);
        }
        Self { emulator, sites, folder }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.emulator.control).unwrap()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.client().counters().unwrap()
    }

    /// Waits until nothing is under way, and every packet that a device has counted is accounted
    /// for; gives the counters then.
    pub(crate) fn audited(&self) -> Counters {
        let mut counters = self.counters();
        eventually("the devices' counters, as `ip` shows them too, equal the emulator's", || {
            counters = self.counters();
            let is_shown = |(index, site): (usize, &Namespace)| {
                let device = counters.port(&site_name(index)).unwrap().device.unwrap();
                interface_counters(site) == (device.tx.bytes, device.rx.bytes)
            };
            is_balanced(&counters) && self.sites.iter().enumerate().all(is_shown)
        });
        let is_dropped = |d: &wan::DeviceCounters| d.tx_dropped_packets > 0;
        let dropped = counters.ports.iter().filter_map(|port| port.device).find(is_dropped);
        assert_eq!(dropped, None, "the emulator reads in time");
        counters
    }
}

/// A running emulator; it ends with this.
pub(crate) struct Program {
    pub(crate) control: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Program {
    /// Starts it and waits until it listens.
    pub(crate) fn start(control: PathBuf, words: &[String]) -> Self {
        let mut child = command(&control, words).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = said.find(|line| line.as_ref().unwrap() == "ready");
        let program = Self { control, child, stdin };
        assert!(ready.is_some(), "the emulator ended before it was ready");
        program
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets go of the pipe that keeps it alive.
    pub(crate) fn let_go(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the emulator ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one that is expected to refuse; gives what it said.
pub(crate) fn refusal(control: &Path, words: &[String]) -> String {
    let mut child = command(control, words).stderr(Stdio::piped()).spawn().unwrap();
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!status.success(), "it was expected to refuse");
    said
}

fn command(control: &Path, words: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-wan"));
    command.args(["run", "--seed", "11", "--die-with-stdin", "--control"]).arg(control);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

pub(crate) fn site_name(index: usize) -> String {
    char::from(b'a' + u8::try_from(index).unwrap()).to_string()
}

pub(crate) fn v4(index: usize) -> String {
    format!("10.255.{}.1", index + 1)
}

pub(crate) fn v6(index: usize) -> String {
    format!("[fd00:{}::1]", index + 1)
}

/// A port as the program's command line has it.
pub(crate) fn port(index: usize, namespace: &str) -> String {
    let (name, number) = (site_name(index), index + 1);
    format!("{name}={namespace}:wan0:10.255.{number}.0/24,fd00:{number}::/64")
}

/// What the emulator leaves to its user: addresses, routes, up.
pub(crate) fn set_up(index: usize, site: &Namespace) {
    let number = index + 1;
    let (v4, v6) = (format!("10.255.{number}.1/24"), format!("fd00:{number}::1/64"));
    for words in [
        &["address", "add", &v4, "dev", "wan0"][..],
        &["address", "add", &v6, "dev", "wan0", "nodad"],
        &["link", "set", "wan0", "up"],
        &["route", "add", "10.255.0.0/16", "dev", "wan0"],
        &["route", "add", "fd00::/16", "dev", "wan0"],
    ] {
        site.ip(words).unwrap();
    }
}

/// A UDP socket at a site.
pub(crate) fn socket(site: &Namespace, address: &str) -> UdpSocket {
    let address = address.to_owned();
    let socket = site.enter(move || UdpSocket::bind(format!("{address}:0")).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn is_balanced(counters: &Counters) -> bool {
    let sum = |tallies: Vec<Tally>| tallies.into_iter().fold(Tally::default(), |a, b| a + b);
    counters.directions.iter().all(|d| d.delivery.held == Tally::default())
        && counters.ports.iter().all(|port| {
            let device = port.device.unwrap();
            let from = counters.directions.iter().filter(|d| d.from == port.port);
            let to = counters.directions.iter().filter(|d| d.to == port.port);
            let sent = from.map(|d| d.delivery.offered).chain([port.unroutable, port.oversize]);
            device.tx == sum(sent.collect())
                && device.rx == sum(to.map(|d| d.delivery.delivered).collect())
        })
}

/// Bytes sent and received at a site's device, as `ip` says.
fn interface_counters(site: &Namespace) -> (u64, u64) {
    let text = site.ip(&["-j", "-s", "link", "show", "wan0"]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bytes = |way: &str| links[0]["stats64"][way]["bytes"].as_u64().unwrap();
    (bytes("tx"), bytes("rx"))
}
