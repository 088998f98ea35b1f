//! Station six, *relay*: bytes pass both ways until the flow is over.
//!
//! Small messages take one read and one write through a buffer that all flows of a worker share;
//! only what the receiver does not take at once gets memory of its own, and then the sender is read
//! no further: so much is held of a flow, and no more. A way that keeps filling the buffer is bulk,
//! and goes through a pipe (`splice(2)`) for as long as it stays so.
//!
//! An end is passed on behind the last byte, each way by itself. A RST is passed on as a RST.

mod pipe;
mod way;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use proxy_api::Side;
use tokio::time::{Instant, Sleep, sleep_until};

pub use pipe::{PIPES_MAX, Pipes};
pub use way::BUFFER_BYTES;

use self::way::Carrier;
use crate::flow::{Ends, Event, Flow};
use crate::held::Held;
use crate::worker::Worker;

/// Carries the flow until it is over; gives the event that ends it, which is the last end where it
/// ended in order.
pub async fn relay(worker: &Worker, flow: &Rc<Flow>, ends: &Ends) -> Event {
    let mut relay = Relay {
        worker,
        flow,
        ends,
        up: Carrier::from(Side::Client),
        down: Carrier::from(Side::Server),
        idle: flow.service().config.idle_timeout.map(Idle::new),
    };
    let event = poll_fn(|context| relay.poll(context)).await;
    relay.up.give_back(&worker.pipes);
    relay.down.give_back(&worker.pipes);
    event
}

struct Relay<'r> {
    worker: &'r Worker,
    flow: &'r Rc<Flow>,
    ends: &'r Ends,
    up: Carrier,
    down: Carrier,
    idle: Option<Idle>,
}

impl Relay<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.flow.poll_ordered(context) {
            return Poll::Ready(event);
        }
        let before = self.flow.life().ways();
        for way in [&mut self.up, &mut self.down] {
            if let Err(event) = way.turn(context, self.worker, self.flow, self.ends) {
                return Poll::Ready(event);
            }
        }
        if self.flow.life().ways() != before {
            self.worker.watch.add(self.flow);
        }
        if self.up.has_ended() && self.down.has_ended() {
            return Poll::Ready(Event::Ended { from: Side::Client });
        }
        match &mut self.idle {
            Some(idle) => idle.poll(context, self.flow, &self.worker.shared.held),
            None => Poll::Pending,
        }
    }
}

/// The flow's time to be silent. The timer is set anew only when it rings: bytes that pass cost it
/// nothing.
pub(crate) struct Idle {
    allowed: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    pub(crate) fn new(allowed: Duration) -> Idle {
        Idle { allowed, timer: Box::pin(sleep_until(Instant::now() + allowed)) }
    }

    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        flow: &Flow,
        held: &Held,
    ) -> Poll<Event> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            // Who cannot answer is not silent.
            let held = held.last(flow.vm(), now.into_std());
            let sign = held.map_or(flow.last_sign(), |held| held.max(flow.last_sign()));
            let due = Instant::from_std(sign) + self.allowed;
            if due <= now {
                return Poll::Ready(Event::Expired);
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
