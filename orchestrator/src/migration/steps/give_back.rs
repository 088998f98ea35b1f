//! The end of a move that went all the way: its channels close, and nobody owns the VM any more, so
//! that the next move may claim it.

use saga::{Context, Observed, Step, StepId, Trouble};

use super::claim::Claim;
use crate::migration::ends::Ends;
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct GiveBack<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for GiveBack<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("give-back")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // What was given back may be given back again.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        Claim(self.0).give_back(cx).await
    }
}
