//! How the rooms speak to both ends of a move: each command with the key and the authority of the
//! runner that gives it.

use hypervisor::{CallTrouble, Code, Hypervisor};
use orchestrator_api::{
    CopyCommand, CopyRequest, Move, OrderKey, OrderRequest, Progress, VmDefinition, VmView,
};
use placement::{Answer, Authority, Command, End, Epoch, Owner, PartName};
use saga::{Act, Context, Trouble};

use super::parties::Parties;

/// A channel of a move, by the name that agents and proxies know it by.
pub(super) const CHANNELS: [&str; 2] = ["disk", "memory"];

/// Both ends of one move, and who speaks to them.
#[derive(Debug)]
pub(super) struct Ends<'w, P> {
    pub(super) parties: &'w P,
    pub(super) wanted: &'w Move,
    /// This incarnation of the orchestrator.
    pub(super) owner: &'w Owner,
}

impl<P> Clone for Ends<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Ends<'_, P> {}

impl<'w, P: Parties> Ends<'w, P> {
    pub(super) fn from(self) -> &'w End {
        &self.wanted.pair.from
    }

    pub(super) fn to(self) -> &'w End {
        &self.wanted.pair.to
    }

    pub(super) fn both(self) -> [&'w End; 2] {
        [self.from(), self.to()]
    }

    pub(super) fn agent(self, end: &End) -> Result<&'w P::Agent, Trouble> {
        let unknown = || format!("agent {} of site {} is not configured here", end.agent, end.site);
        self.parties.agent(end).ok_or_else(|| Trouble::permanent(unknown()))
    }

    pub(super) fn proxy(self, end: &End) -> Result<&'w P::Proxy, Trouble> {
        let unknown = || format!("proxy {} of site {} is not configured here", end.proxy, end.site);
        self.parties.proxy(end).ok_or_else(|| Trouble::permanent(unknown()))
    }

    /// What commands go out under.
    pub(super) fn authority(self, cx: &Context) -> Result<Authority, Trouble> {
        let fence = cx.authority().fence.as_ref();
        let fence = fence.ok_or_else(|| Trouble::permanent("the move has registered no epoch"))?;
        Ok(Authority { epoch: Epoch::new(fence.value), owner: self.owner.clone() })
    }

    /// What one end's agent knows of the VM; none where it has no record of it.
    pub(super) async fn view(self, end: &End) -> Result<Option<VmView>, Trouble> {
        self.agent(end)?.vm(&self.wanted.vm).await.map_err(troubled)
    }

    /// How far this move's copy is, as the source last looked.
    pub(super) async fn progress(self, cx: &Context) -> Result<Option<Progress>, Trouble> {
        let epoch = self.authority(cx)?.epoch;
        let view = self.view(self.from()).await?;
        Ok(view.and_then(|view| view.progress).filter(|progress| progress.epoch == epoch))
    }

    /// Gives an order of the room's own to one end. `part` tells the room's orders apart.
    pub(super) async fn order(
        self,
        end: &End,
        cx: &Context,
        part: &str,
        command: Command,
    ) -> Result<Answer, Trouble> {
        Ok(self.order_with(end, cx, part, command, None).await?)
    }

    /// The same, with the refusal left to the room, and a definition for what makes a process.
    pub(super) async fn order_with(
        self,
        end: &End,
        cx: &Context,
        part: &str,
        command: Command,
        definition: Option<&VmDefinition>,
    ) -> Result<Answer, Said> {
        let key = self.key(cx, part)?;
        let definition = definition.cloned().map(Box::new);
        let request = OrderRequest { key, command, definition };
        Ok(self.agent(end)?.order(&request).await?)
    }

    /// Gives a command about the copy to the source. Given again, it says how far the copy is.
    pub(super) async fn copy(
        self,
        cx: &Context,
        part: &str,
        command: CopyCommand,
    ) -> Result<Progress, Said> {
        let key = self.key(cx, part)?;
        Ok(self.agent(self.from())?.copy(&CopyRequest { key, command }).await?)
    }

    fn key(self, cx: &Context, part: &str) -> Result<OrderKey, Trouble> {
        let Authority { epoch, owner } = self.authority(cx)?;
        let key = cx.key();
        let act = match key.act {
            Act::Observe => "-look",
            Act::Perform => "",
            Act::Undo => "-undo",
            Act::Refuse => "-refuse",
        };
        let part = if part.is_empty() { String::new() } else { format!("-{part}") };
        let step: Result<PartName, _> = format!("{}{act}{part}", key.step).parse();
        let step = step.map_err(Trouble::permanent)?;
        let (vm, owner) = (self.wanted.vm.clone(), Some(owner));
        Ok(OrderKey { vm, epoch, owner, step, attempt: key.attempt })
    }
}

/// How a command ended that its room decides about.
#[derive(Debug)]
pub(super) enum Said {
    /// A call to a party.
    Call(CallTrouble),
    /// It could not even be said.
    Unsaid(Trouble),
}

impl Said {
    /// What was refused.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Said::Call(trouble) => trouble.code(),
            Said::Unsaid(_) => None,
        }
    }
}

impl From<CallTrouble> for Said {
    fn from(trouble: CallTrouble) -> Said {
        Said::Call(trouble)
    }
}

impl From<Trouble> for Said {
    fn from(trouble: Trouble) -> Said {
        Said::Unsaid(trouble)
    }
}

impl From<Said> for Trouble {
    fn from(said: Said) -> Trouble {
        match said {
            Said::Call(trouble) => troubled(trouble),
            Said::Unsaid(trouble) => trouble,
        }
    }
}

/// A call's trouble as the saga weighs it: what may pass is tried again.
pub(super) fn troubled(trouble: CallTrouble) -> Trouble {
    if trouble.may_pass() { Trouble::transient(trouble) } else { Trouble::permanent(trouble) }
}

/// An answer that does not fit what was asked.
pub(super) fn odd<T>(answer: &Answer) -> Result<T, Trouble> {
    Err(Trouble::permanent(format!("the agent answered something else than was asked: {answer:?}")))
}
