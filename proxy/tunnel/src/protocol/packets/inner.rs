//! An IP packet of a VM, as far as the tunnel must understand it. Total over bytes of any kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most IPv6 extension headers that are walked; what has more is not understood beyond them.
const EXTENSIONS_MAX: usize = 8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Whose it says to be.
    pub source: IpAddr,
    /// For whom it is.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
    /// Where TCP's or UDP's header is in it: later fragments have none.
    pub ports: Option<Ports>,
    /// The packet that it is an error about.
    pub quoted: Option<Flow>,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
    /// Another protocol, by its number.
    Other(u8),
}

/// The ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

/// A packet that an error quotes, as much as is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whose it was.
    pub source: IpAddr,
    /// For whom.
    pub destination: IpAddr,
    /// What it carried.
    pub transport: Transport,
    /// Its ports.
    pub ports: Option<Ports>,
}

/// Why bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// It ends within a header.
    #[error("it ends within a header")]
    Short,
    /// It says another length than it has.
    #[error("it says another length than it has")]
    Length,
}

/// Addresses, what is carried, and where that begins; none of it in a later fragment.
struct Head {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
    begins: Option<usize>,
}

impl Inner {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Inner, Unfit> {
        let head = Head::read(bytes)?;
        if head.length != bytes.len() {
            return Err(Unfit::Length);
        }
        let Flow { source, destination, transport, ports } = head.flow(bytes);
        let is_v4 = source.is_ipv4();
        let body = head.begins.and_then(|at| bytes.get(at..)).unwrap_or_default();
        let quoted = match (transport, body.first()) {
            (Transport::Icmp, Some(kind)) if is_error(*kind, is_v4) => quoted(body),
            _ => None,
        };
        Ok(Inner { source, destination, transport, ports, quoted })
    }
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Head, Unfit> {
        match bytes.first().ok_or(Unfit::Short)? >> 4 {
            4 => Head::read_v4(bytes),
            6 => Head::read_v6(bytes),
            _ => Err(Unfit::Version),
        }
    }

    fn read_v4(bytes: &[u8]) -> Result<Head, Unfit> {
        let head: &[u8; 20] = bytes.first_chunk().ok_or(Unfit::Short)?;
        let header = usize::from(head[0] & 0x0f) * 4;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if header < 20 || length < header {
            return Err(Unfit::Length);
        }
        let offset = u16::from_be_bytes([head[6], head[7]]) & 0x1fff;
        Ok(Head {
            source: Ipv4Addr::new(head[12], head[13], head[14], head[15]).into(),
            destination: Ipv4Addr::new(head[16], head[17], head[18], head[19]).into(),
            protocol: head[9],
            length,
            begins: (offset == 0).then_some(header),
        })
    }

    fn read_v6(bytes: &[u8]) -> Result<Head, Unfit> {
        let head: &[u8; 40] = bytes.first_chunk().ok_or(Unfit::Short)?;
        let address = |at: usize| {
            let octets: [u8; 16] = head[at..at + 16].try_into().expect("16 of 40");
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        let (protocol, begins) = walk_extensions(bytes, head[6]);
        Ok(Head {
            source: address(8),
            destination: address(24),
            protocol,
            length: 40 + usize::from(u16::from_be_bytes([head[4], head[5]])),
            begins,
        })
    }

    fn flow(&self, bytes: &[u8]) -> Flow {
        let is_v4 = self.source.is_ipv4();
        let transport = match self.protocol {
            TCP => Transport::Tcp,
            UDP => Transport::Udp,
            ICMP if is_v4 => Transport::Icmp,
            ICMPV6 if !is_v4 => Transport::Icmp,
            other => Transport::Other(other),
        };
        let has_ports = matches!(transport, Transport::Tcp | Transport::Udp);
        let body = self.begins.filter(|_| has_ports).and_then(|at| bytes.get(at..));
        let ports = body.and_then(<[u8]>::first_chunk::<4>).map(|[a, b, c, d]| Ports {
            source: u16::from_be_bytes([*a, *b]),
            destination: u16::from_be_bytes([*c, *d]),
        });
        Flow { source: self.source, destination: self.destination, transport, ports }
    }
}

/// What the extension headers lead to, and where it begins. Where they end too early or are too
/// many, nothing is known of what they lead to.
fn walk_extensions(bytes: &[u8], first: u8) -> (u8, Option<usize>) {
    let (mut kind, mut at) = (first, 40);
    for _ in 0..EXTENSIONS_MAX {
        let length = match (kind, bytes.get(at..).and_then(<[u8]>::first_chunk::<4>)) {
            (HOP_BY_HOP | ROUTING | DESTINATION, Some(head)) => 8 * (usize::from(head[1]) + 1),
            (FRAGMENT, Some(head)) if u16::from_be_bytes([head[2], head[3]]) >> 3 == 0 => 8,
            (FRAGMENT, Some(head)) => return (head[0], None),
            (HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT, None) => return (kind, None),
            _ => return (kind, Some(at)),
        };
        kind = bytes[at];
        at += length;
    }
    (kind, None)
}

/// A redirect is none: it speaks of a link, and must not leave it.
fn is_error(kind: u8, is_v4: bool) -> bool {
    if is_v4 { matches!(kind, 3 | 4 | 11 | 12) } else { (1..=4).contains(&kind) }
}

fn quoted(error: &[u8]) -> Option<Flow> {
    let packet = error.get(8..)?;
    Head::read(packet).ok().map(|head| head.flow(packet))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(source);
        packet.extend(destination);
        packet.extend(body);
        packet
    }

    fn v6(next: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
        packet.extend("fd10::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd10::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(body);
        packet
    }

    const PORTS: [u8; 8] = [0x12, 0x34, 0, 80, 0, 8, 0, 0];

    #[test]
    fn addresses_ports_and_quotes_are_found() {
        let udp = v4([10, 0, 0, 1], [10, 0, 0, 2], UDP, &PORTS);
        let inner = Inner::parse(&udp).unwrap();
        assert_eq!(inner.source, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(inner.ports, Some(Ports { source: 0x1234, destination: 80 }));
        assert_eq!((inner.transport, inner.quoted), (Transport::Udp, None));

        let mut error = vec![3, 4, 0, 0, 0, 0, 0, 0];
        error.extend(&udp);
        let inner = Inner::parse(&v4([10, 0, 0, 9], [10, 0, 0, 1], ICMP, &error)).unwrap();
        let quoted = inner.quoted.unwrap();
        assert_eq!(quoted.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(quoted.ports, Some(Ports { source: 0x1234, destination: 80 }));
        error[0] = 8;
        let echo = Inner::parse(&v4([10, 0, 0, 9], [10, 0, 0, 1], ICMP, &error)).unwrap();
        assert_eq!((echo.transport, echo.quoted), (Transport::Icmp, None));
    }

    #[test]
    fn extension_headers_are_walked_and_later_fragments_have_no_ports() {
        let mut body = vec![FRAGMENT, 0, 0, 0, 0, 0, 0, 0, TCP, 0, 0, 1, 0, 0, 0, 7];
        body.extend(PORTS);
        let first = Inner::parse(&v6(DESTINATION, &body)).unwrap();
        assert_eq!(
            (first.transport, first.ports.map(|p| p.destination)),
            (Transport::Tcp, Some(80))
        );
        body[11] = 9;
        let later = Inner::parse(&v6(DESTINATION, &body)).unwrap();
        assert_eq!((later.transport, later.ports), (Transport::Tcp, None));
        let endless = v6(DESTINATION, &[DESTINATION, 0, 0, 0, 0, 0, 0, 0].repeat(20));
        assert_eq!(Inner::parse(&endless).unwrap().ports, None);
        let mut fragment = v4([1; 4], [2; 4], UDP, &PORTS);
        fragment[7] = 1;
        assert_eq!(Inner::parse(&fragment).unwrap().ports, None);
    }

    #[test]
    fn what_is_no_packet_is_told_apart() {
        let udp = v4([1; 4], [2; 4], UDP, &PORTS);
        assert_eq!(Inner::parse(&[]), Err(Unfit::Short));
        assert_eq!(Inner::parse(&udp[..19]), Err(Unfit::Short));
        assert_eq!(Inner::parse(&udp[..27]), Err(Unfit::Length));
        assert_eq!(Inner::parse(&[0x55; 40]), Err(Unfit::Version));
        let mut short_header = udp;
        short_header[0] = 0x44;
        assert_eq!(Inner::parse(&short_header), Err(Unfit::Length));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Inner::parse(&bytes);
        }

        #[test]
        fn nor_is_any_change_of_a_packet(at in 0_usize..80, to: u8, cut in 0_usize..80) {
            let mut error = vec![1, 4, 0, 0, 0, 0, 0, 0];
            error.extend(v6(UDP, &PORTS));
            let mut packet = v6(ICMPV6, &error);
            let length = packet.len();
            packet[at % length] = to;
            let _ = Inner::parse(&packet);
            let _ = Inner::parse(&packet[..cut.min(length)]);
        }
    }
}
