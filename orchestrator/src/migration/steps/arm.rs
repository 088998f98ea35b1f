//! The target starts the VM by itself from now on, after a reboot: on the source's word that what is
//! left there never does.

use placement::{Answer, Command, Release, Seat, Speaker};
use saga::{Context, Observed, Step, StepId, Trouble};

use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Arm<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) release: Release,
    pub(in crate::migration) gone_at: Speaker,
}

impl<P: Parties> Step for Arm<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("arm")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        let view = self.ends.view(self.ends.to()).await?;
        Ok(match view.map(|view| view.record.seat) {
            Some(Seat::Started { incarnation, armed: true })
                if incarnation.made_by == self.release =>
            {
                Observed::Done(())
            }
            _ => Observed::NotDone,
        })
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        let (authority, release) = (self.ends.authority(cx)?, self.release.clone());
        let command = Command::Arm { authority, release, gone_at: self.gone_at.clone() };
        match self.ends.order(self.ends.to(), cx, "", command).await? {
            Answer::Armed { release } if release == self.release => Ok(()),
            other => odd(&other),
        }
    }
}
