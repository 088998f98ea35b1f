//! A worker: one thread, one core's share of the clients, and everything that these need.
//!
//! Flows, buffer, pipes and history are its own, so that cores share nothing while bytes pass. What
//! others want of its flows they ask for by a word on its bounded queue.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use placement::{PartName, VmName};
use proxy_api::{FLOWS_PER_PAGE_MAX, FlowId, FlowQuery, Protocol, StateFilter};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::accept::accept_all;
use crate::account::{self, History};
use crate::admit::Place;
use crate::datagram::Mailbox;
use crate::flow::{Event, Flow, Slab};
use crate::leg::Ground;
use crate::listen::Socket;
use crate::pinned::{Begun, Seen};
use crate::relay::{BUFFER_BYTES, Pipes};
use crate::service::{Service, Vip};
pub use crate::shared::Shared;
use crate::shared::{Found, unix_ms};
use crate::watch::Watch;

/// Words to a worker that may wait; who has more to say waits as well.
const WORDS_MAX: usize = 64;

/// What a worker can be told.
#[derive(Debug)]
pub enum Word {
    /// Take clients at this VIP, over this socket; without one, over the one that it has.
    Serve(Vip, Option<Socket>),
    /// Take no new clients at this VIP; flows live on.
    Leave(Vip),
    /// Name the VIPs that there is a socket for, those included that are only left for sessions.
    Held(oneshot::Sender<Vec<Vip>>),
    /// Tell of flows, in the order of their ids, one more than asked for where there is more.
    List(FlowQuery, oneshot::Sender<Vec<proxy_api::Flow>>),
    /// Tell of one flow that lives at this place.
    Tell(FlowId, usize, oneshot::Sender<Option<proxy_api::Flow>>),
    /// Tell of one flow of the history.
    Remember(FlowId, oneshot::Sender<Option<proxy_api::Flow>>),
    /// Tell of the flows that live towards a VM; where it moves now, list them from here on.
    Towards(VmName, Listing, oneshot::Sender<Vec<Seen>>),
    /// End one flow that lives at this place; true if it did.
    Kill(FlowId, usize, oneshot::Sender<bool>),
    /// End all flows: the proxy ends.
    BreakOff,
}

/// Whether flows are listed by a move when they are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The move begins now.
    Begins,
    /// They are only looked at.
    No,
}

/// A worker's own.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    /// What it shares with the others.
    pub(crate) shared: Arc<Shared>,
    /// Through which bytes pass.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    /// For bulk.
    pub(crate) pipes: Pipes,
    /// Over its flows.
    pub(crate) watch: Watch,
    flows: RefCell<Slab<Rc<Flow>>>,
    history: RefCell<History>,
    listeners: RefCell<HashMap<SocketAddr, AbortHandle>>,
    mailboxes: RefCell<HashMap<SocketAddr, Rc<Mailbox>>>,
}

/// A worker that runs.
#[derive(Debug)]
pub struct Handle {
    /// Its queue.
    pub words: mpsc::Sender<Word>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Starts worker `index`, which opens its sockets in `ground`; those that clients arrive at are
    /// handed to it.
    ///
    /// # Errors
    /// The system has no thread or event queue for it, or does not let it in there.
    pub fn start(index: usize, shared: &Arc<Shared>, ground: &Ground) -> io::Result<Handle> {
        let (words, heard) = mpsc::channel(WORDS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, ground) = (Arc::clone(shared), ground.clone());
        let (is_there, there) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let stay = ground.stay();
            let is_in =
                stay.as_ref().map(drop).map_err(|error| io::Error::other(error.to_string()));
            let may_work = is_in.is_ok();
            // Whoever started it waits for this.
            let _ = is_there.send(is_in);
            if may_work {
                LocalSet::new().block_on(&runtime, Rc::new(Worker::new(index, shared)).work(heard));
            }
        })?;
        there.recv().map_err(io::Error::other)??;
        Ok(Handle { words, thread })
    }

    /// Ends the worker, and with it whatever it still carries.
    pub fn end(self) {
        drop(self.words);
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked; report it, with the log around it");
        }
    }
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Worker {
        Worker {
            index,
            shared,
            buffer: RefCell::new(vec![0; BUFFER_BYTES].into()),
            pipes: Pipes::default(),
            watch: Watch::default(),
            flows: RefCell::default(),
            history: RefCell::default(),
            listeners: RefCell::default(),
            mailboxes: RefCell::default(),
        }
    }

    /// A new flow, known by its id from now on.
    pub(crate) fn open(
        &self,
        ends: (SocketAddr, SocketAddr),
        (service, backend): (&Arc<Service>, usize),
        place: Place,
    ) -> Rc<Flow> {
        let id = self.shared.next_id();
        let service = (Arc::clone(service), backend);
        service.0.standing.count_opened();
        let flow = Rc::new(Flow::new(id, ends, service, place, unix_ms()));
        let place = self.flows.borrow_mut().insert(Rc::clone(&flow));
        self.shared.found.insert(id.number, Found { worker: self.index, place });
        if let Some(vm) = flow.vm()
            && self.shared.pinned.begun(vm, || flow.told()) == Begun::Listed
        {
            flow.list();
        }
        flow
    }

    /// The flow is over, because of `event`.
    pub(crate) fn close(&self, flow: &Flow, event: Event) {
        flow.close(event);
        if let Some((_, found)) = self.shared.found.remove(&flow.id().number) {
            self.flows.borrow_mut().remove(found.place);
        }
        if let Some(reason) = flow.life().reason() {
            flow.service().standing.measures.closed(reason);
        }
        let seen = flow.seen();
        if let Some(vm) = flow.vm() {
            self.shared.pinned.ended(vm, &seen);
        }
        let told = seen.flow;
        account::log(&told);
        self.history.borrow_mut().push(told);
    }

    async fn work(self: Rc<Worker>, mut words: mpsc::Receiver<Word>) {
        let worker = Rc::clone(&self);
        spawn_local(async move { worker.watch.keep().await });
        while let Some(word) = words.recv().await {
            self.heed(word);
        }
    }

    fn heed(self: &Rc<Worker>, word: Word) {
        match word {
            Word::Serve(vip, socket) => self.serve(vip, socket),
            Word::Leave((protocol, address)) => self.leave(address, protocol),
            Word::Held(asker) => answer(asker, self.held()),
            Word::List(query, asker) => answer(asker, self.list(&query)),
            Word::Tell(id, place, asker) => {
                answer(asker, self.at(id, place).map(|flow| flow.told()));
            }
            Word::Remember(id, asker) => {
                let history = self.history.borrow();
                answer(asker, history.iter().find(|flow| flow.id == id).cloned());
            }
            Word::Towards(vm, listing, asker) => answer(asker, self.towards(&vm, listing)),
            Word::Kill(id, place, asker) => {
                let flow = self.at(id, place);
                if let Some(flow) = &flow {
                    flow.order(Event::Killed);
                }
                answer(asker, flow.is_some());
            }
            Word::BreakOff => {
                self.flows.borrow().iter().for_each(|flow| flow.order(Event::Shutdown));
            }
        }
    }

    fn serve(self: &Rc<Worker>, (_, address): Vip, socket: Option<Socket>) {
        let done = match socket {
            Some(Socket::Tcp(listener)) => TcpListener::from_std(listener).map(|listener| {
                let task = spawn_local(accept_all(Rc::clone(self), listener, address));
                self.listeners.borrow_mut().insert(address, task.abort_handle());
            }),
            Some(Socket::Udp(socket)) => UdpSocket::from_std(socket).map(|socket| {
                let census = Arc::clone(&self.shared.censuses.entry(address).or_default());
                let mailbox = Rc::new(Mailbox::new(address, socket, census));
                self.mailboxes.borrow_mut().insert(address, Rc::clone(&mailbox));
                let worker = Rc::clone(self);
                spawn_local(async move {
                    mailbox.open(Rc::clone(&worker)).await;
                    worker.mailboxes.borrow_mut().remove(&address);
                });
            }),
            None => {
                if let Some(mailbox) = self.mailboxes.borrow().get(&address) {
                    mailbox.leave(false);
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::error!(vip = %address, %error, "a worker cannot take clients; restart");
        }
    }
}

impl Worker {
    fn leave(&self, address: SocketAddr, protocol: Protocol) {
        match protocol {
            // Who waits in the backlog is refused by the system, as who comes later.
            Protocol::Tcp => {
                if let Some(task) = self.listeners.borrow_mut().remove(&address) {
                    task.abort();
                }
            }
            Protocol::Udp => {
                if let Some(mailbox) = self.mailboxes.borrow().get(&address) {
                    mailbox.leave(true);
                }
            }
        }
    }

    fn held(&self) -> Vec<Vip> {
        let tcp = self.listeners.borrow();
        let udp = self.mailboxes.borrow();
        let tcp = tcp.keys().map(|address| (Protocol::Tcp, *address));
        tcp.chain(udp.keys().map(|address| (Protocol::Udp, *address))).collect()
    }

    fn list(&self, query: &FlowQuery) -> Vec<proxy_api::Flow> {
        let wanted = query.limit.unwrap_or(FLOWS_PER_PAGE_MAX).min(FLOWS_PER_PAGE_MAX) + 1;
        let fits = |id: FlowId, service: &PartName| {
            query.after.is_none_or(|after| id > after)
                && query.service.as_ref().is_none_or(|wanted| wanted == service)
        };
        let (flows, history) = (self.flows.borrow(), self.history.borrow());
        let mut found: Vec<Known<'_>> = Vec::new();
        if query.state != StateFilter::Closed {
            let live = flows.iter().filter(|flow| fits(flow.id(), &flow.service().config.name));
            found.extend(live.map(|flow| Known::Live(flow)));
        }
        if query.state != StateFilter::Live {
            let ended = history.iter().filter(|flow| fits(flow.id, &flow.service));
            found.extend(ended.map(Known::Ended));
        }
        // Only a page is put in order, however many there are.
        if found.len() > wanted {
            found.select_nth_unstable_by_key(wanted, Known::id);
            found.truncate(wanted);
        }
        found.sort_unstable_by_key(Known::id);
        found.into_iter().map(Known::told).collect()
    }

    fn towards(&self, vm: &VmName, listing: Listing) -> Vec<Seen> {
        let flows = self.flows.borrow();
        let towards = flows.iter().filter(|flow| flow.vm() == Some(vm));
        let look = |flow: &Rc<Flow>| {
            if listing == Listing::Begins {
                flow.list();
            }
            flow.seen()
        };
        towards.map(look).collect()
    }

    fn at(&self, id: FlowId, place: usize) -> Option<Rc<Flow>> {
        let flows = self.flows.borrow();
        flows.get(place).filter(|flow| flow.id() == id).cloned()
    }
}

fn answer<T>(asker: oneshot::Sender<T>, told: T) {
    // Whoever asked and has gone needs no answer.
    let _ = asker.send(told);
}

enum Known<'w> {
    Live(&'w Flow),
    Ended(&'w proxy_api::Flow),
}

impl Known<'_> {
    fn id(&self) -> FlowId {
        match self {
            Known::Live(flow) => flow.id(),
            Known::Ended(flow) => flow.id,
        }
    }

    fn told(self) -> proxy_api::Flow {
        match self {
            Known::Live(flow) => flow.told(),
            Known::Ended(flow) => flow.clone(),
        }
    }
}
