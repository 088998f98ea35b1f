//! The port side: a VM's own tap on its hypervisor's bridge, and what is done there.
//!
//! Where a port is: the last place that every frame of the VM passes. [`Port::set`] says what is done
//! with them:
//!
//! - *watch*, from the VM's start on: with whom it speaks, and at which MAC; [`Port::seen`] tells.
//! - *take over*: its unicast frames go to the proxy's leg, whatever MAC it has cached.
//! - *turn round*: unicast frames for it that do not come from the proxy go back onto the bridge, to
//!   the proxy's leg. It needs a pair of interfaces of ours on the bridge, and goes on there when the
//!   tap is gone: [`Port::pin_to_turn`] before QEMU ends.
//! - *guards*, with either: nobody who stands in for the VM tells the VM itself so.
//!
//! [`TapQueue`] is what waits in a tap, [`announce()`] corrects what the VM believes of others.
//!
//! `rules` are for nft, `turn` is the pair, `queue` and `frame` are what waits, `announce` makes
//! frames.

mod announce;
mod frame;
mod queue;
mod rules;
mod turn;

pub use announce::{Announced, announce};
pub use queue::{LEFTOVERS_MAX, TapQueue};

use std::collections::BTreeMap;

use crate::netlink::Netlink;
use crate::nft::{Nft, NftProgram};
use crate::tuples::{self, Element};
use crate::vm::check_interface;
use crate::{Guest, Mac, NetworkError, Tuple, VmTag};

/// What is done at a port besides watching.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortWanted {
    /// What is for the VM goes to this leg.
    pub turn_round: Option<Mac>,
    /// What the VM sends goes to this leg.
    pub take_over: Option<Mac>,
}

/// The port of one VM's card.
#[derive(Debug, Clone)]
pub struct Port {
    vm: VmTag,
    guest: Guest,
    bridge: String,
    nft: NftProgram,
}

/// By which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A conversation that the VM took part in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// By which protocol.
    pub protocol: Protocol,
    /// Between whom.
    pub tuple: Tuple,
    /// Where the VM sent it: the peer's own MAC, or its gateway's. Not known of what went to the leg
    /// only, which says nothing of the peer.
    pub mac: Option<Mac>,
    /// How long ago its first frame came, in seconds: from where a take-over stands, at most a day.
    pub first_s_ago: Option<u64>,
    /// How long ago its last frame came.
    pub last_s_ago: Option<u64>,
}

impl Port {
    /// The port of this VM on this bridge; nothing is done yet.
    #[must_use]
    pub fn new(vm: VmTag, guest: Guest, bridge: impl Into<String>) -> Port {
        Port { vm, guest, bridge: bridge.into(), nft: NftProgram }
    }

    /// Makes the rules so, in one transaction, at this tap and for the time after it; without a tap,
    /// for that time alone. What was seen stays.
    ///
    /// # Errors
    /// See [`NetworkError`]; ask again.
    pub fn set(&self, tap: Option<&str>, wanted: PortWanted) -> Result<(), NetworkError> {
        if let Some(tap) = tap {
            check_interface(tap)?;
        }
        if wanted.turn_round.is_some() {
            turn::make(&open()?, &self.vm, &self.bridge)?;
        }
        let text = rules::text(&self.vm, &self.guest, tap, wanted);
        self.nft.load(&format!("the rules at the port of {}", self.vm), &text)
    }

    /// Makes the pair that the turn-round needs, with no rule at it: for the time before a hold, which
    /// would else wait until the new pair carries.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn make_turn(&self) -> Result<(), NetworkError> {
        turn::make(&open()?, &self.vm, &self.bridge)
    }

    /// Takes the pair away that the turn-round needs; for when it has not been wanted for a moment:
    /// what is just on its way through the pair would be lost.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn remove_turn(&self) -> Result<(), NetworkError> {
        turn::delete(&open()?, &self.vm)
    }

    /// Takes all of ours for this VM away, and the bridge's entry for it on our pair with it.
    ///
    /// # Errors
    /// See [`NetworkError`]; ask again.
    pub fn clear(&self) -> Result<(), NetworkError> {
        self.nft.load(&format!("the end of the port of {}", self.vm), &rules::end(&self.vm))?;
        turn::delete(&open()?, &self.vm)
    }

    /// With whom the VM has spoken here, not longer ago than an hour, each conversation once. What
    /// was sent to `leg` has no MAC.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn seen(&self, leg: Option<Mac>) -> Result<Vec<Seen>, NetworkError> {
        let mut all: BTreeMap<(Protocol, Tuple), Seen> = BTreeMap::new();
        // Asked once for all sets: a VM may stand still while it is.
        let told = self.nft.list(&["table", "netdev", &self.vm.table()])?;
        let elements = |set| told.iter().flat_map(move |told| tuples::read_of(told, set));
        for (set, protocol, _) in rules::SEEN_SETS {
            for Element { tuple, mac, expires_s } in elements(set) {
                let (first_s_ago, last_s_ago) = (None, None);
                let nothing = Seen { protocol, tuple, mac: None, first_s_ago, last_s_ago };
                let seen = all.entry((protocol, tuple)).or_insert(nothing);
                seen.mac = seen.mac.or(mac.filter(|mac| Some(*mac) != leg));
                let ago = expires_s.map(|left| rules::SEEN_S.saturating_sub(left));
                // Seen at several MACs, it stands there several times.
                seen.last_s_ago = seen.last_s_ago.into_iter().chain(ago).min();
            }
        }
        for (set, protocol, _) in rules::FIRST_SETS {
            for Element { tuple, expires_s, .. } in elements(set) {
                if let Some(seen) = all.get_mut(&(protocol, tuple)) {
                    seen.first_s_ago = expires_s.map(|left| rules::FIRST_S.saturating_sub(left));
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// Has the bridge send the VM's frames to this tap. A frame of the VM's from elsewhere would move
    /// them: with the turn-round at both places that changes nothing.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn pin_to(&self, tap: &str) -> Result<(), NetworkError> {
        self.pinned(tap, Netlink::pin)
    }

    /// Has the bridge send the VM's frames to our pair, which turns them round: for the end of the tap.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn pin_to_turn(&self) -> Result<(), NetworkError> {
        self.pinned(&turn::names(&self.vm).on_bridge, Netlink::pin)
    }

    /// The bridge knows the VM at this tap as it knows every other machine: it may learn otherwise.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn unpin(&self, tap: &str) -> Result<(), NetworkError> {
        self.pinned(tap, Netlink::unpin)
    }

    /// All of ours that stands for this VM, on a line each, for people.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn standing(&self) -> Result<Vec<String>, NetworkError> {
        let mut lines = Vec::new();
        let table = self.vm.table();
        if self.nft.list(&["table", "netdev", &table])?.is_some() {
            lines.push(format!("nft netdev {table}"));
        }
        let names = turn::names(&self.vm);
        let links = open()?.links().map_err(NetworkError::kernel("list interfaces"))?;
        let ours =
            links.iter().filter(|link| [&names.apart, &names.on_bridge].contains(&&link.name));
        lines.extend(ours.map(|link| format!("interface {}", link.name)));
        Ok(lines)
    }

    fn pinned(
        &self,
        port: &str,
        pin: impl Fn(&Netlink, u32, Mac) -> std::io::Result<()>,
    ) -> Result<(), NetworkError> {
        let netlink = open()?;
        let failed =
            NetworkError::kernel(format!("have the bridge know {} at {port}", self.guest.mac));
        netlink.index(port).and_then(|port| pin(&netlink, port, self.guest.mac)).map_err(failed)
    }
}

fn open() -> Result<Netlink, NetworkError> {
    Netlink::open().map_err(NetworkError::kernel("open rtnetlink"))
}
