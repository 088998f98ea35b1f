//! A saga whose release was given: it is in doubt who has the thing, and one party's verdict on the
//! pivot decides.
//!
//! ```text
//!                    pivot ─────────────► Accepted ──► After
//!   Released ──┤       │ spent: refuse ─► Refused ───┐
//!              └─ turn_back ── refuse ──► Refused ───┤ evidence
//!                      └─ never sent ────────────────┴─► retake, undo the rest
//! ```

use crate::after::After;
use crate::effort::{Effort, Tries};
use crate::engine::Engine;
use crate::history::State;
use crate::names::Act;
use crate::record::{Cause, Event, Kind, bounded};
use crate::room::{Answer, Evidence, Fact, NeverSent, Observed, Pivot, Release, Trouble, Verdict};
use crate::stop::Stopped;
use crate::undoing::{Halt, Halted, Line};

/// A saga between its release and its pivot.
///
/// There are two ways out, and both lead through the pivot's room: [`pivot`](Self::pivot) and
/// [`turn_back`](Self::turn_back). There is no plain `undo`, and no further step:
///
/// ```compile_fail,E0599
/// # use saga::{Halted, Release, Released};
/// async fn undone_without_evidence<R: Release>(saga: Released<'static, R>) -> Halted {
///     saga.undo("changed my mind").await
/// }
/// ```
///
/// ```
/// # use saga::{After, Halted, Pivot, Release, Released};
/// async fn turned_back<R: Release, P: Pivot<Refusal = R::Refusal>>(
///     saga: Released<'static, R>,
///     pivot: P,
/// ) -> Result<(After, P::Accepted), Halted> {
///     saga.turn_back(pivot, "changed my mind").await
/// }
/// ```
///
/// What the pivot's refusal is and what the release takes as evidence are one type:
///
/// ```compile_fail,E0271
/// # use saga::{After, Halted, Pivot, Release, Released};
/// async fn foreign_evidence<R: Release, P: Pivot<Refusal = String>>(
///     saga: Released<'static, R>,
///     pivot: P,
/// ) -> Result<(After, P::Accepted), Halted> {
///     saga.pivot(pivot).await
/// }
/// ```
pub struct Released<'w, R: Release> {
    line: Line<'w>,
    release: R,
    outcome: R::Outcome,
}

impl<'w, R: Release> Released<'w, R> {
    pub(crate) const fn new(line: Line<'w>, release: R, outcome: R::Outcome) -> Self {
        Self { line, release, outcome }
    }

    /// Goes through the pivot: journals it (on condition that the saga's fence is the newest), sends
    /// it, and asks until there is a verdict. Accepted: [`After`]. Refused: everything is undone. If
    /// its tries are spent the party is asked to refuse; if that cannot be had either, the runner
    /// gives up for now, and the saga stays in doubt.
    ///
    /// Turns back instead if somebody asked to abort before it was sent, or if an earlier runner had
    /// begun to turn back.
    pub async fn pivot<P: Pivot<Refusal = R::Refusal>>(
        self,
        pivot: P,
    ) -> Result<(After, P::Accepted), Halted> {
        self.go(&pivot, None).await.map_err(Halted)
    }

    /// Does not go through the pivot: takes the word back on evidence, and undoes everything. The
    /// evidence is that the pivot was never sent, where this very runner got the release; else the
    /// party is asked to refuse, and if it says that it has accepted, the saga goes forward.
    pub async fn turn_back<P: Pivot<Refusal = R::Refusal>>(
        self,
        pivot: P,
        reason: impl Into<String>,
    ) -> Result<(After, P::Accepted), Halted> {
        let decided = Cause::Decided { reason: bounded(reason.into()) };
        self.go(&pivot, Some(decided)).await.map_err(Halted)
    }

    async fn go<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
        decided: Option<Cause>,
    ) -> Result<(After, P::Accepted), Halt> {
        let id = pivot.id();
        let engine = &mut self.line.engine;
        match engine.next(id, Kind::Pivot)?.map(|entry| entry.state) {
            Some(State::Done(accepted)) => {
                let accepted = engine.read(id, accepted)?;
                Ok(self.accepted(pivot, accepted))
            }
            Some(State::Refused(evidence)) => {
                let evidence = engine.read(id, evidence)?;
                Err(self.refused(pivot, evidence).await)
            }
            Some(State::Refusing) => self.ask_refusal(pivot).await,
            Some(State::Open) => {
                engine.control.force_past_pivot(id.as_str(), P::INSTEAD_OF_ABORT);
                self.send(pivot, Some("its runner ended".to_owned())).await
            }
            None => match engine.turning().await?.or(decided) {
                Some(cause) => self.back(pivot, cause).await,
                None => self.begin(pivot).await,
            },
        }
    }

    /// The pivot itself, journalled before it is sent.
    async fn begin<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
    ) -> Result<(After, P::Accepted), Halt> {
        let id = pivot.id();
        let engine = &mut self.line.engine;
        if !engine.control.pass_pivot(id.as_str(), P::INSTEAD_OF_ABORT) {
            // Somebody asked to abort just now; the request is journalled here.
            let cause = engine.turning().await?.unwrap_or(Cause::Interrupted);
            return self.back(pivot, cause).await;
        }
        let started = Event::Started { step: id.to_string(), kind: Kind::Pivot };
        engine.append_guarded(started, engine.holds_fence()).await?;
        self.send(pivot, None).await
    }

    /// Asks the party to accept until there is a verdict. After a failed try, or another runner's
    /// (`reason`), it asks first what the party has said.
    async fn send<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
        mut reason: Option<String>,
    ) -> Result<(After, P::Accepted), Halt> {
        let engine = &mut self.line.engine;
        let effort = Effort { tries_max: engine.limits.tries_after_max, heeding: false };
        let mut tries = Tries::new(effort);
        loop {
            let trouble = match send_once(engine, pivot, reason.as_deref()).await? {
                Ok(verdict) => return self.conclude(pivot, verdict).await,
                Err(trouble) => trouble,
            };
            reason = Some(bounded(trouble.told()));
            if tries.again(engine, trouble).await?.is_err() {
                return self.ask_refusal(pivot).await;
            }
        }
    }

    /// Turns back, on the best evidence there is.
    async fn back<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
        cause: Cause,
    ) -> Result<(After, P::Accepted), Halt> {
        let engine = &mut self.line.engine;
        engine.turn(cause.clone()).await?;
        let released = engine.history.entry(self.release.id());
        let ours = released.is_some_and(|entry| entry.incarnation == engine.history.incarnation);
        if ours || released.is_some_and(|entry| entry.undone) {
            return Err(self.retake(cause, Evidence::NeverSent(NeverSent::new())).await);
        }
        self.ask_refusal(pivot).await
    }

    /// Asks the party to refuse for ever, and takes its verdict, whichever it is.
    async fn ask_refusal<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
    ) -> Result<(After, P::Accepted), Halt> {
        let id = pivot.id();
        let engine = &mut self.line.engine;
        let cx = engine.context(id.as_str(), Act::Refuse, false);
        let mut tries = engine.undo_tries();
        let mut reason = "its runner ended".to_owned();
        loop {
            let asked = engine.history.pivot().is_some_and(|entry| entry.state == State::Refusing);
            if asked {
                engine.again(id, &reason, crate::journal::Guard::None).await?;
            } else {
                engine.append(Event::Refusing { step: id.to_string() }).await?;
            }
            let trouble = match pivot.refuse(&cx).await {
                Ok(verdict) => return self.conclude(pivot, verdict).await,
                Err(trouble) => trouble,
            };
            reason = bounded(trouble.told());
            engine.retry_or_give_up(&mut tries, id.as_str(), trouble).await?;
        }
    }

    async fn conclude<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
        verdict: Answer<P>,
    ) -> Result<(After, P::Accepted), Halt> {
        let id = pivot.id();
        let engine = &mut self.line.engine;
        match verdict {
            Verdict::Accepted(accepted) => {
                let outcome = engine.write(id, &accepted)?;
                engine.append(Event::Done { step: id.to_string(), outcome }).await?;
                Ok(self.accepted(pivot, accepted))
            }
            Verdict::Refused(refusal) => {
                let evidence = engine.write(id, &refusal)?;
                engine.append(Event::Refused { step: id.to_string(), evidence }).await?;
                Err(self.refused(pivot, refusal).await)
            }
        }
    }

    /// What could have been undone is dropped here: there is no way back.
    fn accepted<P: Pivot, A: Fact>(self, pivot: &P, accepted: A) -> (After, A) {
        let engine = self.line.engine;
        engine.control.force_past_pivot(pivot.id().as_str(), P::INSTEAD_OF_ABORT);
        (After::new(engine), accepted)
    }

    async fn refused<P: Pivot<Refusal = R::Refusal>>(
        mut self,
        pivot: &P,
        refusal: R::Refusal,
    ) -> Halt {
        let engine = &mut self.line.engine;
        engine.control.turned_back();
        let cause = Cause::Refused { step: pivot.id().to_string() };
        match engine.turn(cause.clone()).await {
            Ok(()) => self.retake(cause, Evidence::Refused(refusal)).await,
            Err(stopped) => stopped.into(),
        }
    }

    async fn retake(mut self, cause: Cause, evidence: Evidence<R::Refusal>) -> Halt {
        match self.retaken(&evidence).await {
            Ok(()) => self.line.unwind(cause).await,
            Err(stopped) => stopped.into(),
        }
    }

    async fn retaken(&mut self, evidence: &Evidence<R::Refusal>) -> Result<(), Stopped> {
        let id = self.release.id();
        let engine = &mut self.line.engine;
        if engine.history.is_undone(id) {
            return Ok(());
        }
        let cx = engine.context(id.as_str(), Act::Undo, false);
        let mut tries = engine.undo_tries();
        loop {
            engine.append(Event::Undoing { step: id.to_string() }).await?;
            let Err(trouble) = self.release.retake(&cx, &self.outcome, evidence).await else {
                return engine.append(Event::Undone { step: id.to_string() }).await;
            };
            engine.retry_or_give_up(&mut tries, id.as_str(), trouble).await?;
        }
    }
}

/// Every sending is preceded by an append on condition of the fence.
async fn send_once<P: Pivot>(
    engine: &mut Engine,
    pivot: &P,
    reason: Option<&str>,
) -> Result<Result<Answer<P>, Trouble>, Stopped> {
    let id = pivot.id();
    let look = engine.context(id.as_str(), Act::Observe, false);
    let cx = engine.context(id.as_str(), Act::Perform, false);
    if let Some(reason) = reason {
        match pivot.observe(&look).await {
            Err(trouble) => return Ok(Err(trouble)),
            Ok(Observed::Done(verdict)) => return Ok(Ok(verdict)),
            Ok(Observed::NotDone) => engine.again(id, reason, engine.holds_fence()).await?,
        }
    }
    Ok(pivot.perform(&cx).await)
}
