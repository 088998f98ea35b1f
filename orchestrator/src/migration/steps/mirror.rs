//! The disks, mirrored while the VM runs, until what it writes there is at the target too.

use orchestrator_api::{CopyCommand, Phase};
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};

use super::copying::{Following, cancel};
use crate::migration::ends::Ends;
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Mirror<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Mirror<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("mirror")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<()>, Trouble> {
        let progress = self.0.progress(cx).await?;
        let in_step = progress.is_some_and(|at| at.phase == Phase::InStep);
        Ok(if in_step { Observed::Done(()) } else { Observed::NotDone })
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        mirror(self.0, cx, "", 1).await
    }
}

impl<P: Parties> Reversible for Mirror<'_, P> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        cancel(self.0, cx).await
    }
}

/// Begins the mirrors, and follows them until they are in step.
pub(super) async fn mirror<P: Parties>(
    ends: Ends<'_, P>,
    cx: &Context,
    part: &str,
    number: u32,
) -> Result<(), Trouble> {
    let mut following = Following::new(ends, cx, number);
    following.until(part, CopyCommand::MirrorStart, Phase::InStep).await
}
