//! The channels of the move, granted at both ends of the tunnel: first where they are dialled out,
//! so that whoever connects is let through.

use placement::PartName;
use proxy_api::GrantChannel;
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};

use hypervisor::Code;

use crate::migration::ends::{CHANNELS, Ends, troubled};
use crate::migration::parties::{Parties, ProxyPort};

/// See the module.
pub(in crate::migration) struct Channels<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Channels<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("channels")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // A grant said again is the same grant.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        let (ends, grant) = (self.0, self.grant(cx)?);
        for end in [ends.to(), ends.from()] {
            for channel in names() {
                let granted = ends.proxy(end)?.grant(&ends.wanted.vm, &channel, &grant).await;
                granted.map_err(troubled)?;
            }
        }
        Ok(())
    }
}

impl<P: Parties> Reversible for Channels<'_, P> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        let (ends, grant) = (self.0, self.grant(cx)?);
        for end in [ends.from(), ends.to()] {
            for channel in names() {
                match ends.proxy(end)?.revoke(&ends.wanted.vm, &channel, &grant).await {
                    // A later claim, or the move's end there, has closed it already.
                    Ok(()) => {}
                    Err(trouble) if trouble.code() == Some(Code::Older) => {}
                    Err(trouble) => return Err(troubled(trouble)),
                }
            }
        }
        Ok(())
    }
}

impl<P: Parties> Channels<'_, P> {
    fn grant(&self, cx: &Context) -> Result<GrantChannel, Trouble> {
        let (from, to) = (self.0.from().site.clone(), self.0.to().site.clone());
        Ok(GrantChannel { authority: self.0.authority(cx)?, from, to, compress: true })
    }
}

fn names() -> [PartName; 2] {
    CHANNELS.map(|name| name.parse().expect("channels have names"))
}
