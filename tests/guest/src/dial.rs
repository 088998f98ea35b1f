//! A setting that the event loop turns and a thread of its own obeys.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A value, or the order to stop.
#[derive(Debug)]
pub(crate) struct Dial<T> {
    wanted: Mutex<Option<T>>,
    turned: Condvar,
}

impl<T: Copy + PartialEq> Dial<T> {
    pub(crate) fn new(wanted: T) -> Self {
        Self { wanted: Mutex::new(Some(wanted)), turned: Condvar::new() }
    }

    pub(crate) fn set(&self, wanted: T) {
        *self.lock() = Some(wanted);
        self.turned.notify_all();
    }

    pub(crate) fn stop(&self) {
        *self.lock() = None;
        self.turned.notify_all();
    }

    /// The value; `None` once it is time to stop.
    pub(crate) fn get(&self) -> Option<T> {
        *self.lock()
    }

    /// Waits until the value is another than `known`, or for `until`. `None`: stop.
    pub(crate) fn wait(&self, known: T, until: Option<Instant>) -> Option<T> {
        let mut wanted = self.lock();
        while *wanted == Some(known) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            wanted = match left {
                None => self.turned.wait(wanted).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    let waited = self.turned.wait_timeout(wanted, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *wanted
    }

    /// A holder that panicked left a whole value: one assignment is all that is ever done.
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
