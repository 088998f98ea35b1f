//! Neighbours: who has which MAC, for whom we answer, and what a bridge knows.

use std::io;
use std::net::IpAddr;

use super::Netlink;
use super::message::{
    AF_BRIDGE, AF_INET, AF_INET6, Make, Message, address_of, family_of, half_at, number_at,
    value_of,
};
use crate::Mac;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NTF_USE: u8 = 0x01;
const NTF_MASTER: u8 = 0x04;
const NTF_PROXY: u8 = 0x08;
const NTF_ROUTER: u8 = 0x80;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_FAILED: u16 = 0x20;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
/// As what the kernel finds out by itself.
const BY_KERNEL: u8 = 2;
/// `struct ndmsg`.
const BODY_BYTES: usize = 12;

/// A neighbour's entry that we set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) link: u32,
    pub(crate) ip: IpAddr,
    pub(crate) standing: Standing,
}

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has this MAC, whatever anybody says.
    Has(Mac),
    /// We answer for it.
    Proxied {
        /// As for a router.
        is_router: bool,
    },
}

/// What the kernel itself has found out of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has been asked for, and has not answered yet.
    Sought,
    /// It is there.
    At {
        mac: Mac,
        /// As it says itself.
        is_router: bool,
    },
    /// It has not answered.
    Nowhere,
}

impl Netlink {
    /// Has the kernel look for a machine, as if something were to be sent to it.
    pub(crate) fn look_for(&self, link: u32, ip: IpAddr) -> io::Result<()> {
        let body = body(family_of(ip), link, 0, NTF_USE);
        let message = Message::make(RTM_NEWNEIGH, Make::OrReplace).body(&body);
        self.ask(message.with_address(NDA_DST, ip))
    }

    /// Everybody on a link that the kernel has looked for.
    pub(crate) fn known_on(&self, link: u32) -> io::Result<Vec<(IpAddr, Known)>> {
        let mut known = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let body = body(family, 0, 0, 0);
            let request = || Message::list(RTM_GETNEIGH).body(&body);
            known.extend(self.list(request, |bytes| read_known(bytes, link))?);
        }
        Ok(known)
    }

    /// Those of ours.
    pub(crate) fn our_neighbours(&self) -> io::Result<Vec<Neighbour>> {
        let mut neighbours = Vec::new();
        for family in [AF_INET, AF_INET6] {
            for flags in [0, NTF_PROXY] {
                let body = body(family, 0, 0, flags);
                let request = || Message::list(RTM_GETNEIGH).body(&body);
                neighbours.extend(self.list(request, read)?);
            }
        }
        Ok(neighbours)
    }

    pub(crate) fn add_neighbour(&self, neighbour: &Neighbour) -> io::Result<()> {
        let message = written(Message::make(RTM_NEWNEIGH, Make::OrReplace), neighbour);
        self.ask(message.with(NDA_PROTOCOL, &[super::PROTOCOL]))
    }

    /// No longer ours. An answer for others is deleted; a neighbour becomes one as others are, which
    /// are forgotten by themselves: its deletion would take packets along that are just going there.
    pub(crate) fn leave_neighbour(&self, neighbour: &Neighbour) -> io::Result<()> {
        let Standing::Has(mac) = neighbour.standing else {
            return self.ask_gone(written(Message::change(RTM_DELNEIGH), neighbour));
        };
        let body = body(family_of(neighbour.ip), neighbour.link, NUD_STALE, 0);
        let message = Message::make(RTM_NEWNEIGH, Make::OrReplace).body(&body);
        let message = message.with_address(NDA_DST, neighbour.ip).with(NDA_LLADDR, &mac.0);
        self.ask(message.with(NDA_PROTOCOL, &[BY_KERNEL]))
    }

    /// Has the port's bridge know that `mac` is there, until the port speaks for itself.
    pub(crate) fn pin(&self, port: u32, mac: Mac) -> io::Result<()> {
        self.tell_bridge(port, mac, NUD_NOARP)
    }

    /// The bridge's entry for `mac` becomes one that it has learned.
    pub(crate) fn unpin(&self, port: u32, mac: Mac) -> io::Result<()> {
        self.tell_bridge(port, mac, NUD_REACHABLE)
    }

    fn tell_bridge(&self, port: u32, mac: Mac, state: u16) -> io::Result<()> {
        let message = Message::make(RTM_NEWNEIGH, Make::OrReplace);
        let message = message.body(&body(AF_BRIDGE, port, state, NTF_MASTER));
        self.ask(message.with(NDA_LLADDR, &mac.0))
    }
}

fn written(message: Message, neighbour: &Neighbour) -> Message {
    let (state, flags, mac) = match neighbour.standing {
        Standing::Has(mac) => (NUD_PERMANENT, 0, Some(mac)),
        Standing::Proxied { is_router } => {
            (0, NTF_PROXY | if is_router { NTF_ROUTER } else { 0 }, None)
        }
    };
    let message = message.body(&body(family_of(neighbour.ip), neighbour.link, state, flags));
    let message = message.with_address(NDA_DST, neighbour.ip);
    match mac {
        Some(mac) => message.with(NDA_LLADDR, &mac.0),
        None => message,
    }
}

fn body(family: u8, link: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(link.to_ne_bytes());
    body.extend(state.to_ne_bytes());
    body.extend([flags, 0]);
    body
}

fn read_known(bytes: &[u8], link: u32) -> Option<(IpAddr, Known)> {
    let attributes = bytes.get(BODY_BYTES..)?;
    let value = |kind| value_of(attributes, kind);
    let ip = address_of(value(NDA_DST)?)?;
    let (state, flags) = (half_at(bytes, 8)?, *bytes.get(10)?);
    if number_at(bytes, 4)? != link || flags & NTF_PROXY != 0 {
        return None;
    }
    let mac = || Some(Mac(value(NDA_LLADDR)?.try_into().ok()?));
    Some((
        ip,
        match state {
            NUD_INCOMPLETE => Known::Sought,
            0 | NUD_FAILED => Known::Nowhere,
            _ => Known::At { mac: mac()?, is_router: flags & NTF_ROUTER != 0 },
        },
    ))
}

fn read(bytes: &[u8]) -> Option<Neighbour> {
    let attributes = bytes.get(BODY_BYTES..)?;
    let value = |kind| value_of(attributes, kind);
    if value(NDA_PROTOCOL)? != [super::PROTOCOL] {
        return None;
    }
    let flags = *bytes.get(10)?;
    let standing = if flags & NTF_PROXY != 0 {
        Standing::Proxied { is_router: flags & NTF_ROUTER != 0 }
    } else if half_at(bytes, 8)? & NUD_PERMANENT != 0 {
        Standing::Has(Mac(value(NDA_LLADDR)?.try_into().ok()?))
    } else {
        return None;
    };
    Some(Neighbour { link: number_at(bytes, 4)?, ip: address_of(value(NDA_DST)?)?, standing })
}
