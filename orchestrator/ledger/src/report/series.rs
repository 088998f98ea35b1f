//! Figures over time, however long a move takes: when there are too many, neighbours become one.

use serde::{Deserialize, Serialize};

/// Most samples in one series.
pub const SAMPLES_MAX: usize = 2_000;

/// How much had been carried by a moment, since the move began. Where the next attempt begins anew,
/// the figures may fall: what is carried then counts from zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at_ms: u64,
    /// Disk.
    pub disk_bytes: u64,
    /// Memory, repeats included.
    pub memory_bytes: u64,
    /// Packets of flows, held ones included.
    pub packet_bytes: u64,
    /// All that the tunnel put on the wire, from source to target.
    pub wire_bytes: u64,
}

/// What the flows were owed at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallSample {
    /// When.
    pub at_ms: u64,
    /// Flows that were owed something.
    pub flows_owing: u64,
    /// What they were owed together.
    pub owed_bytes: u64,
    /// For how long the one that waited longest had waited.
    pub longest_owed_ms: u64,
}

/// Two neighbours become one.
pub trait Merge: Copy {
    /// What stands for both in the series.
    #[must_use]
    fn merged_with(self, later: Self) -> Self;
}

impl Merge for Sample {
    /// Totals: the later one says it all.
    fn merged_with(self, later: Sample) -> Sample {
        later
    }
}

impl Merge for StallSample {
    /// A peak stays one, and keeps its time.
    fn merged_with(self, later: StallSample) -> StallSample {
        let peak = if self.longest_owed_ms > later.longest_owed_ms { self } else { later };
        StallSample {
            flows_owing: self.flows_owing.max(later.flows_owing),
            owed_bytes: self.owed_bytes.max(later.owed_bytes),
            ..peak
        }
    }
}

/// A series of at most [`SAMPLES_MAX`].
#[derive(Debug, Clone)]
pub struct Series<S> {
    samples: Vec<S>,
    pending: Option<S>,
    pending_count: usize,
    per_sample: usize,
}

impl<S> Default for Series<S> {
    fn default() -> Series<S> {
        Series { samples: Vec::new(), pending: None, pending_count: 0, per_sample: 1 }
    }
}

impl<S: Merge> Series<S> {
    /// Takes in the next one.
    pub fn push(&mut self, sample: S) {
        let merged = self.pending.map_or(sample, |pending| pending.merged_with(sample));
        self.pending_count += 1;
        if self.pending_count < self.per_sample {
            self.pending = Some(merged);
            return;
        }
        (self.pending, self.pending_count) = (None, 0);
        self.samples.push(merged);
        // One less than the bound: a pending one may come on top.
        if self.samples.len() >= SAMPLES_MAX {
            self.halve();
        }
    }

    /// All of them, the last one included.
    #[must_use]
    pub fn told(&self) -> Vec<S> {
        self.samples.iter().copied().chain(self.pending).collect()
    }

    fn halve(&mut self) {
        let halved = self
            .samples
            .chunks(2)
            .filter_map(|pair| pair.iter().copied().reduce(Merge::merged_with));
        self.samples = halved.collect();
        self.per_sample *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_stays_bounded_and_keeps_its_last_total() {
        let mut series = Series::default();
        for at_ms in 1..=100_001 {
            series.push(Sample { at_ms, disk_bytes: at_ms * 10, ..Sample::default() });
            assert!(series.samples.len() < SAMPLES_MAX);
        }
        let told = series.told();
        assert!(told.len() <= SAMPLES_MAX && told.len() > SAMPLES_MAX / 4, "{}", told.len());
        assert_eq!(told.last().map(|last| last.disk_bytes), Some(1_000_010));
        assert!(told.is_sorted_by(|one, next| one.at_ms < next.at_ms));
    }

    #[test]
    fn a_peak_outlives_the_thinning() {
        let mut series = Series::default();
        for at_ms in 0..50_000 {
            let longest_owed_ms = if at_ms == 31_415 { 700 } else { 3 };
            series.push(StallSample { at_ms, longest_owed_ms, ..StallSample::default() });
        }
        let peak = series.told().into_iter().max_by_key(|sample| sample.longest_owed_ms).unwrap();
        assert_eq!((peak.at_ms, peak.longest_owed_ms), (31_415, 700));
    }
}
