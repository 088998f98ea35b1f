//! The VM is this move's at both agents and both proxies; each keeps both ends. Nothing is done
//! before all have granted it.

use hypervisor::Code;
use placement::{Answer, Authority, Command, End};
use saga::{Context, NotTaken, Observed, Reversible, Step, StepId, Trouble};

use crate::migration::ends::{Ends, Said, odd, troubled};
use crate::migration::parties::{Parties, ProxyPort};

/// See the module.
pub(in crate::migration) struct Claim<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Claim<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("claim")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // A claim said again is the same claim.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        let authority = self.0.authority(cx)?;
        Ok(self.at_all(cx, &authority, false).await?)
    }
}

impl<P: Parties> Reversible for Claim<'_, P> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        self.give_back(cx).await
    }
}

impl<P: Parties> Claim<'_, P> {
    /// For a runner that resumes the move: the standing claim is an earlier one's of ours.
    pub(in crate::migration) async fn take_over(&self, cx: &Context) -> Result<(), NotTaken> {
        let authority = self.0.authority(cx)?;
        match self.at_all(cx, &authority, true).await {
            Ok(()) => Ok(()),
            Err(said) if said.code() == Some(Code::Older) => {
                Err(NotTaken::Behind { seen: self.highest_seen().await? })
            }
            Err(said) => Err(Trouble::from(said).into()),
        }
    }

    /// Where it was never claimed there is nothing to give back.
    pub(in crate::migration) async fn give_back(&self, cx: &Context) -> Result<(), Trouble> {
        let authority = self.0.authority(cx)?;
        for end in self.0.both() {
            match self.0.proxy(end)?.give_back(&self.0.wanted.vm, &authority).await {
                Err(trouble) if !is_anothers(trouble.code()) => return Err(troubled(trouble)),
                _ => {}
            }
        }
        for end in self.0.both() {
            let command = Command::GiveBack { authority: authority.clone() };
            match self.0.order_with(end, cx, "", command, None).await {
                Ok(Answer::GivenBack) => {}
                Ok(other) => return odd(&other),
                Err(said) if is_anothers(said.code()) => {}
                Err(said) => return Err(said.into()),
            }
        }
        Ok(())
    }

    async fn at_all(
        &self,
        cx: &Context,
        authority: &Authority,
        takeover: bool,
    ) -> Result<(), Said> {
        let pair = &self.0.wanted.pair;
        for end in self.0.both() {
            let takeover = takeover || self.is_ours(end).await?;
            let part = if takeover { "take-over" } else { "" };
            let command =
                Command::Claim { authority: authority.clone(), pair: pair.clone(), takeover };
            match self.0.order_with(end, cx, part, command, None).await? {
                Answer::Granted { .. } => {}
                other => return Ok(odd(&other)?),
            }
        }
        let claim = proxy_api::Claim { authority: authority.clone(), pair: pair.clone() };
        for end in self.0.both() {
            self.0.proxy(end)?.claim(&self.0.wanted.vm, &claim).await?;
        }
        Ok(())
    }

    /// Whether this orchestrator owns it already, in this incarnation or an earlier one: a claim that
    /// came late, or that a takeover made after all else was given back. A VM has one move at a time
    /// here, so that nobody drives what stands under such a claim.
    async fn is_ours(&self, end: &End) -> Result<bool, Trouble> {
        let owner = self.0.view(end).await?.and_then(|view| view.record.owner);
        Ok(owner.is_some_and(|owner| owner.name == self.0.owner.name))
    }

    async fn highest_seen(&self) -> Result<u64, Trouble> {
        let mut seen = 0;
        for end in self.0.both() {
            let view = self.0.view(end).await?;
            seen = seen.max(view.map_or(0, |view| view.record.epoch.get()));
        }
        Ok(seen)
    }
}

/// What was never ours there, or is somebody else's by now, is not given back by us.
fn is_anothers(code: Option<Code>) -> bool {
    matches!(code, Some(Code::Older | Code::NotClaimed | Code::Owned | Code::UnknownVm))
}
