//! UDP: the same stations for sessions. What arrives at a VIP from one client is one session, with
//! a socket of its own towards the backend; answers leave from the VIP.
//!
//! A session holds no datagram: the kernel's socket buffers are the only queues. What does not fit
//! is dropped and counted, as a network would.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proxy_api::{Protocol, RefusedFor, Side};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};

use crate::admit::admit;
use crate::flow::{Event, Flow};
use crate::measures::Dropped;
use crate::relay::Idle;
use crate::route::route;
use crate::service::Service;
use crate::worker::Worker;

/// Datagrams of one socket before others have their turn.
const DATAGRAMS_PER_TURN: u32 = 64;

/// The sessions of one VIP, of all workers.
///
/// A VIP whose service is gone is kept for the sessions that are left, and by all workers alike:
/// were one socket closed, the kernel would share out the clients anew, and their datagrams would
/// reach workers that do not know them.
#[derive(Debug, Default)]
pub(crate) struct Census {
    sessions: AtomicUsize,
    changed: Notify,
}

impl Census {
    fn is_empty(&self) -> bool {
        self.sessions.load(Ordering::SeqCst) == 0
    }

    fn begun(&self) {
        self.sessions.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self) {
        if self.sessions.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.changed.notify_waiters();
        }
    }
}

/// One VIP of a worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    vip: SocketAddr,
    socket: UdpSocket,
    sessions: RefCell<HashMap<SocketAddr, Rc<Session>>>,
    census: Arc<Census>,
    /// Its service is gone.
    is_leaving: Cell<bool>,
}

#[derive(Debug)]
struct Session {
    flow: Rc<Flow>,
    socket: UdpSocket,
}

impl Mailbox {
    pub(crate) fn new(vip: SocketAddr, socket: UdpSocket, census: Arc<Census>) -> Mailbox {
        Mailbox { vip, socket, sessions: RefCell::default(), census, is_leaving: Cell::new(false) }
    }

    /// Takes new sessions no more and ends with the last one; or stays after all.
    pub(crate) fn leave(&self, leaving: bool) {
        self.is_leaving.set(leaving);
        self.census.changed.notify_waiters();
    }

    /// Takes what arrives, until its last session has ended and it is to leave.
    pub(crate) async fn open(self: Rc<Mailbox>, worker: Rc<Worker>) {
        loop {
            // Waited for from before the look, so that no change falls in between.
            let mut changed = pin!(self.census.changed.notified());
            changed.as_mut().enable();
            if self.is_leaving.get() && self.census.is_empty() {
                return;
            }
            let readable = tokio::select! {
                readable = self.socket.readable() => readable,
                () = changed => continue,
            };
            if let Err(error) = readable {
                tracing::error!(vip = %self.vip, %error, "the VIP's socket is lost; reload");
                return;
            }
            self.turn(&worker);
            yield_now().await;
        }
    }

    fn turn(self: &Rc<Mailbox>, worker: &Rc<Worker>) {
        for _ in 0..DATAGRAMS_PER_TURN {
            let mut buffer = worker.buffer.borrow_mut();
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, client)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    self.take(worker, client, datagram);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error for an earlier answer; the next datagram is behind it.
                Err(_) => {}
            }
        }
    }

    fn take(self: &Rc<Mailbox>, worker: &Rc<Worker>, client: SocketAddr, datagram: &[u8]) {
        let known = self.sessions.borrow().get(&client).cloned();
        let session = match known {
            Some(session) => session,
            None => match self.begin(worker, client) {
                Some(session) => session,
                None => return,
            },
        };
        let given = session.send(datagram);
        session.passed(worker, Side::Client, datagram.len(), given);
    }

    /// Admit, route, flow, for the first datagram of a client.
    fn begin(self: &Rc<Mailbox>, worker: &Rc<Worker>, client: SocketAddr) -> Option<Rc<Session>> {
        let services = worker.shared.services.load();
        let service = services.at((Protocol::Udp, self.vip))?;
        let refused = |why: RefusedFor| {
            service.standing.refuse(why);
            service.standing.measures.dropped(Dropped::Refused);
            None
        };
        let place = match admit(service, &worker.shared.capacity) {
            Ok(place) => place,
            Err(why) => return refused(why),
        };
        let Some(backend) = route(service, &self.vip, &[]) else {
            return refused(RefusedFor::NoBackend);
        };
        let socket = match socket(service, &self.vip, backend) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(vip = %self.vip, %client, %error, "no socket for a session");
                return refused(RefusedFor::System);
            }
        };
        let flow = worker.open((client, self.vip), (service, backend), place);
        flow.session_opened(socket.local_addr().ok());
        let session = Rc::new(Session { flow, socket });
        self.sessions.borrow_mut().insert(client, Rc::clone(&session));
        self.census.begun();
        spawn_local(Rc::clone(self).serve(Rc::clone(worker), Rc::clone(&session)));
        Some(session)
    }

    /// Relay and account: answers pass to the client until the session is over.
    async fn serve(self: Rc<Mailbox>, worker: Rc<Worker>, session: Rc<Session>) {
        let flow = &session.flow;
        let mut idle = flow.service().config.idle_timeout.map(Idle::new);
        let expired = poll_fn(|context| match &mut idle {
            Some(idle) => idle.poll(context, flow, &worker.shared.held),
            None => std::task::Poll::Pending,
        });
        let event = tokio::select! {
            biased;
            event = flow.ordered() => event,
            event = self.answers(&worker, &session) => event,
            event = expired => event,
        };
        self.sessions.borrow_mut().remove(&flow.client());
        self.census.ended();
        worker.close(flow, event);
    }

    async fn answers(&self, worker: &Rc<Worker>, session: &Session) -> Event {
        let flow = &session.flow;
        loop {
            let Ok(ready) = session.socket.ready(Interest::READABLE | Interest::ERROR).await else {
                return Event::Reset { by: Side::Server };
            };
            // An ICMP error. Who has never answered is not there: the client's next datagram
            // finds another. Who has may be back at once.
            if ready.is_error() && session.has_failed() {
                flow.service().standing.measures.dropped(Dropped::System);
                if flow.life().ways().down.taken() == 0 {
                    return Event::DialFailed;
                }
            }
            for _ in 0..DATAGRAMS_PER_TURN {
                let mut buffer = worker.buffer.borrow_mut();
                match session.socket.try_recv(&mut buffer) {
                    Ok(length) => {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        let given = send_to(&self.socket, datagram, flow.client());
                        session.passed(worker, Side::Server, length, given);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            yield_now().await;
        }
    }
}

impl Session {
    /// Past the runtime, which sends only where it has heard that there is room: a new socket has
    /// not been heard of, and what finds no room is dropped anyway.
    fn send(&self, datagram: &[u8]) -> Result<usize, Errno> {
        match rustix::net::send(&self.socket, datagram, SendFlags::empty()) {
            // An ICMP error for an earlier datagram; this one was not sent yet.
            Err(Errno::CONNREFUSED) => {
                rustix::net::send(&self.socket, datagram, SendFlags::empty())
            }
            given => given,
        }
    }

    /// Whether the backend's host has sent an ICMP error since this was last asked.
    fn has_failed(&self) -> bool {
        let would_block = || Err::<(), _>(ErrorKind::WouldBlock.into());
        // The runtime forgets what it has heard, and listens again.
        let _ = self.socket.try_io(Interest::ERROR, would_block);
        self.socket.take_error().is_ok_and(|error| error.is_some())
    }
    fn passed(&self, worker: &Worker, from: Side, length: usize, given: Result<usize, Errno>) {
        match given {
            Ok(_) => {
                let bytes = length as u64;
                self.flow.passed(from, bytes, bytes, Instant::now());
                worker.watch.add(&self.flow);
            }
            Err(error) => {
                let full = matches!(error, Errno::WOULDBLOCK | Errno::NOBUFS);
                let why = if full { Dropped::Full } else { Dropped::System };
                self.flow.service().standing.measures.dropped(why);
            }
        }
    }
}

/// As [`Session::send`], from a VIP.
fn send_to(socket: &UdpSocket, datagram: &[u8], client: SocketAddr) -> Result<usize, Errno> {
    rustix::net::sendto(socket, datagram, SendFlags::empty(), &client)
}

/// A session's socket: only its backend is heard on it.
fn socket(service: &Service, vip: &SocketAddr, backend: usize) -> io::Result<UdpSocket> {
    let target = service.backends.get(backend).and_then(|backend| backend.target(vip));
    let target = target.ok_or(ErrorKind::AddrNotAvailable)?;
    let any: SocketAddr = if vip.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let source = service.config.source.of(vip).map_or(any, |source| (*source, 0).into());
    let socket = std::net::UdpSocket::bind(source)?;
    socket.set_nonblocking(true)?;
    socket.connect(target.address)?;
    UdpSocket::from_std(socket)
}
