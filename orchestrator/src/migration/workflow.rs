//! A move, from the check to the end, in the order in which it happens.
//!
//! Up to `start`, the pivot, everything can be undone, and the VM runs on where it was. Whatever dies
//! on the way, whoever resumes the move claims the VM anew, reads what both agents recorded, and
//! brings it to one of two ends: the VM runs at the target, or it runs at the source and nothing is
//! left of the move.
//!
//! Packets are held and follow the VM where the operator wants it so (`hold`): then the proxies are
//! told of its next placement before memory is copied. Of its new one they are told once it runs
//! there, in any move: it is then at the latest that they note for the ledger which flows were alive.
//!
//! Names follow once the application was seen at the target (`health`), or that was waited for: they
//! live shortly from before the copy (`shorten`) until the move's end (`restore`), so that few old
//! answers are about when they change (`steer`). Neither health nor a name server holds a move up.

use orchestrator_api::Move;
use placement::{Epoch, Owner, VmName};
use saga::{
    Before, Context, FenceName, Finished, Halted, NameError, NotTaken, StepId, Trouble, Workflow,
};
use serde::{Deserialize, Serialize};

use super::ends::Ends;
use super::parties::Parties;
use super::steps::{
    Arm, Arrive, Channels, Check, Claim, Forget, GiveBack, Health, Hold, Memory, Mirror, Redirect,
    Release, Reserve, Restore, Shorten, Stage, Start, Steer,
};

/// The step that registers the move's epoch.
const EPOCH: StepId = StepId::new("epoch");

/// Moves a VM between two hosts.
#[derive(Debug)]
pub struct MoveVm<P> {
    /// Whom it can talk to.
    pub parties: P,
    /// This incarnation of the orchestrator: every restart is another.
    pub owner: Owner,
}

/// A move that went all the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The epoch under which the VM runs at the target.
    pub epoch: Epoch,
}

impl<P: Parties> Workflow for MoveVm<P> {
    const NAME: &'static str = "move-vm";
    type Input = Move;
    type Output = Moved;

    async fn run<'w>(
        &'w self,
        saga: Before<'w>,
        wanted: &'w Move,
    ) -> Result<Finished<Moved>, Halted> {
        let ends = self.ends(wanted);
        let fence = fence_of(&wanted.vm);

        let (saga, surveyed) = saga.ask(Check(ends)).await?;
        let Some(definition) = surveyed.go() else {
            return Err(saga.undo(surveyed.plan.why_not()).await);
        };
        let (saga, epoch) = saga.register(EPOCH, &fence, surveyed.seen.get()).await?;
        let (saga, ()) = saga.step(Claim(ends)).await?;
        let (saga, ()) = saga.step(Reserve { ends, definition: definition.clone() }).await?;
        let (saga, ()) = saga.step(Channels(ends)).await?;
        let (saga, _) = saga.step(Shorten(ends)).await?;
        let (saga, ()) = saga.step(Mirror(ends)).await?;
        let mut saga = saga;
        if wanted.options.hold {
            (saga, ()) = saga.step(Stage { ends, definition: definition.clone() }).await?;
        }
        let (saga, ()) = saga.step(Memory { ends, definition: definition.clone() }).await?;
        let (saga, ()) = saga.step(Hold(ends)).await?;
        let (saga, release) = saga.release(Release(ends)).await?;
        let (saga, _) = saga.pivot(Start { ends, release: release.clone() }).await?;
        let (saga, ()) = saga.step(Arrive { ends, release: release.clone() }).await?;
        let (saga, ()) = saga.step(Redirect { ends, definition }).await?;
        let (saga, _) = saga.step(Health(ends)).await?;
        let (saga, _) = saga.step(Steer(ends)).await?;
        let (saga, gone_at) = saga.step(Forget { ends, release: release.clone() }).await?;
        let (saga, ()) = saga.step(Arm { ends, release, gone_at }).await?;
        let (saga, _) = saga.step(Restore(ends)).await?;
        let (saga, ()) = saga.step(GiveBack(ends)).await?;
        saga.finish(Moved { epoch: Epoch::new(epoch) }).await
    }

    async fn take_over(&self, cx: &Context, wanted: &Move) -> Result<(), NotTaken> {
        Claim(self.ends(wanted)).take_over(cx).await
    }

    async fn give_back(&self, cx: &Context, wanted: &Move) -> Result<(), Trouble> {
        Claim(self.ends(wanted)).give_back(cx).await
    }
}

impl<P: Parties> MoveVm<P> {
    fn ends<'w>(&'w self, wanted: &'w Move) -> Ends<'w, P> {
        Ends { parties: &self.parties, wanted, owner: &self.owner }
    }
}

/// The counter of a VM's epochs.
fn fence_of(vm: &VmName) -> FenceName {
    let name: Result<FenceName, NameError> = FenceName::new(format!("vm/{vm}"));
    name.expect("a VM's name is short, and of letters that a fence takes")
}
