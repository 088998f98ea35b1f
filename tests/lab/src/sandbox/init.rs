//! The first process of a place: makes it, starts what the harness asks for, reaps what ends. It
//! lives as long as the harness holds the other end of its socket; when it goes, by whatever death
//! of the harness, the kernel ends every process of the place with it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, wait, waitid,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::mounts::{self, Proc};
use super::wire::{self, Event, Request, STREAMS};
use crate::kernel;

/// The whole environment that a program in a place has before its own is added.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a place is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its host name.
    pub hostname: String,
    /// Folders that stay visible below covered ones.
    pub kept: Vec<PathBuf>,
    /// Which processes it sees.
    pub proc: Proc,
}

/// Runs the place until the harness is gone. Standard input is the socket to the harness.
pub fn run(settings: &Settings) -> io::Result<()> {
    kernel::close_inherited()?;
    let socket = fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    if let Err((what, cause)) = make(settings) {
        let reason = format!("cannot {what}: {cause}");
        return wire::send(socket.as_fd(), &Event::Failed { reason }, &[]);
    }
    let house = Arc::new(House::new(socket));
    wire::send(house.socket.as_fd(), &Event::Ready, &[])?;
    let reaper = Arc::clone(&house);
    thread::Builder::new().name("reaper".to_owned()).spawn(move || reaper.reap_for_ever())?;
    let mut buffer = Vec::new();
    while let Some((request, streams)) = wire::receive(&house.socket, &mut buffer)? {
        match request {
            Request::Spawn { id, netns, program, args, env } => {
                let mut command = Command::new(program);
                command.args(args).env_clear().env("PATH", PATH).envs(env);
                house.start(id, netns.as_deref(), command, streams)?;
            }
            Request::Signal { id, signal } => house.signal(id, signal)?,
        }
    }
    Ok(())
}

fn make(settings: &Settings) -> Result<(), (String, io::Error)> {
    mounts::arrange(&settings.kept, settings.proc)?;
    rustix::system::sethostname(settings.hostname.as_bytes())
        .map_err(|cause| ("set the host name".to_owned(), cause.into()))
}

/// The processes that the harness asked for and that have not been reaped.
#[derive(Default)]
struct Running {
    id_of: HashMap<Pid, u64>,
    pid_of: HashMap<u64, Pid>,
    /// Grows with each start, so that a reaper without children knows when to look again.
    started: u64,
}

struct House {
    socket: OwnedFd,
    running: Mutex<Running>,
    has_started: Condvar,
}

impl House {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, running: Mutex::default(), has_started: Condvar::new() }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the lock over start and entry, so that no process is reaped before it is entered, and
    /// its end is told after its start.
    fn start(
        &self,
        id: u64,
        netns: Option<&str>,
        command: Command,
        streams: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let mut running = self.running();
        let started = spawn(netns, command, streams);
        let event = match started {
            Ok(pid) => {
                running.id_of.insert(pid, id);
                running.pid_of.insert(id, pid);
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                Event::Spawned { id, pid }
            }
            Err(cause) => Event::Refused { id, reason: cause.to_string() },
        };
        running.started += 1;
        self.has_started.notify_all();
        wire::send(self.socket.as_fd(), &event, &[])
    }

    /// A process that has ended keeps its number until it is reaped, under the same lock: a signal
    /// cannot hit another.
    fn signal(&self, id: u64, signal: i32) -> io::Result<()> {
        let running = self.running();
        let (Some(&pid), Some(signal)) = (running.pid_of.get(&id), Signal::from_named_raw(signal))
        else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    fn reap_for_ever(&self) {
        loop {
            let seen = self.running().started;
            let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            if matches!(waitid(WaitId::All, peek), Err(Errno::CHILD)) {
                // Without a child there is no descendant either: only a start changes that.
                let running = self.running();
                drop(self.has_started.wait_while(running, |running| running.started == seen));
                continue;
            }
            self.reap_one();
        }
    }

    fn reap_one(&self) {
        let mut running = self.running();
        let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) else {
            return;
        };
        let Some(id) = running.id_of.remove(&pid) else {
            return;
        };
        running.pid_of.remove(&id);
        let status = status.as_raw();
        // A harness that is gone needs no news; the main thread sees that it is.
        let _ = wire::send(self.socket.as_fd(), &Event::Ended { id, status }, &[]);
    }
}

/// A thread made for it enters the network namespace, so the place's first process itself never
/// leaves its own: whoever looks at it sees where it is.
fn spawn(netns: Option<&str>, mut command: Command, streams: Vec<OwnedFd>) -> io::Result<Pid> {
    let [stdin, stdout, stderr]: [OwnedFd; STREAMS] =
        streams.try_into().map_err(|_| io::Error::other("a start without its three streams"))?;
    command
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0)
        .current_dir("/");
    let started = thread::scope(|scope| {
        let apart = scope.spawn(|| {
            if let Some(name) = netns {
                enter(name)?;
            }
            command.spawn()
        });
        apart.join().expect("starting a program does not panic")
    });
    let pid = started?.id();
    Ok(i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a started process has a positive number"))
}

fn enter(name: &str) -> io::Result<()> {
    let netns = File::open(format!("/run/netns/{name}"))
        .map_err(|cause| io::Error::other(format!("no network namespace {name}: {cause}")))?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}
