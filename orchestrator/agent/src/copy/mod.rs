//! The copy: disks mirrored, then memory, then, once the VM was stopped by order, the end of both.
//!
//! ```text
//!  mirror_start        memory_start           stop (an order), finish
//!  Mirroring -> InStep -> Copying <-> Ready ---> Finishing -> Completed
//!      \__________\___________\_________\____________\__> Cancelled, Failed
//! ```
//!
//! Each phase is a task of its own beside the VM's, which goes on to take orders: a cancel ends the
//! phase, whatever it waits for. A copy lives in the agent's memory alone: a restarted agent gives
//! up what its predecessor had begun.

mod cancel;
mod finish;
pub(crate) mod memory;
mod mirror;

use std::path::PathBuf;

use orchestrator_api::{Phase, Progress};
use placement::{Epoch, Release};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::qemu::{Monitor, MonitorError, Monitors, Position};

pub(crate) use cancel::cancel;

/// Why a copy does not go on.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The command does not fit the phase.
    #[error("the copy of this move is {found}, and must be {wanted}")]
    Phase {
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// QEMU said otherwise.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// A mirror ended by itself.
    #[error(
        "the mirror of disk {disk} ended ({why}); see the target and the link, and begin again"
    )]
    Mirror {
        /// Which disk.
        disk: usize,
        /// In QEMU's words.
        why: String,
    },
    /// The memory's copy ended by itself.
    #[error("the copy of memory is {status} ({why}); see the target and the link, and begin again")]
    Memory {
        /// In QEMU's words.
        status: String,
        /// In QEMU's words.
        why: String,
    },
    /// The VM stopped by itself, before an order did it: its source would run on by itself, too.
    #[error(
        "the VM switched over by itself before it was stopped by order, so its copy was given up and it runs on; reserve anew and begin at half the pace"
    )]
    SwitchedOver,
    /// Something of the copy cannot be ended.
    #[error("the copy cannot be ended ({0}); close the move's channels and cancel again")]
    Stuck(String),
}

/// What the phases need.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Which process.
    pub(crate) made_by: Release,
    pub(crate) monitors: Monitors,
    pub(crate) disks: usize,
    /// Where the move's channels are.
    pub(crate) disk_socket: PathBuf,
    pub(crate) memory_socket: PathBuf,
}

impl Source {
    fn work(&self) -> &Monitor {
        &self.monitors.work
    }
}

/// The copy of one move.
#[derive(Debug)]
pub(crate) struct Copy {
    source: Source,
    progress: watch::Sender<Progress>,
    task: Option<JoinHandle<()>>,
    memory: Option<Memory>,
    is_stopped: bool,
}

/// The copy of memory, once it was begun.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Where its events begin.
    from: Position,
    bytes_per_s: u64,
}

impl Copy {
    /// Begins to mirror the disks.
    pub(crate) fn start(source: Source, epoch: Epoch) -> Copy {
        let progress = watch::Sender::new(nothing_done(epoch, Phase::Mirroring));
        let mut copy = Copy { source, progress, task: None, memory: None, is_stopped: false };
        let (source, progress) = (copy.source.clone(), copy.progress.clone());
        copy.run(async move { mirror::run(&source, &progress).await });
        copy
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Whether it copies this process.
    pub(crate) fn is_of(&self, made_by: &Release) -> bool {
        self.source.made_by == *made_by
    }

    /// Whether there is still something of it in QEMU.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.phase(), Phase::Completed | Phase::Cancelled | Phase::Failed)
    }

    /// Whether an order stopped the VM for it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Begins to copy memory.
    pub(crate) fn start_memory(
        &mut self,
        bytes_per_s: u64,
        remaining_bytes_max: u64,
    ) -> Result<(), CopyError> {
        self.must_be("in step", |phase| phase == Phase::InStep)?;
        self.end_task();
        self.progress.send_modify(|progress| progress.phase = Phase::Copying);
        self.memory = Some(Memory { from: self.source.work().position(), bytes_per_s });
        let (source, progress) = (self.source.clone(), self.progress.clone());
        let pace = memory::Pace { bytes_per_s, remaining_bytes_max };
        self.run(async move { memory::run(&source, pace, &progress).await });
        Ok(())
    }

    /// Stops the VM, so that the copy can end. Both happen under one lock of QEMU: where the VM
    /// switched over by itself a moment before, that was told before the answer to our command.
    pub(crate) async fn stop(&mut self) -> Result<(), CopyError> {
        if self.is_stopped {
            return Ok(());
        }
        if self.memory.is_some() {
            self.end_task();
        }
        self.source.work().execute("stop", no_arguments()).await?;
        let status = self.source.work().execute("query-status", no_arguments()).await?;
        // A VM that had switched over by itself is not paused, whatever is ordered then, but
        // finishing its migration, and would run on by itself if the end failed.
        if status["status"] != "paused" {
            self.cancel().await?;
            self.fail(&CopyError::SwitchedOver);
            return Err(CopyError::SwitchedOver);
        }
        self.is_stopped = true;
        Ok(())
    }

    /// Sends the rest, now that the VM stands still.
    pub(crate) fn finish(&mut self) -> Result<(), CopyError> {
        let found = self.phase();
        if matches!(found, Phase::Finishing | Phase::Completed) {
            return Ok(());
        }
        self.must_be("copying or ready, with the VM stopped by order", |phase| {
            matches!(phase, Phase::Copying | Phase::Ready)
        })?;
        let (Some(memory), true) = (self.memory, self.is_stopped) else {
            let wanted = "copying or ready, with the VM stopped by order";
            return Err(CopyError::Phase { found: named(found), wanted });
        };
        self.progress.send_modify(|progress| progress.phase = Phase::Finishing);
        let (source, progress) = (self.source.clone(), self.progress.clone());
        self.run(async move { finish::run(&source, memory, &progress).await });
        Ok(())
    }

    /// Gives it up. The VM runs on, unless an order stopped it.
    pub(crate) async fn cancel(&mut self) -> Result<(), CopyError> {
        self.end_task();
        if self.phase() == Phase::Cancelled {
            return Ok(());
        }
        cancel(&self.source.monitors, !self.is_stopped).await?;
        self.progress.send_modify(|progress| progress.phase = Phase::Cancelled);
        Ok(())
    }

    fn run(&mut self, phase: impl Future<Output = Result<(), CopyError>> + Send + 'static) {
        self.end_task();
        let progress = self.progress.clone();
        self.task = Some(tokio::spawn(async move {
            if let Err(error) = phase.await {
                fail(&progress, &error);
            }
        }));
    }

    /// From here on the phase gives no more commands: a task ends where it waits.
    fn end_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    fn phase(&self) -> Phase {
        self.progress.borrow().phase
    }

    fn must_be(
        &self,
        wanted: &'static str,
        right: impl Fn(Phase) -> bool,
    ) -> Result<(), CopyError> {
        let phase = self.phase();
        if right(phase) { Ok(()) } else { Err(CopyError::Phase { found: named(phase), wanted }) }
    }

    fn fail(&self, error: &CopyError) {
        fail(&self.progress, error);
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.end_task();
    }
}

/// What is said of a copy of which nothing is known but that it was given up.
pub(crate) fn cancelled(epoch: Epoch) -> Progress {
    nothing_done(epoch, Phase::Cancelled)
}

fn nothing_done(epoch: Epoch, phase: Phase) -> Progress {
    Progress {
        epoch,
        phase,
        disk_bytes: 0,
        disk_done_bytes: 0,
        memory_done_bytes: 0,
        memory_remaining_bytes: 0,
        failure: None,
        has_switched_over: false,
    }
}

fn fail(progress: &watch::Sender<Progress>, error: &CopyError) {
    let why = daemon::with_causes(error);
    tracing::warn!(epoch = %progress.borrow().epoch, why, "copy failed");
    progress.send_modify(|progress| {
        progress.phase = Phase::Failed;
        progress.failure = Some(why);
        progress.has_switched_over = matches!(error, CopyError::SwitchedOver);
    });
}

fn named(phase: Phase) -> String {
    let word = match phase {
        Phase::Mirroring => "mirroring",
        Phase::InStep => "in step",
        Phase::Copying => "copying",
        Phase::Ready => "ready",
        Phase::Finishing => "finishing",
        Phase::Completed => "completed",
        Phase::Cancelled => "cancelled",
        Phase::Failed => "failed",
    };
    word.to_owned()
}

/// A mirror's job, and the node that it writes to; its connection is the node's name with `-nbd`.
pub(crate) fn mirror_name(disk: usize) -> String {
    format!("mig{disk}")
}

pub(crate) fn no_arguments() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}
