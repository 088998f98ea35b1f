//! Time and chance, for the core that has none.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::peer::Peer;
use crate::protocol::Moment;
use crate::protocol::session::Session;
use crate::protocol::wire::Incarnation;

/// Where a tunnel end's moments begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(self) -> Moment {
        Moment::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn instant(self, moment: Moment) -> Instant {
        self.0 + Duration::from_micros(moment.as_micros())
    }
}

/// Calls a session when something is due.
pub(super) async fn watch_the_clock(peer: Arc<Peer>, clock: Clock) {
    loop {
        match peer.with(|session, _| session.next_deadline()) {
            None => peer.deadline.notified().await,
            Some(due) => {
                let due = clock.instant(due);
                tokio::select! {
                    () = sleep_until(due.into()) => {
                        peer.with(Session::tick);
                    }
                    () = peer.deadline.notified() => {}
                }
            }
        }
    }
}

/// A number that no other process draws, which is all that an incarnation and a jitter need: the
/// standard library seeds its hashers from the system.
pub(super) fn draw() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

pub(super) fn incarnation() -> Incarnation {
    Incarnation(draw() | 1)
}
