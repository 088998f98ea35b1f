//! Answers live as long as ever, at the move's end: every one that is given now is of the new place,
//! so a long life keeps no old one alive, and the VM's next move shortens it first.
//!
//! The place is said once more before it: a name server that did not confirm the steer may have come
//! back meanwhile.

use orchestrator_api::NamesTold;
use saga::{Context, Observed, Step, StepId, Trouble};

use super::naming::told;
use crate::migration::ends::Ends;
use crate::migration::name_servers::NameOrder;
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Restore<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Restore<'_, P> {
    type Outcome = NamesTold;

    fn id(&self) -> StepId {
        StepId::new("restore")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<NamesTold>, Trouble> {
        // Said again, it is the same.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<NamesTold, Trouble> {
        let place = NameOrder::Steer(self.0.to().site.clone());
        told(self.0, cx, &[place, NameOrder::Restore]).await
    }
}
