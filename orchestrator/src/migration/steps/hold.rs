//! Packets for the VM are kept back at the source, in order, from here until it runs again: at the
//! target, or here.
//!
//! A move without a hold goes through this room, too, and does nothing in it: what its undo sees to,
//! that the VM runs on at the source, is owed either way.

use hypervisor::Code;
use placement::{Answer, Command, Evidence};
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};

use super::copying::cancel;
use crate::migration::ends::{Ends, odd};
use crate::migration::parties::Parties;

/// See the module.
pub(in crate::migration) struct Hold<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Step for Hold<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("hold")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // A hold said again is the same hold.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        if !self.0.wanted.options.hold {
            return Ok(());
        }
        let command = Command::Hold { authority: self.0.authority(cx)? };
        match self.0.order(self.0.from(), cx, "", command).await? {
            Answer::Held => Ok(()),
            other => odd(&other),
        }
    }
}

impl<P: Parties> Reversible for Hold<'_, P> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        run_on(self.0, cx).await
    }
}

/// The VM runs on at its source, which never stops or releases it under this move any more.
pub(super) async fn run_on<P: Parties>(ends: Ends<'_, P>, cx: &Context) -> Result<(), Trouble> {
    // First what would send its last pages yet.
    cancel(ends, cx).await?;
    run(ends, cx, "run", None).await
}

/// Has the source run the VM, on evidence where it has released it. An end that was recorded there
/// already is this very order's.
pub(super) async fn run<P: Parties>(
    ends: Ends<'_, P>,
    cx: &Context,
    part: &str,
    evidence: Option<Evidence>,
) -> Result<(), Trouble> {
    let command = Command::Run { authority: ends.authority(cx)?, evidence };
    match ends.order_with(ends.from(), cx, part, command, None).await {
        Ok(Answer::Runs) => Ok(()),
        Ok(other) => odd(&other),
        Err(said) if said.code() == Some(Code::Ended) => Ok(()),
        Err(said) => Err(said.into()),
    }
}
