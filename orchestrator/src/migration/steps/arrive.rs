//! The VM runs at the target. An agent that had accepted and could not go on (it died, or an effect
//! failed) finishes the same order when it is given again.

use placement::{Answer, Command, Release, Seat};
use saga::{Context, Observed, Step, StepId, Trouble};

use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Arrive<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) release: Release,
}

impl<P: Parties> Step for Arrive<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("arrive")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        let view = self.ends.view(self.ends.to()).await?;
        Ok(match view.map(|view| view.record.seat) {
            Some(Seat::Started { incarnation, .. }) if incarnation.made_by == self.release => {
                Observed::Done(())
            }
            _ => Observed::NotDone,
        })
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        let (authority, release) = (self.ends.authority(cx)?, self.release.clone());
        match self.ends.order(self.ends.to(), cx, "", Command::Start { authority, release }).await?
        {
            Answer::Accepted { seat, .. } if !matches!(*seat, Seat::Accepted(_)) => Ok(()),
            Answer::Accepted { .. } => {
                Err(Trouble::transient("the VM is accepted, and not running"))
            }
            other => odd(&other),
        }
    }
}
