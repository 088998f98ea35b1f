//! Memory, copied while the VM runs, until so little remains that the rest fits the pause.
//!
//! A VM that dirties little can switch over by itself before the source's agent sees how little
//! remains. It is none the worse: its copy was given up, it runs on, and the target that had received
//! everything is gone. Then all of the copy begins anew, with a new target, slower, and with more
//! left to send when it is stopped: so it is seen sooner.

use orchestrator_api::{CopyCommand, Doing, MoveProgress, Phase, ProcessDoes, VmDefinition};
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};

use super::copying::{Following, cancel};
use super::mirror::mirror;
use super::reserve::reserve;
use crate::migration::ends::Ends;
use crate::migration::parties::Parties;

/// Copies of one attempt, the first included.
const COPIES_MAX: u32 = 4;
/// Each copy after the first goes at one part in so many of the pace before it...
const SLOWER: u64 = 2;
/// ...and counts as ready with so many times more left.
const SOONER: u64 = 4;

/// See the module.
pub(in crate::migration) struct Memory<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) definition: VmDefinition,
}

impl<P: Parties> Step for Memory<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("memory")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<()>, Trouble> {
        let progress = self.ends.progress(cx).await?;
        let ready = progress.is_some_and(|at| at.phase == Phase::Ready);
        Ok(if ready { Observed::Done(()) } else { Observed::NotDone })
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        self.target_still_waits().await?;
        let mut number = 1;
        while let Err(trouble) = self.copy(cx, number).await {
            let is_last = cx.is_aborted() || number == COPIES_MAX;
            let progress = if is_last { None } else { self.ends.progress(cx).await? };
            if !progress.is_some_and(|at| at.has_switched_over) {
                return Err(trouble);
            }
            number += 1;
            self.tell_anew(cx, number);
            let part = format!("again-{number}");
            reserve(self.ends, cx, &part, &self.definition).await?;
            mirror(self.ends, cx, &format!("mirror-{number}"), number).await?;
        }
        Ok(())
    }
}

impl<P: Parties> Reversible for Memory<'_, P> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        cancel(self.ends, cx).await
    }
}

impl<P: Parties> Memory<'_, P> {
    async fn copy(&self, cx: &Context, number: u32) -> Result<(), Trouble> {
        let options = &self.ends.wanted.options;
        let again = number - 1;
        let bytes_per_s = (options.pace_bytes_per_s / SLOWER.pow(again)).max(1);
        let remaining_bytes_max = options.remaining_bytes_max().saturating_mul(SOONER.pow(again));
        let command = CopyCommand::MemoryStart { bytes_per_s, remaining_bytes_max };
        let mut following = Following::new(self.ends, cx, number);
        following.until(&format!("copy-{number}"), command, Phase::Ready).await
    }

    /// A target that has died meanwhile would be found only when everything had been sent.
    async fn target_still_waits(&self) -> Result<(), Trouble> {
        let view = self.ends.view(self.ends.to()).await?;
        let mut processes = view.iter().flat_map(|view| &view.processes);
        if processes.any(|process| process.does == ProcessDoes::Waits) {
            return Ok(());
        }
        Err(Trouble::permanent("the target waits no more; see QEMU's log there, and begin again"))
    }

    fn tell_anew(&self, cx: &Context, number: u32) {
        let told = format!("the VM switched over by itself; copy {number} begins, slower");
        cx.progress(&MoveProgress {
            doing: Doing::Anew,
            copy: Some(number),
            disk_bytes: 0,
            disk_done_bytes: 0,
            memory_done_bytes: 0,
            memory_remaining_bytes: 0,
            bytes_per_s: None,
            left_ms: None,
            told: Some(told),
        });
    }
}
