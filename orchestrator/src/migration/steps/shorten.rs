//! Answers for the VM's names live shortly from now on, so that few are left of the old place when
//! the names are steered. How long the old ones live at most, the name servers tell.

use orchestrator_api::NamesTold;
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};

use super::naming::told;
use crate::migration::ends::Ends;
use crate::migration::name_servers::NameOrder;
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Shorten<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Shorten<'_, P> {
    type Outcome = NamesTold;

    fn id(&self) -> StepId {
        StepId::new("shorten")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<NamesTold>, Trouble> {
        // Said again, it is the same.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<NamesTold, Trouble> {
        tokio::select! {
            told = told(self.0, cx, &[NameOrder::Shorten]) => told,
            () = cx.aborted() => Err(Trouble::transient("told to stop")),
        }
    }
}

impl<P: Parties> Reversible for Shorten<'_, P> {
    /// Where it cannot be said, answers live shortly until the VM's next move: that costs questions,
    /// and no more. Nothing waits for it.
    async fn undo(&self, cx: &Context, _: Option<&NamesTold>) -> Result<(), Trouble> {
        told(self.0, cx, &[NameOrder::Restore]).await.map(drop)
    }
}
