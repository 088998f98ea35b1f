//! Every proxy takes the new placement: first the one where the VM arrived, whose agent has had it
//! release already, then the one that it left, then all others.

use std::time::Duration;

use hypervisor::CallTrouble;
use orchestrator_api::VmDefinition;
use placement::{End, VmName};
use saga::{Context, Observed, Step, StepId, Trouble};
use tokio::time::{Instant, sleep};

use super::stage::{elsewhere, place};
use crate::migration::ends::{Ends, troubled};
use crate::migration::parties::{Parties, ProxyPort};

/// How long a proxy that the VM left earlier is told again: flows that live there go by what it has
/// heard. A site that is gone holds no move up for longer.
const TELL_MAX: Duration = Duration::from_secs(20);
/// Between two tries.
const TELL_AGAIN: Duration = Duration::from_millis(500);

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
        let earlier = elsewhere(ends, ends.to()).await.map_err(troubled)?;
        for ((site, name), proxy) in ends.parties.proxies() {
            let was_told = |end: &&End| end.site == *site && end.proxy == *name;
            if ends.both().iter().any(was_told) {
                continue;
            }
            let has_flows =
                earlier.iter().any(|one| one.place.site == *site && one.place.proxy == *name);
            let tell_max = if has_flows { TELL_MAX } else { Duration::ZERO };
            if let Err(trouble) = told(proxy, vm, &redirect, tell_max).await {
                let why = daemon::with_causes(&trouble);
                tracing::warn!(%site, proxy = %name, why, "a proxy has not taken a VM's new placement");
            }
        }
        Ok(())
    }
}

/// Tells one proxy, again until it was told for so long. One that stays out of reach keeps the last
/// placement that it heard.
async fn told<X: ProxyPort>(
    proxy: &X,
    vm: &VmName,
    redirect: &proxy_api::Redirect,
    tell_max: Duration,
) -> Result<(), CallTrouble> {
    let until = Instant::now() + tell_max;
    loop {
        match proxy.redirect(vm, redirect).await {
            Err(trouble) if trouble.may_pass() && Instant::now() + TELL_AGAIN < until => {
                sleep(TELL_AGAIN).await;
            }
            told => return told,
        }
    }
}
