//! Names are answered with the target's site. When the last answer from before runs out, the name
//! servers tell; until then, and for whoever does not honour it, the old site's VIP serves through
//! the tunnel.

use orchestrator_api::NamesTold;
use saga::{Context, Observed, Step, StepId, Trouble};

use super::naming::told;
use crate::migration::ends::Ends;
use crate::migration::name_servers::NameOrder;
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Steer<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Steer<'_, P> {
    type Outcome = NamesTold;

    fn id(&self) -> StepId {
        StepId::new("steer")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<NamesTold>, Trouble> {
        // Said again, it is the same.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<NamesTold, Trouble> {
        told(self.0, cx, &[NameOrder::Steer(self.0.to().site.clone())]).await
    }
}
