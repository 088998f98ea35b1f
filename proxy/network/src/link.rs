//! As much rtnetlink as a port needs: one request, one acknowledgement.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, sendto,
    socket_with,
};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWNEIGH: u16 = 28;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
const NLA_F_NESTED: u16 = 0x8000;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u16 = 10;
const NDA_LLADDR: u16 = 2;
const NTF_MASTER: u8 = 0x4;
const NUD_NOARP: u16 = 0x40;
/// An acknowledgement carries the request that it is about, at most.
const ANSWER_BYTES_MAX: usize = 8192;

/// The kernel's ear for one request after the other.
pub(crate) struct Link {
    socket: OwnedFd,
}

impl Link {
    pub(crate) fn open() -> io::Result<Link> {
        // Protocol 0 of this family is rtnetlink.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Link { socket })
    }

    /// The number of the interface of this name.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        let family =
            socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(netdevice::name_to_index(&family, name)?)
    }

    /// A port of `bridge`, named for people, silent in IPv6.
    pub(crate) fn make_port(
        &self,
        port: u32,
        bridge: u32,
        queue_length: u32,
        alias: &str,
    ) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK);
        message.interface(port, 0);
        message.attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        message.attribute(IFLA_TXQLEN, &queue_length.to_ne_bytes());
        message.attribute(IFLA_IFALIAS, alias.as_bytes());
        let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]);
        let family = attribute(AF_INET6 | NLA_F_NESTED, &mode);
        message.attribute(IFLA_AF_SPEC | NLA_F_NESTED, &family);
        self.ask(message)
    }

    pub(crate) fn set_up(&self, port: u32) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK);
        message.interface(port, IFF_UP);
        self.ask(message)
    }

    /// Has the port's bridge know that `mac` is there, until the port speaks for itself.
    pub(crate) fn pin(&self, port: u32, mac: [u8; 6]) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut message = Message::new(RTM_NEWNEIGH, flags);
        let [a, b, c, d] = port.to_ne_bytes();
        let [state, state_high] = NUD_NOARP.to_ne_bytes();
        message.body(&[AF_BRIDGE, 0, 0, 0, a, b, c, d, state, state_high, NTF_MASTER, 0]);
        message.attribute(NDA_LLADDR, &mac);
        self.ask(message)
    }

    fn ask(&self, message: Message) -> io::Result<()> {
        let bytes = message.done();
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &bytes, SendFlags::empty(), &kernel)?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let (length, _) = recv(&self.socket, answer.as_mut_slice(), RecvFlags::empty())?;
        outcome(answer.get(..length).unwrap_or_default())
    }
}

/// What an acknowledgement says: header, then the error's number, 0 for none.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "rtnetlink answered nonsense");
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(nonsense()),
    }
}

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        // Sequence and sender: one request at a time needs neither.
        bytes.extend([0; 8]);
        Message(bytes)
    }

    fn body(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// `struct ifinfomsg`: `flags` are set, and no others touched.
    fn interface(&mut self, index: u32, flags: u32) {
        self.body(&[0; 4]);
        self.body(&index.to_ne_bytes());
        self.body(&flags.to_ne_bytes());
        self.body(&flags.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(attribute(kind, value));
    }

    fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.0.splice(..4, length);
        self.0
    }
}

/// Length, kind, value, and nothing up to the next multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_and_its_length_is_not() {
        assert_eq!(attribute(20, b"abcde").len(), 12);
        assert_eq!(attribute(20, b"abcde").first_chunk::<2>(), Some(&9_u16.to_ne_bytes()));
    }

    #[test]
    fn an_error_is_told_by_its_number_and_nonsense_as_such() {
        let mut answer = vec![0; 20];
        answer.splice(4..6, NLMSG_ERROR.to_ne_bytes());
        assert!(outcome(&answer).is_ok());
        answer.splice(16..20, (-19_i32).to_ne_bytes());
        assert_eq!(outcome(&answer).unwrap_err().raw_os_error(), Some(19));
        assert_eq!(outcome(&[0; 3]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
