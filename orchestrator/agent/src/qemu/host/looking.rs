//! What the VM's processes do: the facts that decisions need, and what is shown of them.

use std::time::Duration;

use orchestrator_api::{ProcessDoes, ProcessView};
use placement::{ProcessState, Release};
use serde_json::Value;
use tokio::time::timeout;

use super::{HostError, QemuHost};
use crate::copy::no_arguments;
use crate::executor::Kept;

/// How long a process may take to say what it does. One that waits for a dead link says nothing, and
/// must not keep the order waiting that ends its wait.
const LOOK_MAX: Duration = Duration::from_secs(2);

impl QemuHost {
    /// What the VM's processes do, as last looked at: now.
    pub(crate) async fn view(&mut self, kept: &Kept) -> Vec<ProcessView> {
        let looked = self.look(kept).await;
        let view = |(made_by, pid, state)| ProcessView { made_by, pid, does: does(state) };
        looked.into_iter().map(view).collect()
    }

    pub(super) async fn look(&mut self, kept: &Kept) -> Vec<(Release, u32, ProcessState)> {
        self.processes.retain_mut(|process| !process.has_ended());
        let mut seen = Vec::new();
        for index in 0..self.processes.len() {
            let Some(process) = self.processes.get(index) else { break };
            let (made_by, pid) = (process.made_by.clone(), process.pid);
            let state = match timeout(LOOK_MAX, self.state(&made_by, kept)).await {
                Ok(Ok(state)) => state,
                Ok(Err(_)) | Err(_) => ProcessState::Unsure,
            };
            seen.push((made_by, pid, state));
        }
        seen
    }

    /// What one process does. An error means that it has not answered.
    async fn state(&mut self, made_by: &Release, kept: &Kept) -> Result<ProcessState, HostError> {
        let work = self.monitors(made_by, kept).await?.work;
        let status = work.execute("query-status", no_arguments()).await?;
        let word = status["status"].as_str().unwrap_or_default();
        if status["running"] == Value::Bool(true) {
            return Ok(ProcessState::Running);
        }
        if self.folder(made_by).is_reserved() {
            let migration = work.execute("query-migrate", no_arguments()).await?;
            let loaded = word != "inmigrate" && migration["status"] == "completed";
            return Ok(ProcessState::Incoming { loaded });
        }
        let copy = self.copy.as_ref().filter(|copy| copy.is_of(made_by));
        let progress = copy.map(|copy| (copy.progress(), copy.is_stopped()));
        Ok(match (word, progress) {
            ("postmigrate", Some((progress, true)))
                if progress.phase == orchestrator_api::Phase::Completed =>
            {
                ProcessState::Completed { of: progress.epoch }
            }
            // It stopped itself to switch over, and runs on by itself when that fails.
            ("finish-migrate", Some((_, false)) | None) => ProcessState::Unsure,
            _ => ProcessState::Stopped,
        })
    }
}

fn does(state: ProcessState) -> ProcessDoes {
    match state {
        ProcessState::Running => ProcessDoes::Runs,
        ProcessState::Unsure => ProcessDoes::Unsure,
        ProcessState::Stopped => ProcessDoes::Stopped,
        ProcessState::Completed { .. } => ProcessDoes::Completed,
        ProcessState::Incoming { loaded: false } => ProcessDoes::Waits,
        ProcessState::Incoming { loaded: true } => ProcessDoes::Loaded,
    }
}
