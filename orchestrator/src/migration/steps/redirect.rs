//! Every proxy takes the new placement: first the one where the VM arrived, whose agent has had it
//! release already, then the one that it left, then all others.

use hypervisor::CallTrouble;
use orchestrator_api::VmDefinition;
use placement::End;
use saga::{Context, Observed, Step, StepId, Trouble};

use super::stage::place;
use crate::migration::ends::{Ends, troubled};
use crate::migration::parties::{Parties, ProxyPort};

/// See the module.
pub(in crate::migration) struct Redirect<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) definition: VmDefinition,
}

impl<P: Parties> Step for Redirect<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("redirect")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // A placement said again is the same placement.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        let (ends, vm) = (self.ends, &self.ends.wanted.vm);
        let placement = place(ends.to(), &self.definition)?;
        let redirect = proxy_api::Redirect { authority: ends.authority(cx)?, placement };
        for end in [ends.to(), ends.from()] {
            ends.proxy(end)?.redirect(vm, &redirect).await.map_err(troubled)?;
        }
        // One that is out of reach keeps the last placement that it was told; it has no flow of the
        // VM's to lose, or the move would name it.
        for ((site, name), proxy) in ends.parties.proxies() {
            let was_told = |end: &&End| end.site == *site && end.proxy == *name;
            if !ends.both().iter().any(was_told) {
                tell(proxy.redirect(vm, &redirect).await);
            }
        }
        Ok(())
    }
}

fn tell(told: Result<(), CallTrouble>) {
    if let Err(trouble) = told {
        let why = daemon::with_causes(&trouble);
        tracing::warn!(why, "a proxy has not taken a VM's new placement");
    }
}
