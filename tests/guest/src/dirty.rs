//! Memory made dirty at a rate, so that a move has something to chase.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::dial::Dial;

const PAGE_BYTES: usize = 4096;
const PAGES_PER_MIB: usize = (1 << 20) / PAGE_BYTES;

/// One round of writing. Shorter ones would cost more in waking up than in writing.
const ROUND: Duration = Duration::from_millis(10);

/// Largest share of the memory that is free for the working set: the rest serves the flows.
const FREE_SHARE_MAX: u64 = 2;

/// How fast, over how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyRate {
    /// Whole pages written anew in each second; 0 stops, and gives the memory back.
    pub mib_per_s: u32,
    /// The memory that is written to, in turn.
    pub working_set_mib: u32,
}

/// What was dirtied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyCounters {
    /// The rate that is set.
    pub rate: DirtyRate,
    /// Pages written since the start.
    pub pages: u64,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Dirtier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    rate: Dial<DirtyRate>,
    pages: AtomicU64,
}

impl Dirtier {
    /// Starts the thread; it rests until a rate is set.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> io::Result<Self> {
        let rate = Dial::new(DirtyRate::default());
        let shared = Arc::new(Shared { rate, pages: AtomicU64::new(0) });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("dirtier".into()).spawn(move || {
            keep_dirtying(&theirs);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sets the rate.
    ///
    /// # Errors
    /// Why this machine cannot have it, to be told to whoever asked.
    pub fn set(&self, rate: DirtyRate) -> Result<(), String> {
        let wanted_kib = u64::from(rate.working_set_mib) * 1024;
        if rate.mib_per_s > 0 && rate.working_set_mib == 0 {
            return Err("a rate without a working set; give working_set_mib".into());
        }
        if let Some(free_kib) = available_kib()
            && wanted_kib > free_kib / FREE_SHARE_MAX
        {
            let most = free_kib / FREE_SHARE_MAX / 1024;
            return Err(format!(
                "a working set of {} MiB is too large here; {most} MiB is the most",
                rate.working_set_mib
            ));
        }
        self.shared.rate.set(rate);
        Ok(())
    }

    /// What was dirtied so far.
    #[must_use]
    pub fn counters(&self) -> DirtyCounters {
        let rate = self.shared.rate.get().unwrap_or_default();
        DirtyCounters { rate, pages: self.shared.pages.load(Ordering::Relaxed) }
    }
}

impl Drop for Dirtier {
    fn drop(&mut self) {
        self.shared.rate.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on the console.
            let _ = thread.join();
        }
    }
}

fn keep_dirtying(shared: &Shared) {
    let mut known = DirtyRate::default();
    while let Some(rate) = shared.rate.wait(known, None) {
        known = rate;
        if rate.mib_per_s > 0 {
            dirty_at(rate, shared);
        }
    }
}

/// Writes at `rate` until another is set. Pages hold what no compressor can shorten.
fn dirty_at(rate: DirtyRate, shared: &Shared) {
    let mut memory = vec![0_u8; rate.working_set_mib as usize * PAGES_PER_MIB * PAGE_BYTES];
    let per_second = u64::from(rate.mib_per_s) * PAGES_PER_MIB as u64;
    let pages = (memory.len() / PAGE_BYTES) as u64;
    let start = Instant::now();
    let (mut written, mut round) = (0_u64, 0_u32);
    loop {
        let due = per_second * u64::from(round) * ROUND.as_millis() as u64 / 1000;
        while written < due {
            let at = (written % pages) as usize * PAGE_BYTES;
            scribble(&mut memory[at..at + PAGE_BYTES], written);
            written += 1;
            shared.pages.fetch_add(1, Ordering::Relaxed);
        }
        black_box(&mut memory);
        // A machine that cannot keep the pace writes on without rest, and still hears the dial.
        round += 1;
        if shared.rate.wait(rate, Some(start + ROUND * round)) != Some(rate) {
            return;
        }
    }
}

fn scribble(page: &mut [u8], seed: u64) {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in page.chunks_exact_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        chunk.copy_from_slice(&word.to_le_bytes());
    }
}

fn available_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest wait for pages that are due within milliseconds.
    const WAIT_MAX: Duration = Duration::from_secs(20);

    #[test]
    fn memory_is_dirtied_while_a_rate_is_set() {
        let dirtier = Dirtier::start().unwrap();
        assert_eq!(dirtier.counters().pages, 0);
        dirtier.set(DirtyRate { mib_per_s: 50, working_set_mib: 1 }).unwrap();
        let until = Instant::now() + WAIT_MAX;
        // More than the working set: it is written in turn, again and again.
        while dirtier.counters().pages < 2 * PAGES_PER_MIB as u64 {
            assert!(Instant::now() < until, "no pages were dirtied: {:?}", dirtier.counters());
            std::thread::yield_now();
        }
        dirtier.set(DirtyRate::default()).unwrap();
    }

    #[test]
    fn a_working_set_that_does_not_fit_is_refused_with_what_does() {
        let dirtier = Dirtier::start().unwrap();
        let refused = dirtier.set(DirtyRate { mib_per_s: 1, working_set_mib: u32::MAX });
        assert!(refused.unwrap_err().contains("MiB is the most"));
        assert!(dirtier.set(DirtyRate { mib_per_s: 1, working_set_mib: 0 }).is_err());
    }
}
