//! The source forgets the VM: what is left there never runs again, and its disk is set aside.

use placement::{Answer, Command, Release, Speaker};
use saga::{Context, Observed, Step, StepId, Trouble};

use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// See the module. Its outcome is who said so: the target is armed on that word alone.
pub(in crate::migration) struct Forget<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) release: Release,
}

impl<P: Parties> Step for Forget<'_, P> {
    type Outcome = Speaker;

    fn id(&self) -> StepId {
        StepId::new("forget")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<Speaker>, Trouble> {
        // An agent that died over it has recorded it, and may yet have to end the process and set
        // the disk aside: it does so when it is told again.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<Speaker, Trouble> {
        let (authority, release) = (self.ends.authority(cx)?, self.release.clone());
        let command = Command::Forget { authority, release };
        match self.ends.order(self.ends.from(), cx, "", command).await? {
            Answer::Gone { release } if release == self.release => Ok(self.speaker()),
            other => odd(&other),
        }
    }
}

impl<P: Parties> Forget<'_, P> {
    fn speaker(&self) -> Speaker {
        let from = self.ends.from();
        Speaker { site: from.site.clone(), agent: from.agent.clone() }
    }
}
