//! Station two, *admit*: whether a new client may have a flow.
//!
//! A client that may not is turned away at once, with a RST where it has a connection, and counted
//! by reason. It never becomes a flow, so that a flood of refusals pushes nothing out of the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proxy_api::RefusedFor;

use crate::service::{Service, Standing};

/// How many flows the whole proxy has, and may have.
#[derive(Debug)]
pub struct Capacity {
    active: AtomicU64,
    max: AtomicU64,
}

impl Capacity {
    /// Room for `max` flows.
    #[must_use]
    pub fn new(max: u64) -> Capacity {
        Capacity { active: AtomicU64::new(0), max: AtomicU64::new(max) }
    }

    /// Room for `max` flows from now on; those above it live on.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Flows that live.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    fn enter(&self) -> bool {
        if self.active.fetch_add(1, Ordering::Relaxed) >= self.max.load(Ordering::Relaxed) {
            self.active.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A flow's place among those that may be; given back when dropped.
#[derive(Debug)]
pub struct Place {
    standing: Arc<Standing>,
    capacity: Arc<Capacity>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.standing.leave();
        self.capacity.leave();
    }
}

/// A place for one more flow of `service`, or why there is none.
///
/// # Errors
/// The service drains, or there are enough flows.
pub fn admit(service: &Service, capacity: &Arc<Capacity>) -> Result<Place, RefusedFor> {
    let standing = &service.standing;
    if standing.is_draining() {
        return Err(RefusedFor::Draining);
    }
    if !standing.enter(service.config.flows_max) {
        return Err(RefusedFor::ServiceLimit);
    }
    if !capacity.enter() {
        standing.leave();
        return Err(RefusedFor::ProxyLimit);
    }
    Ok(Place { standing: Arc::clone(standing), capacity: Arc::clone(capacity) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Services;
    use crate::service::tests::config;

    #[test]
    fn limits_hold_and_a_place_given_back_is_free() {
        let services = Services::following(&[config(&["10.0.0.1:1"])], &Services::default());
        let service = &services.all()[0];
        let capacity = Arc::new(Capacity::new(2));
        let first = admit(service, &capacity).unwrap();
        let second = admit(service, &capacity).unwrap();
        assert_eq!(admit(service, &capacity).unwrap_err(), RefusedFor::ProxyLimit);
        capacity.set_max(9);
        let third = admit(service, &capacity).unwrap();
        assert_eq!(admit(service, &capacity).unwrap_err(), RefusedFor::ServiceLimit);
        drop((first, second, third));
        assert_eq!((capacity.active(), service.standing.active()), (0, 0));
        service.standing.drain(true);
        assert_eq!(admit(service, &capacity).unwrap_err(), RefusedFor::Draining);
        service.standing.drain(false);
        admit(service, &capacity).unwrap();
    }
}
