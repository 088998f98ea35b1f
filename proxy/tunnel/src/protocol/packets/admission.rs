//! What a peer may send here, by datagram and over the stream alike.
//!
//! Towards a VM that is here or comes here: from a place where it was, in nobody's name but that
//! place's own. From a VM that has left: from the place where it is, in the VM's name alone. All else
//! is dropped and counted, so that a peer can stand for no VIP, no gateway and no machine of another
//! site.

use std::collections::BTreeSet;
use std::net::IpAddr;

use placement::Identity;

use super::inner::Inner;
use super::plan::{OwnSite, Talks, Tuple};

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// It is no IP packet that can be carried.
    Unfit,
    /// No VM with a way here has to do with it.
    NoWay,
    /// It comes from a proxy that the VM has nothing to do with.
    NotItsPeer,
    /// It claims to come from the very VM that it goes to.
    FromItself,
    /// It claims to come from a VIP or a proxy of this site.
    FromProxy,
    /// It claims to come from a machine of this site, and the VM talked to none such elsewhere.
    FromMachineHere,
    /// It claims to come from a machine of a third place.
    FromThirdPlace,
    /// More was kept than may be.
    Overflow,
    /// It was kept for a move that is over.
    Void,
    /// The peer could not be sent to.
    Unsent,
}

impl Dropped {
    /// Every cause.
    pub const ALL: [Dropped; 10] = [
        Dropped::Unfit,
        Dropped::NoWay,
        Dropped::NotItsPeer,
        Dropped::FromItself,
        Dropped::FromProxy,
        Dropped::FromMachineHere,
        Dropped::FromThirdPlace,
        Dropped::Overflow,
        Dropped::Void,
        Dropped::Unsent,
    ];

    /// As in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::Unfit => "unfit",
            Dropped::NoWay => "no_way",
            Dropped::NotItsPeer => "not_its_peer",
            Dropped::FromItself => "from_itself",
            Dropped::FromProxy => "from_proxy",
            Dropped::FromMachineHere => "from_machine_here",
            Dropped::FromThirdPlace => "from_third_place",
            Dropped::Overflow => "overflow",
            Dropped::Void => "void",
            Dropped::Unsent => "unsent",
        }
    }

    /// Because it was not allowed, whatever the state of the move.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        !matches!(self, Dropped::Overflow | Dropped::Void | Dropped::Unsent)
    }
}

/// What a peer may hand on of others', for a VM that leaves it for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandsOn {
    /// It speaks for its own place alone.
    Nothing,
    /// What third places sent, for they do not know yet.
    ThirdPlaces,
    /// And what this site itself had sent there: the VM comes back.
    OursToo,
}

/// Whether `peer` may send this to a VM of `addresses`, which talks to `talks` elsewhere. One that
/// hands on what others had for the VM, which it is leaving, may do so in their names.
pub(super) fn towards(
    inner: &Inner,
    peer: &Identity,
    addresses: &BTreeSet<IpAddr>,
    talks: &[Talks],
    site: &OwnSite,
    hands_on: HandsOn,
    is_of_a_vm_here: impl Fn(IpAddr) -> bool,
) -> Result<(), Dropped> {
    let source = inner.source;
    let place = talks.iter().find(|place| place.peer == *peer).ok_or(Dropped::NotItsPeer)?;
    if addresses.contains(&source) {
        return Err(Dropped::FromItself);
    }
    if hands_on == HandsOn::OursToo {
        return Ok(());
    }
    if site.proxies.contains(&source) {
        return Err(Dropped::FromProxy);
    }
    let is_known_there = || Tuple::towards_vm(inner).is_some_and(|it| place.tuples.contains(&it));
    if (site.machines.contains(&source) || is_of_a_vm_here(source)) && !is_known_there() {
        return Err(Dropped::FromMachineHere);
    }
    let others = talks.iter().filter(|other| other.peer != *peer);
    let is_elsewhere = others.flat_map(|other| &other.addresses).any(|known| *known == source);
    if is_elsewhere
        && hands_on == HandsOn::Nothing
        && !place.addresses.contains(&source)
        && !is_known_there()
    {
        return Err(Dropped::FromThirdPlace);
    }
    Ok(())
}

/// Whether a packet is a VM's own, or an error about one that went to it or came from it.
pub(super) fn is_of_vm(inner: &Inner, addresses: &BTreeSet<IpAddr>) -> bool {
    let quotes = |flow: super::inner::Flow| {
        addresses.contains(&flow.source) || addresses.contains(&flow.destination)
    };
    addresses.contains(&inner.source) || inner.quoted.is_some_and(quotes)
}
