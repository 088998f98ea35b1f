//! One peer: its session behind a lock, and a door for every task that waits on it.
//!
//! A task takes the lock, does one thing, and whoever the session then names is woken before the
//! lock is given back. Nothing is awaited under it, and nothing else is locked under it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use placement::Identity;
use tokio::sync::{Notify, mpsc, watch};

use super::clock::{Clock, incarnation};
use super::counted::{Counter, WireCount};
use super::local::LocalStream;
use super::packets::Packets;
use super::report::{ChannelStatus, PeerStatus, Reporter, TunnelEvent};
use crate::protocol::Moment;
use crate::protocol::bounds::{BULK_LANES_MAX, Limits, STREAMS_CEILING};
use crate::protocol::channel::Grant;
use crate::protocol::grants::{Ask, GRANTS_MAX};
use crate::protocol::packets::keys::Secret;
use crate::protocol::refusal::{Refusal, Rejection};
use crate::protocol::session::{ConnId, Ending, Event, Gone, OpenError, Session, Side};
use crate::protocol::tally::StreamTally;
use crate::protocol::wire::{Lane, StreamId};

const LANES: usize = 1 + BULK_LANES_MAX;

/// Asks that wait to be looked at. The peer has no more streams open than this.
const ASKS_MAX: usize = STREAMS_CEILING as usize;

/// An ask of the peer, and the door of its stream.
pub(super) type Asked = (Arc<Door>, Ask);

pub(super) struct Peer {
    pub(super) identity: Identity,
    pub(super) deadline: Notify,
    /// Control is up, for whoever dials bulk.
    pub(super) control: watch::Sender<bool>,
    /// The peer has confirmed all that was said to it.
    pub(super) said_all: watch::Sender<bool>,
    clock: Clock,
    reporter: Reporter,
    asks: mpsc::Sender<Asked>,
    /// Where VMs' packets pass, and which of its links is this peer's.
    packets: Option<(Arc<Packets>, usize)>,
    locked: Mutex<Locked>,
}

struct Locked {
    session: Session,
    conns: [BTreeMap<ConnId, Arc<ConnDoor>>; LANES],
    doors: BTreeMap<StreamId, Arc<Door>>,
    channels: BTreeMap<Grant, Ended>,
    wire: [WireCount; LANES],
    rejections: [Option<Rejection>; LANES],
}

/// What ended streams of a channel leave behind.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    tally: StreamTally,
    resets: u64,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detached {
    /// It has carried its lane.
    pub(super) was_up: bool,
    /// The peer turned it away.
    pub(super) rejection: Option<Rejection>,
}

/// Wakes the tasks of one connection.
#[derive(Debug)]
pub(super) struct ConnDoor {
    pub(super) writer: Notify,
    pub(super) closed: Notify,
    /// It has carried its lane.
    was_up: AtomicBool,
    counter: Arc<Counter>,
    secret: Option<Secret>,
}

/// Wakes the tasks of one stream, and is its name among them: numbers come again when a session
/// begins anew, doors do not.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) stream: StreamId,
    pub(super) grant: Grant,
    pub(super) intake: Notify,
    pub(super) outlet: Notify,
    pub(super) ended: Notify,
    pub(super) progress: watch::Sender<u64>,
    /// The program's connection; held while bytes are between it and the session.
    local: Mutex<Option<Arc<LocalStream>>>,
    pub(super) ending: OnceLock<Ending>,
}

impl Peer {
    pub(super) fn new(
        identity: Identity,
        side: Side,
        limits: Limits,
        packets: Option<(Arc<Packets>, usize)>,
        clock: Clock,
        reporter: Reporter,
    ) -> (Peer, mpsc::Receiver<Asked>) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let locked = Locked {
            session: Session::new(side, incarnation(), limits, packets.is_some(), clock.now()),
            conns: Default::default(),
            doors: BTreeMap::new(),
            channels: BTreeMap::new(),
            wire: Default::default(),
            rejections: Default::default(),
        };
        let peer = Peer {
            identity,
            deadline: Notify::new(),
            control: watch::Sender::new(false),
            said_all: watch::Sender::new(true),
            clock,
            reporter,
            asks,
            packets,
            locked: Mutex::new(locked),
        };
        (peer, asked)
    }

    /// Does one thing with the session.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Session, Moment) -> T) -> T {
        let mut locked = self.lock();
        let done = act(&mut locked.session, self.clock.now());
        self.settle(&mut locked);
        done
    }

    /// Does one thing with one stream, if it still is.
    pub(super) fn on<T>(
        &self,
        door: &Arc<Door>,
        act: impl FnOnce(&mut Session, StreamId, Moment) -> Result<T, Gone>,
    ) -> Result<T, Gone> {
        let mut locked = self.lock();
        let stands = locked.doors.get(&door.stream).is_some_and(|known| Arc::ptr_eq(known, door));
        if !stands {
            return Err(Gone);
        }
        let done = act(&mut locked.session, door.stream, self.clock.now());
        self.settle(&mut locked);
        done
    }

    /// Asks the peer for a stream.
    pub(super) fn open(&self, ask: Ask) -> Result<Arc<Door>, OpenError> {
        let mut locked = self.lock();
        let grant = ask.grant.clone();
        let stream = locked.session.open(ask, self.clock.now())?;
        let door = Door::new(stream, grant);
        locked.doors.insert(stream, Arc::clone(&door));
        self.settle(&mut locked);
        Ok(door)
    }

    /// A connection's tasks are about to run.
    pub(super) fn attach(
        &self,
        conn: ConnId,
        lane: Lane,
        counter: Arc<Counter>,
        secret: Option<Secret>,
    ) -> Arc<ConnDoor> {
        let (writer, closed, was_up) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        let door = Arc::new(ConnDoor { writer, closed, was_up, counter, secret });
        let mut locked = self.lock();
        locked.conns[lane.index()].insert(conn, Arc::clone(&door));
        door
    }

    /// They have ended.
    pub(super) fn detach(&self, conn: ConnId, lane: Lane) -> Detached {
        let mut locked = self.lock();
        let mut was_up = false;
        if let Some(door) = locked.conns[lane.index()].remove(&conn) {
            was_up = door.was_up.load(Ordering::Relaxed);
            let WireCount { sent_bytes, received_bytes } = door.counter.count();
            let wire = &mut locked.wire[lane.index()];
            wire.sent_bytes += sent_bytes;
            wire.received_bytes += received_bytes;
        }
        locked.session.broken(conn, self.clock.now());
        self.settle(&mut locked);
        Detached { was_up, rejection: locked.rejections[lane.index()].take() }
    }

    /// The streams of a grant that are open now, and whether one was cut off before.
    pub(super) fn channel(&self, grant: &Grant) -> (Vec<Arc<Door>>, bool) {
        let locked = self.lock();
        let doors = locked.doors.values().filter(|door| door.grant == *grant).cloned().collect();
        (doors, locked.channels.get(grant).is_some_and(|ended| ended.resets > 0))
    }

    /// A grant is no more: what its streams have moved was told when they ended.
    pub(super) fn forget(&self, grant: &Grant) {
        self.lock().channels.remove(grant);
    }

    pub(super) fn status(&self) -> PeerStatus {
        let locked = self.lock();
        let session = &locked.session;
        let bulk = (0..BULK_LANES_MAX).map(|n| Lane::Bulk(u8::try_from(n).expect("lanes are few")));
        let bulk_up = bulk.filter(|lane| session.is_up(*lane)).count();
        let mut wire = locked.wire;
        for (total, conns) in wire.iter_mut().zip(&locked.conns) {
            for live in conns.values().map(|door| door.counter.count()) {
                total.sent_bytes += live.sent_bytes;
                total.received_bytes += live.received_bytes;
            }
        }
        PeerStatus {
            identity: self.identity.clone(),
            is_connected: session.is_up(Lane::Control),
            bulk_connected: u8::try_from(bulk_up).expect("lanes are few"),
            rtt_us: session.rtt_us(),
            tally: session.tally(),
            wire,
            datagrams: self.packets.as_ref().map(|(packets, link)| packets.count(*link)),
            carries_packets: self.carries(session),
            channels: locked.channel_status(),
        }
    }

    /// Whether packets can be sent to the peer now.
    pub(super) fn carries_packets(&self) -> bool {
        self.carries(&self.lock().session)
    }

    fn carries(&self, session: &Session) -> bool {
        let is_open = |(packets, link): &(Arc<Packets>, usize)| packets.is_open(*link);
        session.carries_packets()
            && session.is_up(Lane::Control)
            && self.packets.as_ref().is_some_and(is_open)
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        // A panic under the lock is a bug that the panic itself has told; the session's own checks
        // hold whatever it left.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the session's events in order, then wakes whom it names.
    fn settle(&self, locked: &mut Locked) {
        while let Some(event) = locked.session.next_event() {
            self.on_event(locked, event);
        }
        self.feed(&mut locked.session);
        let wakes = locked.session.take_wakes();
        let woken = wakes.lanes.iter().zip(&locked.conns).filter(|(woken, _)| **woken);
        for (conn, door) in woken.flat_map(|(_, conns)| conns) {
            door.writer.notify_one();
            if !locked.session.knows(*conn) {
                door.closed.notify_one();
            }
        }
        for stream in &wakes.streams {
            if let Some(door) = locked.doors.get(stream) {
                door.wake();
            }
        }
        if wakes.deadline {
            self.deadline.notify_one();
        }
        let said_all = locked.session.has_said_all();
        self.said_all.send_if_modified(|before| std::mem::replace(before, said_all) != said_all);
    }

    /// Has the session take what there is to say of packets, as much as it takes now.
    fn feed(&self, session: &mut Session) {
        let Some((packets, link)) = &self.packets else { return };
        while session.takes_packets()
            && let Some(message) = packets.next_message(*link)
        {
            session.say_packets(message, self.clock.now());
        }
    }

    fn on_event(&self, locked: &mut Locked, event: Event) {
        let peer = self.identity.clone();
        match event {
            Event::Up { lane, resumed } => self.on_up(locked, lane, resumed),
            Event::Down { lane: Lane::Control, why } => {
                self.control.send_replace(false);
                self.reporter.tell(TunnelEvent::Lost { peer, why });
            }
            Event::Down { lane, why } => tracing::debug!(%peer, ?lane, ?why, "bulk lost"),
            Event::Rejected { lane, rejection } => {
                locked.rejections[lane.index()] = Some(rejection);
            }
            Event::PeerRestarted => {
                self.forgotten();
                self.reporter.tell(TunnelEvent::PeerRestarted { peer });
            }
            Event::Packets(message) => {
                if let Some((packets, _)) = &self.packets {
                    packets.arrived(&peer, message);
                }
            }
            Event::Unfit { violation, .. } => {
                let reason = format!("a connection began with what is no greeting: {violation}");
                self.reporter.tell(TunnelEvent::Unreachable { peer, reason });
            }
            Event::Violated(violation) => {
                self.forgotten();
                self.reporter.tell(TunnelEvent::Violated { peer, violation });
            }
            Event::Asked { stream, ask } => self.on_ask(locked, stream, ask),
            Event::Opened { grant, .. } => {
                self.reporter.tell(TunnelEvent::ChannelOpened { peer, grant });
            }
            Event::Ended { stream, grant, ending, tally } => {
                if let Some(door) = locked.doors.remove(&stream) {
                    let _ = door.ending.set(ending);
                    door.wake();
                    door.ended.notify_one();
                }
                locked.record(&grant, ending, tally);
                self.reporter.tell(match ending {
                    Ending::Refused(refusal) => {
                        TunnelEvent::ChannelRefused { peer, grant, refusal }
                    }
                    _ => TunnelEvent::ChannelEnded { peer, grant, ending, tally },
                });
            }
        }
    }

    fn on_up(&self, locked: &Locked, lane: Lane, resumed: bool) {
        let peer = self.identity.clone();
        let door = locked.session.current(lane);
        if let Some(door) = door.and_then(|conn| locked.conns[lane.index()].get(&conn)) {
            door.was_up.store(true, Ordering::Relaxed);
            if let (Some((packets, link)), Some(secret)) = (&self.packets, &door.secret) {
                packets.keyed(*link, secret);
            }
        }
        if lane != Lane::Control {
            tracing::debug!(%peer, ?lane, resumed, "bulk connected");
            return;
        }
        self.control.send_replace(true);
        self.reporter.tell(match resumed {
            true => TunnelEvent::Resumed { peer },
            false => TunnelEvent::Connected { peer },
        });
    }

    /// Nothing that was said and not confirmed has come.
    fn forgotten(&self) {
        if let Some((packets, link)) = &self.packets {
            packets.forgotten_by(*link);
        }
    }

    fn on_ask(&self, locked: &mut Locked, stream: StreamId, ask: Ask) {
        let door = Door::new(stream, ask.grant.clone());
        locked.doors.insert(stream, Arc::clone(&door));
        if self.asks.try_send((door, ask)).is_err() {
            locked.session.refuse(stream, Refusal::Busy, self.clock.now());
        }
    }
}

impl Locked {
    fn record(&mut self, grant: &Grant, ending: Ending, tally: StreamTally) {
        // What was refused names grants of the peer's choice: it leaves nothing behind.
        let refused = matches!(ending, Ending::Refused(_));
        let known = self.channels.contains_key(grant) || self.channels.len() < GRANTS_MAX;
        if !refused && known {
            let ended = self.channels.entry(grant.clone()).or_default();
            ended.tally += tally;
            ended.resets += u64::from(matches!(ending, Ending::Reset { .. }));
        }
    }

    fn channel_status(&self) -> Vec<ChannelStatus> {
        let mut channels: BTreeMap<&Grant, ChannelStatus> = BTreeMap::new();
        let fresh = |grant: &Grant, ended: Ended| ChannelStatus {
            grant: grant.clone(),
            streams: 0,
            resets: ended.resets,
            tally: ended.tally,
            send_kept_bytes: 0,
            receive_kept_bytes: 0,
        };
        for (grant, ended) in &self.channels {
            channels.insert(grant, fresh(grant, *ended));
        }
        for state in self.session.streams() {
            let channel = channels.entry(state.grant);
            let channel = channel.or_insert_with(|| fresh(state.grant, Ended::default()));
            channel.streams += 1;
            channel.tally += state.tally;
            channel.send_kept_bytes += state.send_kept_bytes;
            channel.receive_kept_bytes += state.receive_kept_bytes;
        }
        channels.into_values().collect()
    }
}

impl Door {
    fn new(stream: StreamId, grant: Grant) -> Arc<Door> {
        Arc::new(Door {
            stream,
            grant,
            intake: Notify::new(),
            outlet: Notify::new(),
            ended: Notify::new(),
            progress: watch::Sender::new(0),
            local: Mutex::new(None),
            ending: OnceLock::new(),
        })
    }

    pub(super) fn local(&self) -> MutexGuard<'_, Option<Arc<LocalStream>>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.intake.notify_one();
        self.outlet.notify_one();
        self.progress.send_if_modified(|turns| {
            *turns += 1;
            true
        });
    }
}
