//! What lies between the sites, or between them and management: one running emulator and the way to
//! command it. A cut here discards packets; nobody else is told.

use std::io::{PipeReader, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use wan::{Change, Client, ClientError, Counters, Pair, PlanError};

use super::addresses::DualSubnet;
use crate::LabError;
use crate::host::Host;
use crate::sandbox::{Launch, Place, Process};

/// How long an emulator may take to make its devices.
const READY_MS_MAX: u64 = 20_000;
/// What it says then, among at most so many bytes.
const READY_WORD: &str = "ready";
const READY_BYTES_MAX: usize = 4096;

/// Where a site's router is plugged into an emulator, and what lies behind it.
pub(super) struct Port<'a> {
    pub(super) name: &'a str,
    pub(super) host: Host,
    pub(super) behind: Vec<DualSubnet>,
}

/// Why an emulator did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// No port can have this name.
    #[error("cannot name two ports of the emulator")]
    Name(#[from] PlanError),
    /// It refused, or is gone.
    #[error("the emulator between sites did not do it")]
    Command(#[from] ClientError),
}

/// A running emulator.
pub struct Emulator {
    client: Mutex<Client>,
    process: Process,
}

impl Emulator {
    pub(super) fn start(
        place: &Place,
        name: &str,
        device: &str,
        seed: u64,
        ports: &[Port<'_>],
    ) -> Result<Self, LabError> {
        let control = format!("/run/lab/{name}.sock");
        let mut launch = Launch::ours("causeway-wan")?
            .args(["run", "--control", &control, "--seed", &seed.to_string()])
            .log(name)
            .with_stdout();
        for port in ports {
            let behind: Vec<_> = port.behind.iter().flat_map(|subnet| subnet.each()).collect();
            let netns = port.host.netns_path();
            let netns = netns.display();
            let text = format!("{}={netns}:{device}:{}", port.name, behind.join(","));
            launch = launch.arg("--port").arg(text);
        }
        let mut process = place.host(None).spawn(&launch)?;
        let stdout = process.stdout.take();
        if !stdout.is_some_and(|stdout| is_ready(stdout, Duration::from_millis(READY_MS_MAX))) {
            let log = place.read_file(&launch.log_path())?;
            return Err(LabError::NotStarted {
                program: "causeway-wan".to_owned(),
                place: place.name().to_owned(),
                reason: format!("it never said so; its log: {}", String::from_utf8_lossy(&log)),
            });
        }
        let client = Client::connect(&place.path(Path::new(&control))).map_err(|cause| {
            LabError::refused(format!("command the emulator {name}"), io(cause))
        })?;
        Ok(Self { client: Mutex::new(client), process })
    }

    /// Discards what passes between two ports, both ways, until healed.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), EmulatorError> {
        let pair = Pair::both_ways(one, other)?;
        self.command(|client| client.cut(&pair))
    }

    /// Ends a cut.
    pub fn heal(&self, one: &str, other: &str) -> Result<(), EmulatorError> {
        let pair = Pair::both_ways(one, other)?;
        self.command(|client| client.heal(&pair))
    }

    /// Changes what both directions between two ports are like.
    pub fn set(&self, one: &str, other: &str, change: Change) -> Result<(), EmulatorError> {
        let pair = Pair::both_ways(one, other)?;
        self.command(|client| client.set(&pair, change))
    }

    /// What has passed, per direction.
    pub fn counters(&self) -> Result<Counters, EmulatorError> {
        self.command(Client::counters)
    }

    /// Anything else that an emulator can be told: one direction alone, for one.
    pub fn command<T>(
        &self,
        tell: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, EmulatorError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tell(&mut client)?)
    }

    /// The emulator's own process, for a test that wants to see it fail.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

pub(super) fn io(cause: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::other(cause)
}

/// Whether the word came before the output's end and the bound.
fn is_ready(mut stdout: PipeReader, bound: Duration) -> bool {
    let deadline = Instant::now() + bound;
    let mut said = Vec::new();
    loop {
        if String::from_utf8_lossy(&said).lines().any(|line| line == READY_WORD) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = [PollFd::new(&stdout, PollFlags::IN)];
        let left = Timespec::try_from(left).ok();
        match poll(&mut waiting, left.as_ref()) {
            Ok(0) => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        if waiting[0].revents().is_empty() {
            continue;
        }
        let mut buffer = [0; 256];
        match stdout.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(_) if said.len() > READY_BYTES_MAX => return false,
            Ok(read) => said.extend_from_slice(&buffer[..read]),
        }
    }
}
