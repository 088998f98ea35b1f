//! The pivot: the target accepts the release and runs the VM, or refuses it for ever.

use placement::{Answer, Command, Release, Speaker};
use saga::{Context, Observed, Pivot, StepId, Trouble, Verdict};

use super::release::Refusal;
use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Start<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) release: Release,
}

impl<P: Parties> Pivot for Start<'_, P> {
    /// The release that was taken.
    type Accepted = Release;
    type Refusal = Refusal;

    const INSTEAD_OF_ABORT: &'static str = "let it end, and move the VM back with `causeway move`";

    fn id(&self) -> StepId {
        StepId::new("start")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<saga::Answer<Self>>, Trouble> {
        let view = self.ends.view(self.ends.to()).await?;
        let record = view.map(|view| view.record).ok_or_else(|| {
            Trouble::transient("the target's agent has no record of the VM; see its state folder")
        })?;
        if let Some(taken) = record.taken.filter(|taken| taken.epoch >= self.release.epoch) {
            return Ok(Observed::Done(Verdict::Accepted(taken)));
        }
        // A record that says *ended* is no refusal: only the answer to an order is.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<saga::Answer<Self>, Trouble> {
        let (authority, release) = (self.ends.authority(cx)?, self.release.clone());
        self.verdict(cx, Command::Start { authority, release }).await
    }

    async fn refuse(&self, cx: &Context) -> Result<saga::Answer<Self>, Trouble> {
        let (authority, release) = (Some(self.ends.authority(cx)?), self.release.clone());
        self.verdict(cx, Command::Refuse { authority, release }).await
    }
}

impl<P: Parties> Start<'_, P> {
    async fn verdict(&self, cx: &Context, command: Command) -> Result<saga::Answer<Self>, Trouble> {
        match self.ends.order(self.ends.to(), cx, "", command).await? {
            Answer::Accepted { taken, .. } => Ok(Verdict::Accepted(taken)),
            Answer::Refused { release } => Ok(Verdict::Refused(self.refusal(release))),
            other => odd(&other),
        }
    }

    fn refusal(&self, release: Release) -> Refusal {
        let to = self.ends.to();
        Refusal { by: Speaker { site: to.site.clone(), agent: to.agent.clone() }, release }
    }
}
