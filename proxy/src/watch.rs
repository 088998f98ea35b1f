//! A worker's watch over its flows: what they owe, since when, and whether an end has broken off
//! where nobody reads.
//!
//! Only flows whose bytes have passed lately, or are owed, are on it, so that idle ones cost
//! nothing. The kernel tells when the last acknowledgement came, so that stalls are known to the
//! millisecond though the watch looks less often.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::flow::Flow;

/// From one look to the next.
pub const WATCH_MS: u64 = 50;

/// The flows on the watch.
#[derive(Debug, Default)]
pub struct Watch {
    flows: RefCell<Vec<Rc<Flow>>>,
    begun: Notify,
}

impl Watch {
    /// Puts a flow on the watch, if it is not on it.
    pub fn add(&self, flow: &Rc<Flow>) {
        if flow.start_watching() {
            let mut flows = self.flows.borrow_mut();
            flows.push(Rc::clone(flow));
            if flows.len() == 1 {
                self.begun.notify_one();
            }
        }
    }

    /// Looks for ever.
    pub async fn keep(&self) {
        loop {
            if self.flows.borrow().is_empty() {
                self.begun.notified().await;
            }
            sleep(Duration::from_millis(WATCH_MS)).await;
            let now = Instant::now();
            self.flows.borrow_mut().retain(|flow| !flow.is_over() && flow.watched(now));
        }
    }
}
