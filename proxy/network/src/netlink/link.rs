//! Interfaces: what there is, and what is made of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::Netlink;
use super::message::{
    AF_INET6, Make, Message, attribute, nested, number_at, number_of, text_of, value_of, zero_ended,
};
use crate::Mac;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_QDISC: u16 = 6;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
/// Between two looks at whether an interface is active; it takes some milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);
/// `struct ifinfomsg`.
const BODY_BYTES: usize = 16;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    /// The bridge that it is a port of.
    pub(crate) master: Option<u32>,
    pub(crate) is_up: bool,
    /// Frames that are sent by it now are not dropped: that begins a moment after it is brought up,
    /// when the kernel has noticed that its other end is there.
    pub(crate) is_active: bool,
}

impl Netlink {
    /// The number of the interface of this name, in the calling thread's namespace.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        let family =
            socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(netdevice::name_to_index(&family, name)?)
    }

    pub(crate) fn links(&self) -> io::Result<Vec<Link>> {
        self.list(|| Message::list(RTM_GETLINK).body(&[0; BODY_BYTES]), read)
    }

    /// The interface of this name, if there is one.
    pub(crate) fn link(&self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// Two interfaces that are each other's end.
    pub(crate) fn make_pair(&self, [one, other]: [&str; 2], mtu: u32) -> io::Result<()> {
        let of = |name: &str| {
            [attribute(IFLA_IFNAME, &zero_ended(name)), attribute(IFLA_MTU, &mtu.to_ne_bytes())]
        };
        let peer = [vec![0; BODY_BYTES], of(other).concat()];
        let info = [
            attribute(IFLA_INFO_KIND, b"veth"),
            nested(IFLA_INFO_DATA, &[nested(VETH_INFO_PEER, &peer)]),
        ];
        let message = Message::make(RTM_NEWLINK, Make::New).body(&[0; BODY_BYTES]);
        let message = message.body(&of(one).concat());
        self.ask(message.with_nested(IFLA_LINKINFO, &info.concat()))
    }

    /// A port of `bridge`.
    pub(crate) fn join(&self, port: u32, bridge: u32) -> io::Result<()> {
        self.ask(change(port, None).with_number(IFLA_MASTER, bridge))
    }

    /// A port that the bridge neither learns from nor floods to: what is to go there has an entry.
    pub(crate) fn keep_apart(&self, port: u32) -> io::Result<()> {
        let flags = [
            IFLA_BRPORT_LEARNING,
            IFLA_BRPORT_UNICAST_FLOOD,
            IFLA_BRPORT_MCAST_FLOOD,
            IFLA_BRPORT_BCAST_FLOOD,
        ];
        let flags: Vec<_> = flags.iter().map(|flag| attribute(*flag, &[0])).collect();
        let info =
            [attribute(IFLA_INFO_SLAVE_KIND, b"bridge"), nested(IFLA_INFO_SLAVE_DATA, &flags)];
        self.ask(change(port, None).with_nested(IFLA_LINKINFO, &info.concat()))
    }

    /// Named for people.
    pub(crate) fn name_for_people(&self, link: u32, alias: &str) -> io::Result<()> {
        self.ask(change(link, None).with(IFLA_IFALIAS, alias.as_bytes()))
    }

    pub(crate) fn set_queue_length(&self, link: u32, packets: u32) -> io::Result<()> {
        self.ask(change(link, None).with_number(IFLA_TXQLEN, packets))
    }

    pub(crate) fn set_mtu(&self, link: u32, mtu: u32) -> io::Result<()> {
        self.ask(change(link, None).with_number(IFLA_MTU, mtu))
    }

    /// It gives itself no link-local address.
    pub(crate) fn silence(&self, link: u32) -> io::Result<()> {
        let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]);
        let family = nested(AF_INET6.into(), &[mode]);
        self.ask(change(link, None).with_nested(IFLA_AF_SPEC, &family))
    }

    pub(crate) fn set_up(&self, link: u32) -> io::Result<()> {
        self.ask(change(link, Some(true)))
    }

    /// Waits until these interfaces send what they are given: until then the kernel drops it. True if
    /// they do so within `bound`.
    pub(crate) fn wait_until_active(&self, names: &[&str], bound: Duration) -> io::Result<bool> {
        let until = Instant::now() + bound;
        loop {
            let links = self.links()?;
            let is_active = |name: &&str| links.iter().any(|l| l.name == **name && l.is_active);
            if names.iter().all(is_active) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Into another namespace; its addresses and routes are gone then.
    pub(crate) fn move_to(&self, link: u32, namespace: BorrowedFd<'_>) -> io::Result<()> {
        let descriptor = namespace.as_raw_fd().cast_unsigned();
        self.ask(change(link, None).with_number(IFLA_NET_NS_FD, descriptor))
    }

    /// Gone, with its other end.
    pub(crate) fn delete_link(&self, link: u32) -> io::Result<()> {
        self.ask_gone(Message::change(RTM_DELLINK).body(&body(link, None)))
    }
}

fn change(link: u32, up: Option<bool>) -> Message {
    Message::change(RTM_NEWLINK).body(&body(link, up))
}

/// `struct ifinfomsg`; where `up` is told, that flag alone is touched.
fn body(link: u32, up: Option<bool>) -> Vec<u8> {
    let (flags, touched) = match up {
        Some(true) => (IFF_UP, IFF_UP),
        Some(false) => (0, IFF_UP),
        None => (0, 0),
    };
    [0, link, flags, touched].into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn read(bytes: &[u8]) -> Option<Link> {
    let attributes = bytes.get(BODY_BYTES..)?;
    let value = |kind| value_of(attributes, kind);
    Some(Link {
        index: number_at(bytes, 4)?,
        name: text_of(value(IFLA_IFNAME)?),
        alias: value(IFLA_IFALIAS).map(text_of).unwrap_or_default(),
        mac: value(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).map(Mac),
        mtu: value(IFLA_MTU).and_then(number_of)?,
        master: value(IFLA_MASTER).and_then(number_of),
        is_up: number_at(bytes, 8)? & IFF_UP != 0,
        is_active: value(IFLA_QDISC).map(text_of).is_some_and(|qdisc| qdisc != "noop"),
    })
}
