//! The VM stands still, all of it goes over, and the source gives the word that it runs there no
//! more. Until that word the move can be undone freely; from it on, only the target's refusal or
//! the undo of this very runner lets the VM run at the source again.

use std::time::Duration;

use orchestrator_api::{CopyCommand, Phase};
use placement::{Answer, Command, Evidence, Seat, Speaker};
use saga::{Context, Observed, Step, StepId, Trouble};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::copying::{not_ended, told};
use super::hold::{run, run_on};
use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// Between two looks at the end of a copy, while the VM stands still.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// See the module.
pub(in crate::migration) struct Release<'w, P>(pub(in crate::migration) Ends<'w, P>);

/// The target's word that the VM never runs there from this release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::migration) struct Refusal {
    /// Who refused.
    pub(in crate::migration) by: Speaker,
    /// Which release, or a later one.
    pub(in crate::migration) release: placement::Release,
}

impl<P: Parties> Step for Release<'_, P> {
    type Outcome = placement::Release;

    fn id(&self) -> StepId {
        StepId::new("release")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<placement::Release>, Trouble> {
        let view = self.0.view(self.0.from()).await?;
        let view = view.ok_or_else(|| {
            Trouble::transient("the source's agent has no record of the VM; see its state folder")
        })?;
        Ok(match view.record.seat {
            Seat::Released { release, .. } | Seat::Gone { release, .. } => Observed::Done(release),
            Seat::None | Seat::Accepted(_) | Seat::Started { .. } => Observed::NotDone,
        })
    }

    async fn perform(&self, cx: &Context) -> Result<placement::Release, Trouble> {
        let (ends, authority) = (self.0, self.0.authority(cx)?);
        let stop = Command::Stop { authority: authority.clone() };
        match ends.order(ends.from(), cx, "stop", stop).await? {
            Answer::Stopped => {}
            other => return odd(&other),
        }
        self.finish(cx).await?;
        match ends.order(ends.from(), cx, "", Command::Release { authority }).await? {
            Answer::Released { release } => Ok(release),
            other => odd(&other),
        }
    }
}

impl<P: Parties> saga::Release for Release<'_, P> {
    type Refusal = Refusal;

    async fn undo(&self, cx: &Context) -> Result<(), Trouble> {
        run_on(self.0, cx).await
    }

    async fn retake(
        &self,
        cx: &Context,
        release: &placement::Release,
        evidence: &saga::Evidence<Refusal>,
    ) -> Result<(), Trouble> {
        let evidence = match evidence {
            saga::Evidence::Refused(Refusal { by, release }) => {
                Evidence::Refused { by: by.clone(), release: release.clone() }
            }
            saga::Evidence::NeverSent(_) => Evidence::Undone { release: release.clone() },
        };
        run(self.0, cx, "", Some(evidence)).await
    }
}

impl<P: Parties> Release<'_, P> {
    /// Waits until all of the VM is at the target. The bound is on the pause, whatever it waits for.
    async fn finish(&self, cx: &Context) -> Result<(), Trouble> {
        let stopped_max = Duration::from_millis(self.0.wanted.options.stopped_ms_max);
        let end = Instant::now() + stopped_max;
        loop {
            let progress = self.0.copy(cx, "finish", CopyCommand::Finish).await?;
            if progress.phase == Phase::Completed {
                // All that the copy came to.
                cx.progress(&told(&progress, None, None));
                return Ok(());
            }
            not_ended(&progress)?;
            if cx.is_aborted() {
                return Err(Trouble::transient("told to stop"));
            }
            if Instant::now() >= end {
                let why = format!("the rest of the copy has not gone over in {stopped_max:?}");
                return Err(Trouble::permanent(why));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}
