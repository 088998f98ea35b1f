//! Station four, *flow*: what is known of one connection or session, from its first packet to its
//! entry in the history.
//!
//! A flow belongs to the worker that took it, and to nobody else: its fields are plain cells. Others
//! send that worker an order, by the flow's id.

mod life;
mod owing;
mod slab;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use placement::VmName;
use proxy_api::{FlowId, Protocol, Side, WayBytes};
use tokio::net::TcpStream;

pub use life::{Event, Life, Way, Ways};
pub use owing::{Look, Owing};
pub use slab::Slab;

use crate::admit::Place;
use crate::kernel;
use crate::pinned::Seen;
use crate::service::{Backend, Service, Target};

/// Both connections of a flow.
#[derive(Debug)]
pub struct Ends {
    /// Towards the client.
    pub client: TcpStream,
    /// Towards the backend.
    pub server: TcpStream,
}

impl Ends {
    /// The connection to `side`.
    #[must_use]
    pub fn of(&self, side: Side) -> &TcpStream {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Has both connections end in a RST once they are dropped: a stream that was broken off must
    /// not look complete.
    pub fn break_off(&self) {
        for end in [&self.client, &self.server] {
            break_off(end);
        }
    }
}

/// Has a connection end in a RST once it is dropped.
pub fn break_off(end: &impl AsFd) {
    // Refused only by what is no connection any more.
    let _ = rustix::net::sockopt::set_socket_linger(end, Some(Duration::ZERO));
}

/// One flow.
#[derive(Debug)]
pub struct Flow {
    id: FlowId,
    client: SocketAddr,
    vip: SocketAddr,
    service: Arc<Service>,
    backend: Cell<usize>,
    source: Cell<Option<SocketAddr>>,
    opened: Instant,
    opened_at_ms: u64,
    life: Cell<Life>,
    owing: [Cell<Owing>; 2],
    last_bytes: Cell<Option<Instant>>,
    closed: Cell<Option<Instant>>,
    order: Cell<Option<Event>>,
    waker: RefCell<Option<Waker>>,
    ends: RefCell<Option<Rc<Ends>>>,
    metered: Cell<[u64; 2]>,
    is_watched: Cell<bool>,
    place: RefCell<Option<Place>>,
}

impl Flow {
    /// A new flow; it begins as [`Life::Dialling`].
    #[must_use]
    pub fn new(
        id: FlowId,
        (client, vip): (SocketAddr, SocketAddr),
        (service, backend): (Arc<Service>, usize),
        place: Place,
        opened_at_ms: u64,
    ) -> Flow {
        let flow = Flow {
            id,
            client,
            vip,
            service,
            backend: Cell::new(backend),
            source: Cell::new(None),
            opened: Instant::now(),
            opened_at_ms,
            life: Cell::new(Life::Dialling),
            owing: Default::default(),
            last_bytes: Cell::new(None),
            closed: Cell::new(None),
            order: Cell::new(None),
            waker: RefCell::new(None),
            ends: RefCell::new(None),
            metered: Cell::new([0; 2]),
            is_watched: Cell::new(false),
            place: RefCell::new(Some(place)),
        };
        if let Some(target) = flow.target() {
            target.enter();
        }
        flow
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> FlowId {
        self.id
    }

    /// Its client.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Where its client arrived.
    #[must_use]
    pub fn vip(&self) -> SocketAddr {
        self.vip
    }

    /// Its service, as it was when the flow began.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Where it is in its life.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life.get()
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life.get().reason().is_some()
    }

    /// When bytes last passed, or else when it began.
    #[must_use]
    pub fn last_sign(&self) -> Instant {
        self.last_bytes.get().unwrap_or(self.opened)
    }

    /// The address that serves it.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Target>> {
        self.backend().and_then(|backend| backend.target(&self.vip))
    }

    /// Hands it to another backend, the first having refused.
    pub fn serve_by(&self, backend: usize) {
        if let Some(target) = self.target() {
            target.leave();
        }
        self.backend.set(backend);
        if let Some(target) = self.target() {
            target.enter();
        }
    }

    /// The index of the backend that serves it.
    #[must_use]
    pub fn served_by(&self) -> usize {
        self.backend.get()
    }

    /// A backend has answered over these connections.
    pub fn connected(&self, ends: &Rc<Ends>) {
        self.source.set(ends.server.local_addr().ok());
        self.happened(Event::Connected);
        *self.ends.borrow_mut() = Some(Rc::clone(ends));
    }

    /// Its session's socket towards the backend is there.
    pub fn session_opened(&self, source: Option<SocketAddr>) {
        self.source.set(source);
        self.happened(Event::Connected);
    }

    /// Something happened to it.
    pub fn happened(&self, event: Event) {
        self.life.set(self.life.get().after(event));
    }

    /// Bytes from `from` were taken, and some given.
    pub fn passed(&self, from: Side, taken: u64, given: u64, now: Instant) {
        let life = self.life.get();
        let life = if taken > 0 { life.after(Event::Taken { from, bytes: taken }) } else { life };
        self.life.set(life.after(Event::Given { from, bytes: given }));
        self.last_bytes.set(Some(now));
        // A datagram that was given is owed by nobody: who would acknowledge it?
        if taken > 0
            && self.service.config.protocol == Protocol::Tcp
            && let Some(owing) = self.owing.get(from as usize)
        {
            let mut owed = owing.get();
            owed.taken(now);
            owing.set(owed);
        }
    }

    /// Tells whoever carries it to end it with `event`. The first order counts.
    pub fn order(&self, event: Event) {
        if self.order.get().is_none() {
            self.order.set(Some(event));
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The order to end it, if one was given; else wakes `context` when one is.
    pub fn poll_ordered(&self, context: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.order.get() {
            return Poll::Ready(event);
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for an order to end it.
    pub async fn ordered(&self) -> Event {
        poll_fn(|context| self.poll_ordered(context)).await
    }

    /// True once: whoever gets it puts the flow on the watch.
    pub fn start_watching(&self) -> bool {
        !self.is_watched.replace(true)
    }

    /// The watch looks: what has passed goes to the metrics, what is owed to the ledger. False
    /// where there is nothing left to watch, until bytes pass again.
    pub fn watched(&self, now: Instant) -> bool {
        self.meter();
        let goes_on = self.look(now);
        self.is_watched.set(goes_on);
        goes_on
    }

    /// It is over: gives back its place, its connections and its backend's.
    pub fn close(&self, event: Event) {
        self.happened(event);
        let now = Instant::now();
        if let Some(ends) = self.ends.borrow_mut().take() {
            self.weigh(&ends, now);
        }
        for owing in &self.owing {
            let mut owed = owing.get();
            owed.closed(now);
            owing.set(owed);
        }
        self.meter();
        self.closed.set(Some(now));
        self.waker.borrow_mut().take();
        if self.place.borrow_mut().take().is_some()
            && let Some(target) = self.target()
        {
            target.leave();
        }
    }

    /// A move lists it: what is owed from now on counts by itself too.
    pub fn list(&self) {
        let now = Instant::now();
        if let Some(ends) = self.ends.borrow().as_ref() {
            self.weigh(ends, now);
        }
        for owing in &self.owing {
            let mut owed = owing.get();
            owed.list(now);
            owing.set(owed);
        }
    }

    /// As a move's list has it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let (flow, now) = (self.told(), Instant::now());
        let stalls = self.owing.each_ref().map(|owing| owing.get().longest_since_listing(now));
        let stall = stalls.into_iter().max().unwrap_or_default();
        Seen { flow, stall_us: u64::try_from(stall.as_micros()).unwrap_or(u64::MAX) }
    }

    /// As it is told.
    #[must_use]
    pub fn told(&self) -> proxy_api::Flow {
        let now = Instant::now();
        if let Some(ends) = self.ends.borrow().as_ref() {
            self.weigh(ends, now);
        }
        let config = &self.service.config;
        let (backend, vm) = match self.backend() {
            Some(backend) => (backend.config.name.clone(), backend.config.vm.clone()),
            None => (config.name.clone(), None),
        };
        let [up, down] = [self.owing[0].get(), self.owing[1].get()];
        let since = [up.since(), down.since()].into_iter().flatten().min();
        let ways = self.life.get().ways();
        let bytes = |way: Way, owing: Owing| WayBytes {
            taken: way.taken(),
            given: way.given(),
            owed: owing.owed(),
        };
        let stall = up.longest(now).max(down.longest(now));
        proxy_api::Flow {
            id: self.id,
            service: config.name.clone(),
            protocol: config.protocol,
            client: self.client,
            vip: self.vip,
            backend,
            vm,
            server: self.target().map_or(self.vip, |target| target.address),
            source: self.source.get(),
            state: self.life.get().told(),
            up: bytes(ways.up, up),
            down: bytes(ways.down, down),
            opened_at_ms: self.opened_at_ms,
            last_bytes_at_ms: self.last_bytes.get().map(|at| self.unix_ms(at)),
            closed_at_ms: self.closed.get().map(|at| self.unix_ms(at)),
            owed_since_ms: since.map(|at| self.unix_ms(at)),
            stall_us_max: u64::try_from(stall.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// The VM that serves it, where that may move.
    #[must_use]
    pub fn vm(&self) -> Option<&VmName> {
        self.backend().and_then(|backend| backend.config.vm.as_ref())
    }

    fn backend(&self) -> Option<&Backend> {
        self.service.backends.get(self.backend.get())
    }

    fn unix_ms(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.opened).as_millis();
        self.opened_at_ms + u64::try_from(after).unwrap_or(u64::MAX / 2)
    }

    fn meter(&self) {
        let ways = self.life.get().ways();
        let given = [ways.up.given(), ways.down.given()];
        let before = self.metered.replace(given);
        for (from, (given, before)) in
            [Side::Client, Side::Server].into_iter().zip(given.into_iter().zip(before))
        {
            if given > before {
                self.service.standing.measures.passed(from, given - before);
            }
        }
    }

    /// A half-closed flow stays on the watch: nobody else would notice that its silent end broke
    /// it off.
    fn look(&self, now: Instant) -> bool {
        let ends = self.ends.borrow().clone();
        let Some(ends) = ends else { return false };
        for side in [Side::Client, Side::Server] {
            if let Some(event) = broken(ends.of(side), side) {
                self.order(event);
                return false;
            }
        }
        let is_half_closed = matches!(self.life.get(), Life::Open { first: Some(_), .. });
        self.weigh(&ends, now) || is_half_closed
    }

    /// Asks the kernel what each end has acknowledged; true if something is owed.
    fn weigh(&self, ends: &Ends, now: Instant) -> bool {
        let mut owes = false;
        for from in [Side::Client, Side::Server] {
            let Some(owing) = self.owing.get(from as usize) else { continue };
            let receiver = ends.of(from.other());
            let Ok(state) = kernel::tcp_state(receiver) else { continue };
            let way = self.life.get().ways().from(from);
            // A FIN counts as one, and is owed by nobody.
            let fin = u64::from(way.has_ended());
            let in_flight = kernel::unacknowledged_bytes(receiver).unwrap_or(0);
            let look = Look {
                owed: way.held() + in_flight.saturating_sub(fin),
                acknowledged: state.acknowledged,
                last_ack_ago: state.last_ack_ago,
            };
            let mut owed = owing.get();
            owes |= owed.looked(look, now);
            owing.set(owed);
        }
        owes
    }
}

/// What became of a connection that is no more, where that was no orderly end.
fn broken(end: &TcpStream, side: Side) -> Option<Event> {
    if !kernel::tcp_state(end).ok()?.is_closed {
        return None;
    }
    end.take_error().ok()?.map(|error| broken_by(side, &error))
}

/// What an error on the connection to `side` says about that side.
#[must_use]
pub fn broken_by(side: Side, error: &std::io::Error) -> Event {
    use std::io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    match error.kind() {
        TimedOut | HostUnreachable | NetworkDown | NetworkUnreachable => Event::Lost { side },
        _ => Event::Reset { by: side },
    }
}
