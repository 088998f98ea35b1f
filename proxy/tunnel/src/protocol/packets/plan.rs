//! Where the packets of a VM go at this proxy, as the proxy's own record says it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use placement::{Epoch, Identity};

use super::inner::{Flow, Inner, Ports, Transport};

/// The way of one VM's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The move that it is of.
    pub epoch: Epoch,
    /// The VM's addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// How it stands.
    pub stand: Stand,
}

/// How a VM stands at this proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It is to come here.
    Staged {
        /// The proxy that it leaves: what that one sends ahead waits.
        from: Identity,
        /// Where it runs until then, if what is for it follows it already.
        away: Option<Identity>,
        /// Whom it goes on talking to, elsewhere.
        talks: Vec<Talks>,
    },
    /// It is being moved: what is for it is kept back, in order.
    Holding {
        /// The proxy that it goes to.
        to: Identity,
        /// Whom it talks to elsewhere, until it stops.
        talks: Vec<Talks>,
    },
    /// It runs elsewhere, and what is for it follows it.
    Away {
        /// The proxy there.
        to: Identity,
        /// The one that it is to go on to, if it is: it may speak from there before this proxy has
        /// heard that it has arrived.
        next: Option<Identity>,
    },
    /// It runs here.
    Here {
        /// Whom it goes on talking to, elsewhere.
        talks: Vec<Talks>,
    },
}

/// A proxy at another place, and whom a VM talks to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talks {
    /// The proxy.
    pub peer: Identity,
    /// Its leg, its gateways, and the neighbours there.
    pub addresses: BTreeSet<IpAddr>,
    /// What the VM was seen to talk about with them.
    pub tuples: BTreeSet<Tuple>,
}

/// Both ends of a conversation, the VM's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Whether by TCP; else by UDP.
    pub is_tcp: bool,
    /// The VM's address.
    pub vm: IpAddr,
    /// Its port.
    pub vm_port: u16,
    /// The other's address.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
}

impl Tuple {
    /// Of a packet that goes to the VM; or, where that is an ICMP error, of the VM's packet that it
    /// quotes.
    pub(super) fn towards_vm(inner: &Inner) -> Option<Tuple> {
        match (inner.quoted, inner.ports) {
            (Some(Flow { source, destination, transport, ports: Some(ports) }), _) => {
                let Ports { source: vm_port, destination: peer_port } = ports;
                let is_tcp = is_tcp(transport)?;
                Some(Tuple { is_tcp, vm: source, vm_port, peer: destination, peer_port })
            }
            (None, Some(Ports { source, destination })) => Some(Tuple {
                is_tcp: is_tcp(inner.transport)?,
                vm: inner.destination,
                vm_port: destination,
                peer: inner.source,
                peer_port: source,
            }),
            _ => None,
        }
    }
}

fn is_tcp(transport: Transport) -> Option<bool> {
    match transport {
        Transport::Tcp => Some(true),
        Transport::Udp => Some(false),
        _ => None,
    }
}

/// One part of what was left in the port of a VM that has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftInPort {
    /// The move.
    pub epoch: Epoch,
    /// Which part; one that has come is not taken again.
    pub part: u32,
    /// The packets, in order.
    pub packets: Vec<Bytes>,
    /// Conversations that the port saw.
    pub tuples: Vec<Tuple>,
    /// No other part follows.
    pub is_last: bool,
}

/// What this proxy's own site is known to have, whoever moves: nobody may send in its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnSite {
    /// VIPs, and addresses of proxies: nothing that a peer sends may come from these.
    pub proxies: BTreeSet<IpAddr>,
    /// Gateways and machines: what a peer sends may come from these only where the VM talked to one
    /// of the same address elsewhere.
    pub machines: BTreeSet<IpAddr>,
}
