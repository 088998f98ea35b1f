//! The application takes connections at the target, as the proxy there finds out by its own checks.
//! It is never undone: an application that does not is told, and the operator may order a return.

use std::net::SocketAddr;
use std::time::Duration;

use orchestrator_api::HealthTold;
use placement::VmName;
use proxy_api::{BackendAddress, Health as Found, Services};
use saga::{Context, Observed, Step, StepId, Trouble};
use tokio::time::{Instant, sleep, timeout_at};

use crate::migration::ends::Ends;
use crate::migration::parties::{Parties, ProxyPort};

/// How long the application may take until checks find it well.
const HEALTH_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what the checks have found.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Most addresses that are told.
const ADDRESSES_TOLD_MAX: usize = 32;

/// See the module.
pub(in crate::migration) struct Health<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Health<'_, P> {
    type Outcome = HealthTold;

    fn id(&self) -> StepId {
        StepId::new("health")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<HealthTold>, Trouble> {
        // It is only looked at.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, _: &Context) -> Result<HealthTold, Trouble> {
        let proxy = self.0.proxy(self.0.to())?;
        let until = Instant::now() + HEALTH_MAX;
        let mut told = HealthTold::Unasked { why: format!("no answer within {HEALTH_MAX:?}") };
        loop {
            match timeout_at(until, proxy.services()).await {
                Ok(Ok(services)) => told = health_of(&self.0.wanted.vm, &services),
                Ok(Err(trouble)) => {
                    told = HealthTold::Unasked { why: daemon::with_causes(&trouble) };
                }
                Err(_) => return Ok(told),
            }
            let may_change =
                matches!(told, HealthTold::Unhealthy { .. } | HealthTold::Unasked { .. });
            if !may_change || Instant::now() + LOOK_INTERVAL >= until {
                return Ok(told);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// What a proxy's checks have found of one VM.
pub(in crate::migration) fn health_of(vm: &VmName, services: &Services) -> HealthTold {
    let backends = services.services.iter().flat_map(|service| &service.backends);
    let ours = backends.filter(|backend| backend.vm.as_ref() == Some(vm));
    let addresses: Vec<BackendAddress> =
        ours.flat_map(|backend| backend.addresses.iter().cloned()).collect();
    let are = |wanted: &[Found]| -> Vec<SocketAddr> {
        let such = addresses.iter().filter(|address| wanted.contains(&address.health));
        such.map(|address| address.address).take(ADDRESSES_TOLD_MAX).collect()
    };
    let (up, not_up) = (are(&[Found::Up]), are(&[Found::Down, Found::Unknown]));
    if addresses.is_empty() {
        HealthTold::Unserved
    } else if !not_up.is_empty() {
        HealthTold::Unhealthy { addresses: not_up }
    } else if up.is_empty() {
        HealthTold::Unchecked
    } else {
        HealthTold::Healthy { addresses: up.len() as u64 }
    }
}
