//! A program that runs in a place, held by a handle: what it is given, what it says, how it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use super::Place;
use super::link::Link;
use super::wire::Request;
use crate::LabError;

/// Where programs' logs lie, in the place.
pub(super) const LOGS: &str = "/run/lab/logs";
/// How long a killed process may take to be reaped.
const REAP_MS_MAX: u64 = 5_000;

/// A program and what it is given.
#[derive(Debug, Clone)]
pub struct Launch {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: String,
    has_stdin: bool,
    has_stdout: bool,
}

impl Launch {
    /// A program, by path or by name. It gets an empty stdin and writes to a log named after it.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref();
        let log = program.file_name().unwrap_or(program.as_os_str());
        Self {
            program: program.to_string_lossy().into_owned(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.to_string_lossy().into_owned(),
            has_stdin: false,
            has_stdout: false,
        }
    }

    /// A program of this workspace.
    pub fn ours(name: &str) -> Result<Self, LabError> {
        crate::programs::path(name).map(Self::new)
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable; but for these a program has `PATH` alone.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Names the log; programs with the same one append to it in turn.
    #[must_use]
    pub fn log(mut self, name: impl Into<String>) -> Self {
        self.log = name.into();
        self
    }

    /// The handle writes the program's stdin.
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        self.has_stdin = true;
        self
    }

    /// The handle reads the program's stdout; its stderr goes to the log.
    #[must_use]
    pub fn with_stdout(mut self) -> Self {
        self.has_stdout = true;
        self
    }

    /// The log's path in the place.
    pub fn log_path(&self) -> PathBuf {
        Path::new(LOGS).join(&self.log)
    }
}

/// A running program. Dropping the handle kills it, and it alone: what it started lives on, as it
/// would on a machine.
pub struct Process {
    link: Arc<Link>,
    id: u64,
    pid: u32,
    program: String,
    is_detached: bool,
    /// Its stdin, where asked for; dropping it is the end of the program's input.
    pub stdin: Option<PipeWriter>,
    /// Its stdout, where asked for.
    pub stdout: Option<PipeReader>,
}

impl Process {
    /// Its number inside the place.
    pub fn pid_inside(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; to a process that has ended it does nothing.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        self.link.signal(self.id, signal.as_raw())
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Result<Option<ExitStatus>, LabError> {
        self.wait_at_most(Duration::ZERO)
    }

    /// Waits until it has ended and was reaped.
    pub fn wait(&self, bound: Duration) -> Result<ExitStatus, LabError> {
        self.wait_at_most(bound)?.ok_or_else(|| LabError::TookTooLong {
            what: format!("the end of {} in {}", self.program, self.link.place()),
            bound,
        })
    }

    /// Kills it and waits until it was reaped.
    pub fn kill(&self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_millis(REAP_MS_MAX))
    }

    /// Gives up the handle; the program ends by itself or with its place.
    pub fn detach(mut self) {
        self.is_detached = true;
    }

    fn wait_at_most(&self, bound: Duration) -> Result<Option<ExitStatus>, LabError> {
        let status = self.link.wait_ended(self.id, bound)?;
        Ok(status.map(ExitStatus::from_raw))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_detached {
            // Refused only where the place has ended, and the process with it.
            let _ = self.kill();
        }
        self.link.forget(self.id);
    }
}

pub(super) fn start(
    place: &Place,
    link: &Arc<Link>,
    netns: Option<&str>,
    launch: &Launch,
) -> Result<Process, LabError> {
    let log = open_log(place, launch)?;
    let pipe = || io::pipe().map_err(|cause| LabError::refused("make a pipe", cause));
    let (stdin, our_stdin) = if launch.has_stdin {
        let (theirs, ours) = pipe()?;
        (OwnedFd::from(theirs), Some(ours))
    } else {
        (nothing()?, None)
    };
    let (stdout, our_stdout) = if launch.has_stdout {
        let (ours, theirs) = pipe()?;
        (OwnedFd::from(theirs), Some(ours))
    } else {
        (another(&log)?.into(), None)
    };
    let streams = [stdin.as_fd(), stdout.as_fd(), log.as_fd()];
    let (id, pid) = link.start(&launch.program, |id| request(id, netns, launch), &streams)?;
    Ok(Process {
        link: Arc::clone(link),
        id,
        pid,
        program: launch.program.clone(),
        is_detached: false,
        stdin: our_stdin,
        stdout: our_stdout,
    })
}

/// Runs a program to its end with `input`, and gives all it said. Its streams are files in memory,
/// so a child of it that lives on with them open keeps nobody waiting.
pub(crate) fn run(
    place: &Place,
    netns: Option<&str>,
    launch: &Launch,
    input: &[u8],
    bound: Duration,
) -> Result<Output, LabError> {
    let link = &place.0.link;
    let mut stdin = in_memory()?;
    stdin
        .write_all(input)
        .and_then(|()| stdin.rewind())
        .map_err(|cause| LabError::refused("write a program's input", cause))?;
    let (stdout, stderr) = (in_memory()?, in_memory()?);
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let (id, pid) = link.start(&launch.program, |id| request(id, netns, launch), &streams)?;
    let process = Process {
        link: Arc::clone(link),
        id,
        pid,
        program: launch.program.clone(),
        is_detached: false,
        stdin: None,
        stdout: None,
    };
    let status = process.wait(bound)?;
    Ok(Output { status, stdout: read_back(stdout)?, stderr: read_back(stderr)? })
}

fn request(id: u64, netns: Option<&str>, launch: &Launch) -> Request {
    Request::Spawn {
        id,
        netns: netns.map(ToOwned::to_owned),
        program: launch.program.clone(),
        args: launch.args.clone(),
        env: launch.env.clone(),
    }
}

fn open_log(place: &Place, launch: &Launch) -> Result<File, LabError> {
    let path = launch.log_path();
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.path(&path))
        .map_err(|cause| LabError::file("open the log", &path, cause))
}

fn nothing() -> Result<OwnedFd, LabError> {
    File::open("/dev/null")
        .map(Into::into)
        .map_err(|cause| LabError::refused("open /dev/null", cause))
}

fn another(file: &File) -> Result<File, LabError> {
    file.try_clone().map_err(|cause| LabError::refused("copy a descriptor", cause))
}

fn in_memory() -> Result<File, LabError> {
    memfd_create("stream", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|cause| LabError::refused("make a file in memory", cause))
}

fn read_back(mut file: File) -> Result<Vec<u8>, LabError> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(|cause| LabError::refused("read back a program's output", cause))?;
    Ok(bytes)
}
