//! Addresses of interfaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Netlink;
use super::message::{
    Make, Message, address_of, attributes, family_of, number_at, number_of, value_of,
};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: the address was in use a moment ago, by us.
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
pub(crate) const SCOPE_LINK: u8 = 253;
/// `struct ifaddrmsg`.
const BODY_BYTES: usize = 8;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) bits: u8,
    pub(crate) scope: u8,
    pub(crate) broadcast: Option<Ipv4Addr>,
    /// Set by hand or by a program, not by a router's announcement.
    pub(crate) is_permanent: bool,
}

impl Netlink {
    pub(crate) fn addresses(&self, link: u32) -> io::Result<Vec<Address>> {
        let request = || Message::list(RTM_GETADDR).body(&[0; BODY_BYTES]);
        let of_link = |bytes: &[u8]| {
            let (index, address) = read(bytes)?;
            (index == link).then_some(address)
        };
        self.list(request, of_link)
    }

    /// It may be there already.
    pub(crate) fn add_address(&self, link: u32, address: &Address) -> io::Result<()> {
        let mut body = vec![family_of(address.ip), address.bits, 0, address.scope];
        body.extend(link.to_ne_bytes());
        let mut message = Message::make(RTM_NEWADDR, Make::OrReplace).body(&body);
        message = message.with_address(IFA_LOCAL, address.ip);
        message = message.with_address(IFA_ADDRESS, address.ip);
        message = message.with_number(IFA_FLAGS, IFA_F_NODAD);
        if let Some(broadcast) = address.broadcast {
            message = message.with(IFA_BROADCAST, &broadcast.octets());
        }
        self.ask(message)
    }
}

fn read(bytes: &[u8]) -> Option<(u32, Address)> {
    let attributes_bytes = bytes.get(BODY_BYTES..)?;
    let [_, bits, flags, scope] = *bytes.first_chunk::<4>()?;
    let mut ip = None;
    // A point-to-point link's own address is "local", all others' is "address".
    for (kind, value) in attributes(attributes_bytes) {
        match kind {
            IFA_LOCAL => ip = address_of(value),
            IFA_ADDRESS => ip = ip.or_else(|| address_of(value)),
            _ => {}
        }
    }
    let value = |kind| value_of(attributes_bytes, kind);
    let flags = value(IFA_FLAGS).and_then(number_of).unwrap_or_else(|| u32::from(flags));
    let broadcast = value(IFA_BROADCAST).and_then(|value| <[u8; 4]>::try_from(value).ok());
    let address = Address {
        ip: ip?,
        bits,
        scope,
        broadcast: broadcast.map(Ipv4Addr::from),
        is_permanent: flags & IFA_F_PERMANENT != 0,
    };
    Some((number_at(bytes, 4)?, address))
}

impl Address {
    /// One that means something on its link alone.
    pub(crate) fn of_link(ip: IpAddr) -> Address {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        Address { ip, bits, scope: SCOPE_LINK, broadcast: None, is_permanent: true }
    }
}
