//! Figures over time: how much a move has carried, and what its flows were owed. Bounded, however
//! long it takes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::report::{Sample, Series, StallSample};
use orchestrator_api::{Doing, MoveProgress};
use proxy_api::{FlowState, PinnedPage};
use serde::{Deserialize, Serialize};

/// What was sampled of one move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// What was carried by then.
    pub samples: Vec<Sample>,
    /// What flows were owed then.
    pub stall_samples: Vec<StallSample>,
    /// What had been carried when all was: unset where that was not seen.
    pub carried: Option<Sample>,
}

/// Takes figures as they come. Never waits.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    samples: Series<Sample>,
    stall_samples: Series<StallSample>,
    carried: Option<Sample>,
    is_new: bool,
}

impl Recorder {
    /// Goes on from what was kept.
    #[must_use]
    pub fn after(figures: &Figures) -> Recorder {
        let mut inner = Inner { carried: figures.carried, ..Inner::default() };
        figures.samples.iter().for_each(|sample| inner.samples.push(*sample));
        figures.stall_samples.iter().for_each(|sample| inner.stall_samples.push(*sample));
        Recorder(Mutex::new(inner))
    }

    /// How far a step is.
    pub fn progress(&self, at_ms: u64, progress: &MoveProgress) {
        // Of one that waits nothing is carried, and its figures may be none.
        if progress.doing == Doing::AtGate {
            return;
        }
        let mut inner = self.lock();
        inner.is_new = true;
        let sample = Sample {
            at_ms,
            disk_bytes: progress.disk_done_bytes,
            memory_bytes: progress.memory_done_bytes,
            ..Sample::default()
        };
        inner.samples.push(sample);
        // What goes on, or begins anew, has not carried all.
        inner.carried = (progress.doing == Doing::Completed).then_some(sample);
    }

    /// What flows are owed at this moment, by what their proxies have just told.
    pub fn owed(&self, at_ms: u64, pages: &[PinnedPage]) {
        let mut inner = self.lock();
        inner.is_new = true;
        inner.stall_samples.push(owed(at_ms, pages));
    }

    /// All of it, where there is anything new since this was asked last.
    #[must_use]
    pub fn news(&self) -> Option<Figures> {
        let mut inner = self.lock();
        std::mem::take(&mut inner.is_new).then(|| inner.told())
    }

    /// All of it.
    #[must_use]
    pub fn told(&self) -> Figures {
        self.lock().told()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn told(&self) -> Figures {
        let (samples, stall_samples) = (self.samples.told(), self.stall_samples.told());
        Figures { samples, stall_samples, carried: self.carried }
    }
}

/// Each flow's time by its own proxy's clock.
fn owed(at_ms: u64, pages: &[PinnedPage]) -> StallSample {
    let mut sample = StallSample { at_ms, ..StallSample::default() };
    for page in pages {
        for pinned in &page.flows {
            let is_over = matches!(pinned.flow.state, FlowState::Closed { .. });
            let Some(since) = pinned.flow.owed_since_ms.filter(|_| !is_over) else { continue };
            sample.flows_owing += 1;
            sample.owed_bytes = sample.owed_bytes.saturating_add(pinned.flow.owed_bytes());
            let owed_ms = page.as_of_ms.saturating_sub(since);
            sample.longest_owed_ms = sample.longest_owed_ms.max(owed_ms);
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{page, pinned};
    use super::*;

    fn progress(doing: Doing, disk: u64, memory: u64) -> MoveProgress {
        MoveProgress {
            doing,
            copy: Some(1),
            disk_bytes: 100,
            disk_done_bytes: disk,
            memory_done_bytes: memory,
            memory_remaining_bytes: 0,
            bytes_per_s: None,
            left_ms: None,
            told: None,
        }
    }

    #[test]
    fn what_is_new_is_told_once_and_a_later_service_goes_on_from_it() {
        let recorder = Recorder::default();
        assert_eq!(recorder.news(), None);
        recorder.progress(10, &progress(Doing::Mirroring, 40, 0));
        recorder.progress(20, &progress(Doing::AtGate, 0, 0));
        let told = recorder.news().unwrap();
        assert_eq!((told.samples.len(), recorder.news()), (1, None));
        let later = Recorder::after(&told);
        assert_eq!(later.news(), None);
        later.progress(30, &progress(Doing::Copying, 100, 7));
        let samples = later.told().samples;
        assert_eq!(samples.iter().map(|s| s.disk_bytes).collect::<Vec<_>>(), [40, 100]);
        assert_eq!(samples[1].memory_bytes, 7);
        assert_eq!(later.told().carried, None);
        later.progress(40, &progress(Doing::Completed, 100, 9));
        assert_eq!(Recorder::after(&later.told()).told().carried.unwrap().memory_bytes, 9);
        later.progress(50, &progress(Doing::Anew, 0, 0));
        assert_eq!(later.told().carried, None);
    }

    #[test]
    fn only_what_live_flows_are_owed_counts_and_the_longest_is_told() {
        let mut owing = [pinned(1), pinned(2), pinned(3)];
        owing[0].flow.owed_since_ms = Some(400);
        owing[0].flow.up.owed = 9;
        owing[1].flow.owed_since_ms = Some(900);
        owing[2].flow.owed_since_ms = Some(100);
        owing[2].flow.state = FlowState::Closed { reason: proxy_api::CloseReason::ServerLost };
        let recorder = Recorder::default();
        recorder.owed(7, &[page(1_000, owing.to_vec())]);
        let [sample] = recorder.told().stall_samples[..] else { panic!() };
        let got = (sample.at_ms, sample.flows_owing, sample.owed_bytes, sample.longest_owed_ms);
        assert_eq!(got, (7, 2, 9, 600));
    }
}
