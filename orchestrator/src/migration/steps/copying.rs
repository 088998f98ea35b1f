//! Following a copy from its source: how far it is, how fast it goes, and whether it has come to
//! where the room wants it.

use std::time::Duration;

use hypervisor::Code;
use orchestrator_api::{CopyCommand, Doing, MoveProgress, Phase, Progress};
use saga::{Context, Trouble};
use tokio::time::{Instant, sleep};

use crate::migration::ends::{Ends, Said};
use crate::migration::parties::Parties;

/// Between two looks. The source itself looks far more often, and acts on what it sees.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// Between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// A rate is measured over this long.
const RATE_OVER: Duration = Duration::from_secs(2);
/// A copy that carries nothing for so long is given up. Longer than streams wait for a WAN that is
/// cut.
const STILL_MAX: Duration = Duration::from_secs(120);

/// A copy that a room follows.
pub(super) struct Following<'a, 'w, P> {
    ends: Ends<'w, P>,
    cx: &'a Context,
    /// Which copy of this attempt, from 1.
    number: u32,
    /// Seen last: how much was carried, and since when no more.
    carried: u64,
    carried_at: Instant,
    /// From where the present rate is measured.
    rate_from: (Instant, u64),
    bytes_per_s: Option<u64>,
    reported_at: Option<Instant>,
}

impl<'a, 'w, P: Parties> Following<'a, 'w, P> {
    pub(super) fn new(ends: Ends<'w, P>, cx: &'a Context, number: u32) -> Self {
        let now = Instant::now();
        Following {
            ends,
            cx,
            number,
            carried: 0,
            carried_at: now,
            rate_from: (now, 0),
            bytes_per_s: None,
            reported_at: None,
        }
    }

    /// Gives `command`, and says it again until the copy is in `wanted`.
    pub(super) async fn until(
        &mut self,
        part: &str,
        command: CopyCommand,
        wanted: Phase,
    ) -> Result<(), Trouble> {
        loop {
            if self.cx.is_aborted() {
                return Err(Trouble::transient("told to stop"));
            }
            match self.ends.copy(self.cx, part, command).await {
                Ok(progress) if progress.phase == wanted => {
                    self.report(&progress);
                    return Ok(());
                }
                Ok(progress) => self.weigh(&progress)?,
                // The source is not heard for a moment: it goes on meanwhile.
                Err(said) => self.may_wait(said)?,
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// The copy has ended, or has stood still for too long: then there is nothing to wait for.
    fn weigh(&mut self, progress: &Progress) -> Result<(), Trouble> {
        not_ended(progress)?;
        let carried = progress.disk_done_bytes.saturating_add(progress.memory_done_bytes);
        let now = Instant::now();
        if carried != self.carried {
            (self.carried, self.carried_at) = (carried, now);
        }
        self.report(progress);
        self.still_moves(now)
    }

    fn may_wait(&self, said: Said) -> Result<(), Trouble> {
        let trouble = Trouble::from(said);
        match trouble {
            Trouble::Transient(_) => self.still_moves(Instant::now()),
            Trouble::Permanent(_) => Err(trouble),
        }
    }

    fn still_moves(&self, now: Instant) -> Result<(), Trouble> {
        if now - self.carried_at <= STILL_MAX {
            return Ok(());
        }
        let why =
            format!("the copy has not moved for {STILL_MAX:?}; see the target and the tunnel");
        Err(Trouble::permanent(why))
    }

    fn report(&mut self, progress: &Progress) {
        let now = Instant::now();
        if self.reported_at.is_some_and(|at| now - at < REPORT_INTERVAL) {
            return;
        }
        self.reported_at = Some(now);
        let carried = progress.disk_done_bytes.saturating_add(progress.memory_done_bytes);
        let (since, from) = self.rate_from;
        let over_ms = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
        if over_ms > 0 && carried > from {
            self.bytes_per_s = Some((carried - from).saturating_mul(1_000) / over_ms);
        }
        if now - since >= RATE_OVER {
            self.rate_from = (now, carried);
        }
        self.cx.progress(&told(progress, Some(self.number), self.bytes_per_s));
    }
}

/// A look at a copy, as it is told.
pub(super) fn told(
    progress: &Progress,
    copy: Option<u32>,
    bytes_per_s: Option<u64>,
) -> MoveProgress {
    let doing = match progress.phase {
        Phase::Mirroring | Phase::InStep => Doing::Mirroring,
        Phase::Copying => Doing::Copying,
        Phase::Ready => Doing::Ready,
        Phase::Finishing => Doing::Finishing,
        Phase::Completed | Phase::Cancelled | Phase::Failed => Doing::Completed,
    };
    let left_bytes = match doing {
        Doing::Mirroring => progress.disk_bytes.saturating_sub(progress.disk_done_bytes),
        _ => progress.memory_remaining_bytes,
    };
    let left_ms = bytes_per_s.filter(|rate| *rate > 0);
    let left_ms = left_ms.map(|rate| left_bytes.saturating_mul(1_000) / rate);
    MoveProgress {
        doing,
        copy,
        disk_bytes: progress.disk_bytes,
        disk_done_bytes: progress.disk_done_bytes,
        memory_done_bytes: progress.memory_done_bytes,
        memory_remaining_bytes: progress.memory_remaining_bytes,
        bytes_per_s,
        left_ms,
        told: None,
    }
}

/// A copy that has failed or was cancelled comes to nothing more.
pub(super) fn not_ended(progress: &Progress) -> Result<(), Trouble> {
    if !matches!(progress.phase, Phase::Failed | Phase::Cancelled) {
        return Ok(());
    }
    let why = progress.failure.as_deref().unwrap_or("it was cancelled");
    Err(Trouble::permanent(format!("the copy ended: {why}")))
}

/// Gives the copy up. Where none is, or the source's agent has closed the move, there is nothing to
/// give up.
pub(super) async fn cancel<P: Parties>(ends: Ends<'_, P>, cx: &Context) -> Result<(), Trouble> {
    match ends.copy(cx, "cancel", CopyCommand::Cancel).await {
        Ok(_) => Ok(()),
        Err(said) if matches!(said.code(), Some(Code::Ended)) => Ok(()),
        Err(said) => Err(said.into()),
    }
}
