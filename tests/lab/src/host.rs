//! One machine of a place: the place's files and processes, and a network namespace of its own.
//! Programs start here, and the test itself can open sockets here.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sandbox::{Launch, Place, Process, run_to_end};
use crate::{LabError, carrier};

/// How long a tool of the system may take to answer.
const TOOL_MS_MAX: u64 = 30_000;

/// A machine of a place.
#[derive(Clone)]
pub struct Host {
    place: Place,
    netns: Option<String>,
}

impl Host {
    pub(crate) fn new(place: Place, netns: Option<String>) -> Self {
        Self { place, netns }
    }

    /// The place that it stands in.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The name of its network namespace; none is the place's first.
    pub fn netns(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    /// Its network namespace, as the harness reaches it.
    pub fn netns_path(&self) -> PathBuf {
        match &self.netns {
            Some(name) => self.place.path(&PathBuf::from("/run/netns").join(name)),
            None => PathBuf::from(format!("/proc/{}/ns/net", self.place.init_pid())),
        }
    }

    /// Starts a program here.
    pub fn spawn(&self, launch: &Launch) -> Result<Process, LabError> {
        self.place.start(self.netns(), launch)
    }

    /// Runs a command line here to its end, bounded; a failure of the command is the caller's to
    /// judge.
    pub fn run(&self, command: &[&str]) -> Result<Output, LabError> {
        self.run_with(command, &[], Duration::from_millis(TOOL_MS_MAX))
    }

    /// As [`Host::run`], with input and a bound of the caller's.
    pub fn run_with(
        &self,
        command: &[&str],
        input: &[u8],
        bound: Duration,
    ) -> Result<Output, LabError> {
        let (program, args) = command.split_first().unwrap_or((&"", &[]));
        let launch = Launch::new(program).args(args.iter().copied());
        run_to_end(&self.place, self.netns(), &launch, input, bound)
    }

    /// Runs a command line that must succeed, and gives what it printed.
    pub fn succeed(&self, command: &[&str]) -> Result<String, LabError> {
        self.succeed_with(command, &[])
    }

    /// As [`Host::succeed`], with input.
    pub fn succeed_with(&self, command: &[&str], input: &[u8]) -> Result<String, LabError> {
        let output = self.run_with(command, input, Duration::from_millis(TOOL_MS_MAX))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(LabError::CommandFailed {
            command: command.join(" "),
            place: self.to_string(),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Runs lines of `ip` commands here in one go; the first that fails ends it.
    pub fn ip_batch(&self, lines: &str) -> Result<(), LabError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.succeed_with(&["ip", "-batch", "-"], lines.as_bytes()).map(drop)
    }

    /// Waits until every link here that is up carries; the kernel tells so up to a second late.
    pub fn wait_for_carrier(&self) -> Result<(), LabError> {
        carrier::wait(self)
    }

    /// Runs `work` of the test itself on this machine's network: sockets that it opens belong here
    /// for as long as they live, wherever they are used later.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let path = self.netns_path();
        let netns = File::open(&path).map_err(|cause| LabError::file("open", &path, cause))?;
        let done = thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|cause| LabError::file("enter", &path, cause))?;
                Ok(work())
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.netns {
            Some(netns) => write!(out, "{}/{netns}", self.place.name()),
            None => out.write_str(self.place.name()),
        }
    }
}
