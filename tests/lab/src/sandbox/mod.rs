//! A place: a tree of processes that shares nothing with the rest of the machine but the read-only
//! programs. A site of the lab is one, and so is what stands around the sites.
//!
//! ```text
//! harness ──socket──> causeway-lab place (pid 1) ──starts, signals, reaps──> programs
//! ```
//!
//! The harness asks the place's first process to start programs and hands their streams over, so
//! nothing but that process ever stands between a handle and its program, and statuses and signals
//! are the kernel's own. The socket is also the lifeline: when the harness ends, however it ends,
//! pid 1 reads the end of it and leaves, and the kernel kills the whole tree. (A parent-death
//! signal would not do: it fires when the *thread* that started the child ends.)

mod init;
mod link;
mod mounts;
mod process;
mod wire;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

pub use init::{Settings, run};
pub(crate) use mounts::{COPIED, COVERED, OWN, layer_of};
pub use mounts::{Proc, STATE};
pub(crate) use process::run as run_to_end;
pub use process::{Launch, Process};

use crate::host::Host;
use crate::{LabError, kernel, programs};
use link::Link;

/// How long a place may take to stand; a loaded machine needs a fraction of it.
const MAKE_MS_MAX: u64 = 20_000;
/// How long the kernel may take to end a place's processes.
const END_MS_MAX: u64 = 10_000;
/// How often an ending place is looked at.
const END_POLL_MS: u64 = 2;

/// What a place is to be.
#[derive(Debug, Clone)]
pub struct PlacePlan {
    /// Its name, also its host name.
    pub name: String,
    /// Which processes it sees.
    pub proc: Proc,
    /// Folders of the machine to keep in sight, read-only as all others, though they lie below one
    /// that a place covers (`/tmp`, `/run`, `/var/tmp`, `/dev/shm`).
    pub kept: Vec<PathBuf>,
}

impl PlacePlan {
    /// A place that sees its own processes alone.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), proc: Proc::Own, kept: Vec::new() }
    }
}

/// A place that stands. Clones are handles to the same one; it ends with the last of them, or at
/// [`Place::end`], or with the harness.
#[derive(Clone)]
pub struct Place(Arc<Inner>);

struct Inner {
    name: String,
    proc: Proc,
    init_pid: u32,
    link: Arc<Link>,
    alive: Mutex<Option<(Child, JoinHandle<()>)>>,
}

impl Place {
    /// Makes the place and waits until it stands.
    pub fn make(plan: &PlacePlan) -> Result<Self, LabError> {
        let program = programs::path("causeway-lab")?;
        let mut kept = vec![programs::folder()?];
        kept.extend(plan.kept.iter().cloned());
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|cause| LabError::refused("make a pair of sockets", cause))?;
        let mut command = Command::new(program);
        command.arg("place").arg("--hostname").arg(&plan.name);
        for folder in &kept {
            command.arg("--keep").arg(folder);
        }
        if plan.proc == Proc::Machine {
            command.arg("--machine-proc");
        }
        // A group of its own: a terminal's Ctrl-C is for the harness, which then takes the place along.
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).process_group(0);
        let child = start_apart(command)
            .map_err(|cause| LabError::refused(format!("start place {}", plan.name), cause))?;
        let init_pid = child.id();
        let link = Arc::new(Link::new(plan.name.clone(), ours));
        let reader = Arc::clone(&link);
        let reader = thread::spawn(move || reader.read_to_end());
        let place = Self(Arc::new(Inner {
            name: plan.name.clone(),
            proc: plan.proc,
            init_pid,
            link,
            alive: Mutex::new(Some((child, reader))),
        }));
        place.0.link.wait_ready(Duration::from_millis(MAKE_MS_MAX))?;
        fs::create_dir_all(place.path(Path::new(process::LOGS)))
            .map_err(|cause| LabError::file("make", Path::new(process::LOGS), cause))?;
        place.host(None).succeed(&["ip", "link", "set", "lo", "up"])?;
        Ok(place)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The machine's number of the place's first process, whose `/proc` entry leads inside.
    pub fn init_pid(&self) -> u32 {
        self.0.init_pid
    }

    /// The number of the place's first process as the place's own `/proc` tells it.
    pub(crate) fn init_pid_shown(&self) -> u32 {
        match self.0.proc {
            Proc::Own => 1,
            Proc::Machine => self.0.init_pid,
        }
    }

    /// A path of the place as the harness reaches it.
    pub fn path(&self, inside: &Path) -> PathBuf {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        PathBuf::from(format!("/proc/{}/root", self.0.init_pid)).join(relative)
    }

    /// Writes a file inside, its folders too.
    pub fn write_file(&self, inside: &Path, bytes: impl AsRef<[u8]>) -> Result<(), LabError> {
        let path = self.path(inside);
        let failed = |cause| LabError::file(&format!("write, in {},", self.name()), inside, cause);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&path, bytes).map_err(failed)
    }

    /// Reads a file inside.
    pub fn read_file(&self, inside: &Path) -> Result<Vec<u8>, LabError> {
        fs::read(self.path(inside))
            .map_err(|cause| LabError::file(&format!("read, in {},", self.name()), inside, cause))
    }

    /// Adds machines to the place, each a network namespace with its loopback up.
    pub fn add_hosts(&self, names: &[&str]) -> Result<(), LabError> {
        let batch = names.iter().map(|name| format!("netns add {name}\n"));
        self.host(None).ip_batch(&batch.collect::<String>())?;
        for name in names {
            self.host(Some(name)).ip_batch("link set lo up\n")?;
        }
        Ok(())
    }

    /// One machine of the place by its network namespace; `None` is the place's first namespace,
    /// which has a loopback and nothing else.
    pub fn host(&self, netns: Option<&str>) -> Host {
        Host::new(self.clone(), netns.map(ToOwned::to_owned))
    }

    /// The network namespaces that the place has now, by name.
    pub fn netns_names(&self) -> Result<Vec<String>, LabError> {
        let folder = Path::new("/run/netns");
        let failed = |cause| LabError::file("list", folder, cause);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder)).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// What its programs have written to their logs, by name.
    pub fn logs(&self) -> Result<Vec<(String, String)>, LabError> {
        let folder = Path::new(process::LOGS);
        let failed = |cause| LabError::file("read the logs in", folder, cause);
        let mut logs = Vec::new();
        for entry in fs::read_dir(self.path(folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let text = fs::read(entry.path()).map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            logs.push((name, String::from_utf8_lossy(&text).into_owned()));
        }
        logs.sort();
        Ok(logs)
    }

    /// Ends the place and waits until none of its processes is left.
    pub fn end(&self) -> Result<(), LabError> {
        self.0.end()
    }

    pub(crate) fn start(&self, netns: Option<&str>, launch: &Launch) -> Result<Process, LabError> {
        process::start(self, &self.0.link, netns, launch)
    }
}

impl Inner {
    fn end(&self) -> Result<(), LabError> {
        let taken = self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((mut child, reader)) = taken else {
            return Ok(());
        };
        self.link.close();
        let bound = Duration::from_millis(END_MS_MAX);
        let deadline = Instant::now() + bound;
        while Instant::now() < deadline {
            let status = child.try_wait().map_err(|cause| {
                LabError::refused(format!("wait for place {}", self.name), cause)
            })?;
            if status.is_some() {
                // It ends with its socket, which is closed.
                let _ = reader.join();
                return Ok(());
            }
            thread::sleep(Duration::from_millis(END_POLL_MS));
        }
        let _ = child.kill();
        Err(LabError::TookTooLong { what: format!("the end of place {}", self.name), bound })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

/// Namespaces are left by a thread made for it: new mounts and processes are for its child alone.
fn start_apart(mut command: Command) -> io::Result<Child> {
    thread::scope(|scope| {
        let apart = scope.spawn(move || {
            kernel::leave_all_namespaces()?;
            command.spawn()
        });
        apart.join().expect("starting a program does not panic")
    })
}
