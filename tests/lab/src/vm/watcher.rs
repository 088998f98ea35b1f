//! A watcher at a QEMU's own monitor: when its VM ran, as QEMU itself tells it.

use std::fmt;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::qmp::{Qmp, QmpError};

/// A time in which the VM ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Since 1970.
    pub from: Duration,
    /// None while it runs.
    pub until: Option<Duration>,
}

/// What one QEMU's VM did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The QEMU, by the name that the test gave it.
    pub qemu: String,
    /// When the VM ran, in order.
    pub runs: Vec<Run>,
    /// How often the guest was reset: a healthy one never is.
    pub resets: usize,
}

impl fmt::Display for Watched {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ran", self.qemu)?;
        for run in &self.runs {
            write!(out, " [{:.6} to ", run.from.as_secs_f64())?;
            match run.until {
                Some(until) => write!(out, "{:.6}]", until.as_secs_f64())?,
                None => out.write_str("now]")?,
            }
        }
        write!(out, ", {} resets", self.resets)
    }
}

/// Two QEMUs whose VMs ran at one time: the thing that must never be.
#[must_use]
pub fn ran_twice(watched: &[Watched]) -> Option<(&Watched, &Watched)> {
    let overlap = |one: &Run, other: &Run| {
        let ends_before = |run: &Run, next: &Run| run.until.is_some_and(|until| until <= next.from);
        !ends_before(one, other) && !ends_before(other, one)
    };
    let pairs = watched
        .iter()
        .enumerate()
        .flat_map(|(at, one)| watched[at + 1..].iter().map(move |other| (one, other)));
    pairs.into_iter().find(|(one, other)| {
        one.runs.iter().any(|run| other.runs.iter().any(|next| overlap(run, next)))
    })
}

/// A watcher at work.
pub struct Watcher {
    seen: Arc<Mutex<Watched>>,
    lifeline: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches from now on, over a monitor that nobody else uses.
    ///
    /// # Errors
    /// The monitor does not answer.
    pub fn start(qemu: impl Into<String>, monitor: &Path) -> Result<Self, QmpError> {
        let mut qmp = Qmp::connect(monitor)?;
        let ended = |cause| QmpError::Ended { at: "the watch".to_owned(), cause };
        let lifeline = qmp.lifeline().map_err(ended)?;
        let status = qmp.execute("query-status", Value::Null)?;
        let mut watched = Watched { qemu: qemu.into(), runs: Vec::new(), resets: 0 };
        if status["running"] == true {
            watched.runs.push(Run { from: now(), until: None });
        }
        let seen = Arc::new(Mutex::new(watched));
        let told = Arc::clone(&seen);
        let thread = thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watch(&mut qmp, &told))
            .map_err(ended)?;
        Ok(Self { seen, lifeline, thread: Some(thread) })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn so_far(&self) -> Watched {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the QEMU, which somebody else has ended, and gives all that was seen.
    #[must_use]
    pub fn to_the_end(mut self) -> Watched {
        if let Some(thread) = self.thread.take() {
            // It has nothing to give but what it has told already.
            let _ = thread.join();
        }
        self.so_far()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Where the thread has ended already there is nothing to end.
        let _ = self.lifeline.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(qmp: &mut Qmp, told: &Mutex<Watched>) {
    loop {
        let event = qmp.next_event();
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(event) = event else {
            // With QEMU its VM is gone.
            end_run(&mut told.runs, now());
            return;
        };
        match event.name.as_str() {
            "RESUME" => told.runs.push(Run { from: event.at, until: None }),
            "STOP" => end_run(&mut told.runs, event.at),
            "RESET" => told.resets += 1,
            _ => {}
        }
    }
}

fn end_run(runs: &mut [Run], at: Duration) {
    if let Some(Run { until: until @ None, .. }) = runs.last_mut() {
        *until = Some(at);
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(qemu: &str, runs_ms: &[(u64, Option<u64>)]) -> Watched {
        let run = |(from, until): &(u64, Option<u64>)| Run {
            from: Duration::from_millis(*from),
            until: until.map(Duration::from_millis),
        };
        Watched { qemu: qemu.to_owned(), runs: runs_ms.iter().map(run).collect(), resets: 0 }
    }

    #[test]
    fn runs_that_follow_one_another_are_one_vm() {
        let moved = [ran("a", &[(0, Some(10)), (40, None)]), ran("b", &[(10, Some(30))])];
        assert_eq!(ran_twice(&moved), None);
    }

    #[test]
    fn any_overlap_is_found_and_named() {
        for b in [(9, Some(30)), (3, Some(4)), (20, None)] {
            let a = if b.0 == 20 { (0, None) } else { (0, Some(10)) };
            let watched = [ran("a", &[a]), ran("c", &[]), ran("b", &[b])];
            let (one, other) = ran_twice(&watched).unwrap();
            assert_eq!((one.qemu.as_str(), other.qemu.as_str()), ("a", "b"));
        }
    }
}
