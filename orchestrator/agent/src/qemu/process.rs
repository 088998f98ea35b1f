//! One QEMU, held by a descriptor that no reuse of its number can turn to another process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use network::{NetworkError, TapQueue};
use orchestrator_api::VmDefinition;
use placement::{Release, VmName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use super::monitor::{Monitor, MonitorError};
use crate::config::User;
use crate::folders::{self, Folders};

/// How long a killed QEMU may take to be gone.
const DEATH_MAX: Duration = Duration::from_secs(20);

/// A QEMU of a VM, with what reaches it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) made_by: Release,
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    /// Ours to reap, where this very agent started it.
    child: Option<Child>,
    pub(crate) monitors: Option<Monitors>,
}

/// The agent's two monitors of one QEMU.
#[derive(Debug, Clone)]
pub(crate) struct Monitors {
    pub(crate) work: Arc<Monitor>,
    pub(crate) emergency: Arc<Monitor>,
}

impl Process {
    /// One that was just started.
    pub(crate) fn started(made_by: Release, child: Child) -> io::Result<Process> {
        let pid = child.id();
        Ok(Process { made_by, pid, pidfd: open(pid)?, child: Some(child), monitors: None })
    }

    /// Every QEMU of this VM on the host, found by what its command line says and whose it is. Whether
    /// it is the VM's own, its monitor tells.
    pub(crate) fn find(
        vm: &VmName,
        definition: &VmDefinition,
        user: &User,
    ) -> io::Result<Vec<Process>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // Looked at again once it is held: until then another could have taken its number.
            if made_by(pid, vm, definition, user).is_none() {
                continue;
            }
            let Ok(pidfd) = open(pid) else { continue };
            if let Some(made_by) = made_by(pid, vm, definition, user) {
                found.push(Process { made_by, pid, pidfd, child: None, monitors: None });
            }
        }
        Ok(found)
    }

    /// Connects to the monitors, unless that is done, and makes sure that they are this process's and
    /// this VM's.
    pub(crate) async fn connect(
        &mut self,
        vm: &VmName,
        definition: &VmDefinition,
        folders: &Folders,
    ) -> Result<Monitors, ConnectError> {
        if let Some(monitors) = &self.monitors
            && !monitors.work.has_ended()
        {
            return Ok(monitors.clone());
        }
        self.monitors = None;
        let epoch = self.made_by.epoch;
        let path = |monitor| folders.monitor(vm, epoch, monitor);
        let work = self.own(&path(folders::Monitor::Work)?, false).await?;
        let emergency = self.own(&path(folders::Monitor::Emergency)?, true).await?;
        let uuid = work.execute("query-uuid", Value::Object(Default::default())).await?;
        if uuid["UUID"].as_str() != Some(definition.uuid.as_str()) {
            return Err(ConnectError::Stranger { pid: self.pid });
        }
        let monitors = Monitors { work: Arc::new(work), emergency: Arc::new(emergency) };
        self.monitors = Some(monitors.clone());
        Ok(monitors)
    }

    async fn own(&self, path: &Path, out_of_band: bool) -> Result<Monitor, ConnectError> {
        let monitor = Monitor::connect(path, out_of_band).await?;
        if monitor.peer() == Some(self.pid) {
            return Ok(monitor);
        }
        Err(ConnectError::Stranger { pid: self.pid })
    }

    /// The taps that its cards end on, in their order.
    pub(crate) fn taps(&self) -> io::Result<Vec<String>> {
        let folder = PathBuf::from(format!("/proc/{}/fdinfo", self.pid));
        let mut taps = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok())
            else {
                continue;
            };
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let tap = text.lines().find_map(|line| line.strip_prefix("iff:"));
            if let Some(tap) = tap {
                taps.push((number, tap.trim().to_owned()));
            }
        }
        taps.sort();
        Ok(taps.into_iter().map(|(_, tap)| tap).collect())
    }

    /// What waits in one of its taps.
    pub(crate) fn tap_queue(&self, tap: &str) -> Result<TapQueue, NetworkError> {
        TapQueue::of_process(self.pidfd.as_fd(), self.pid, tap)
    }

    /// Whether it has ended; reaps it then.
    pub(crate) fn has_ended(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            return !matches!(child.try_wait(), Ok(None));
        }
        is_readable(&self.pidfd, Duration::ZERO).unwrap_or(false)
    }

    /// Ends it, and sees it dead.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.monitors = None;
        if self.has_ended() {
            return Ok(());
        }
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let pidfd = self.pidfd.try_clone()?;
        let ended = tokio::task::spawn_blocking(move || is_readable(&pidfd, DEATH_MAX));
        if !ended.await.map_err(io::Error::other)?? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Some(child) = &mut self.child {
            child.wait()?;
        }
        Ok(())
    }
}

/// Why a process's monitors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// They do not answer.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// Their paths cannot be.
    #[error(transparent)]
    Folder(#[from] folders::FolderError),
    /// Somebody else answers there.
    #[error(
        "process {pid} has this VM's name, and another process or VM answers at its monitor; end whichever is not the agent's"
    )]
    Stranger {
        /// The process.
        pid: u32,
    },
}

/// A process's descriptor can be read once it has ended.
fn is_readable(pidfd: &OwnedFd, bound: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    let bound = Timespec::try_from(bound).map_err(io::Error::other)?;
    Ok(poll(&mut polled, Some(&bound))? > 0)
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(number, PidfdFlags::NONBLOCK)?)
}

/// What made process `pid`, if it is a QEMU of this VM.
fn made_by(pid: u32, vm: &VmName, definition: &VmDefinition, user: &User) -> Option<Release> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    if fs::metadata(&folder).ok()?.uid() != user.uid {
        return None;
    }
    let line = fs::read(folder.join("cmdline")).ok()?;
    let words: Vec<&str> =
        line.split(|b| *b == 0).map_while(|w| std::str::from_utf8(w).ok()).collect();
    let value_of = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).copied()
    };
    let is_this_vm = value_of("-uuid") == Some(definition.uuid.as_str());
    folders::made_by(vm, value_of("-name")?).filter(|_| is_this_vm)
}
