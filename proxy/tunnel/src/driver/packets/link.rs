//! The way of datagrams to one peer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use placement::Identity;
use tokio::sync::Notify;

use crate::protocol::Moment;
use crate::protocol::bounds::{OLD_KEYS_MS_MAX, SILENCE_MS_MAX};
use crate::protocol::packets::datagram::Joiner;
use crate::protocol::packets::keys::{KeyId, Openers, Opening, Sealing, Secret};
use crate::protocol::session::Side;

/// Datagrams of one peer: what was handed to UDP and taken from it, their own heads included, UDP's
/// and IP's not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCount {
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams received that were authentic.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams that were dropped unread: repeated, forged, or under unknown keys.
    pub unopened: u64,
    /// Packets of which one part alone came.
    pub parts_lost: u64,
}

/// How long a caller waits for the called end to show that it has new keys.
const NEW_KEYS_MS_MAX: u64 = OLD_KEYS_MS_MAX / 2;

pub(super) struct Link {
    pub(super) identity: Identity,
    pub(super) dialled: Option<SocketAddr>,
    pub(super) socket: usize,
    /// There may be messages for the peer.
    pub(super) has_messages: AtomicBool,
    /// Wakes whoever has the session take them.
    pub(super) feed: Notify,
    /// Wakes whoever probes.
    pub(super) probe: Notify,
    state: Mutex<LinkState>,
}

pub(super) struct LinkState {
    /// Where the peer is: where it is dialled, or where its last authentic datagram came from.
    pub(super) address: Option<SocketAddr>,
    pub(super) sealing: Option<Sealing>,
    /// The key to come: until the called end has shown that it has it, or until then.
    next_sealing: Option<(Sealing, Moment)>,
    pub(super) openers: Openers,
    pub(super) joiner: Joiner,
    /// The next packet that goes in two parts.
    pub(super) packet: u32,
    pub(super) heard: Option<Moment>,
    pub(super) count: LinkCount,
}

impl Link {
    pub(super) fn new(identity: Identity, dialled: Option<SocketAddr>, socket: usize) -> Link {
        Link {
            identity,
            dialled,
            socket,
            has_messages: AtomicBool::new(false),
            feed: Notify::new(),
            probe: Notify::new(),
            state: Mutex::new(LinkState {
                address: dialled,
                sealing: None,
                next_sealing: None,
                openers: Openers::default(),
                joiner: Joiner::default(),
                packet: 0,
                heard: None,
                count: LinkCount::default(),
            }),
        }
    }

    /// New keys; gives the names of all that open. The called end has them after the caller, and says
    /// so at once: the caller goes over to them then, so that no packet meets an end that does not
    /// know its key yet.
    pub(super) fn keyed(&self, secret: &Secret, now: Moment) -> Vec<KeyId> {
        let side = if self.dialled.is_some() { Side::Caller } else { Side::Called };
        let mut state = self.state();
        let sealing = Sealing::new(secret, side);
        if side == Side::Caller && state.sealing.is_some() {
            state.next_sealing = Some((sealing, now.after_ms(NEW_KEYS_MS_MAX)));
        } else {
            state.sealing = Some(sealing);
        }
        state.openers.install(Opening::new(secret, side), now);
        state.heard = None;
        state.openers.ids().collect()
    }

    pub(super) fn nudge(&self) {
        self.has_messages.store(true, Ordering::Release);
        self.feed.notify_one();
    }

    pub(super) fn is_open(&self) -> bool {
        let state = self.state();
        state.sealing.is_some() && state.address.is_some()
    }

    /// Whether the peer was heard lately, under the newest keys.
    pub(super) fn is_heard(&self, now: Moment) -> bool {
        self.state().heard.is_some_and(|heard| now <= heard.after_ms(SILENCE_MS_MAX))
    }

    pub(super) fn count(&self) -> LinkCount {
        let state = self.state();
        LinkCount { parts_lost: state.joiner.lost(), ..state.count }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkState {
    /// An authentic datagram has come.
    pub(super) fn was_heard(&mut self, bytes: u64, now: Moment) {
        self.count.received += 1;
        self.count.received_bytes += bytes;
        if self.openers.is_newest_heard() {
            self.heard = Some(now);
            if let Some((sealing, _)) = self.next_sealing.take() {
                self.sealing = Some(sealing);
            }
        }
    }

    /// The key for what is sent now.
    pub(super) fn sealing(&mut self, now: Moment) -> Option<&mut Sealing> {
        if let Some((sealing, _)) = self.next_sealing.take_if(|(_, until)| *until <= now) {
            self.sealing = Some(sealing);
        }
        self.sealing.as_mut()
    }
}
