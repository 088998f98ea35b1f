//! The target: a shell of the VM that waits to receive, and never runs by itself.

use std::time::Duration;

use orchestrator_api::{ProcessDoes, VmDefinition};
use placement::{Answer, Authority, Command, Release};
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};
use tokio::time::{Instant, sleep};

use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// How long QEMU may take until it listens.
const WAITS_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// See the module.
pub(in crate::migration) struct Reserve<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) definition: VmDefinition,
}

impl<P: Parties> Step for Reserve<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("reserve")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<()>, Trouble> {
        let made_by = Release::from(self.ends.authority(cx)?);
        Ok(if waits(self.ends, &made_by).await? { Observed::Done(()) } else { Observed::NotDone })
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        reserve(self.ends, cx, "", &self.definition).await
    }
}

impl<P: Parties> Reversible for Reserve<'_, P> {
    /// The target refuses the release that would start it, which kills what could run from it.
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        refuse(self.ends, cx, self.ends.authority(cx)?).await
    }
}

/// Has the target made, and waits until it listens. `part` tells one such order from the next: a
/// target whose source has given up is gone, and another takes its place.
pub(super) async fn reserve<P: Parties>(
    ends: Ends<'_, P>,
    cx: &Context,
    part: &str,
    definition: &VmDefinition,
) -> Result<(), Trouble> {
    let authority = ends.authority(cx)?;
    let command = Command::Reserve { authority: authority.clone() };
    match ends.order_with(ends.to(), cx, part, command, Some(definition)).await? {
        Answer::Reserved => {}
        other => return odd(&other),
    }
    let made_by = Release::from(authority);
    let end = Instant::now() + WAITS_MAX;
    while !waits(ends, &made_by).await? {
        if Instant::now() >= end {
            let why =
                format!("the target does not listen after {WAITS_MAX:?}; see QEMU's log there");
            return Err(Trouble::permanent(why));
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

async fn refuse<P: Parties>(
    ends: Ends<'_, P>,
    cx: &Context,
    authority: Authority,
) -> Result<(), Trouble> {
    let release = Release::from(authority.clone());
    let command = Command::Refuse { authority: Some(authority), release };
    match ends.order(ends.to(), cx, "", command).await? {
        Answer::Refused { .. } => Ok(()),
        other => odd(&other),
    }
}

async fn waits<P: Parties>(ends: Ends<'_, P>, made_by: &Release) -> Result<bool, Trouble> {
    let view = ends.view(ends.to()).await?;
    let mut processes = view.iter().flat_map(|view| &view.processes);
    Ok(processes.any(|process| process.made_by == *made_by && process.does == ProcessDoes::Waits))
}
