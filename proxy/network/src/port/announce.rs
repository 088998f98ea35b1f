//! What the VM is told of others before nobody stands in for them any more: where they really are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::Netlink;
use crate::{Guest, Mac, NetworkError, packet_socket};

/// Told in one go, at most.
const ANNOUNCED_MAX: usize = 4096;
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Ethernet, IPv4, lengths of both, a request: a gratuitous one is believed even by those who heard
/// something else a moment ago.
const ARP_BEGIN: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 1];
const ICMPV6: u8 = 58;
/// Others are not believed.
const HOP_LIMIT: u8 = 255;
const ADVERTISEMENT: u8 = 136;
/// What was believed before gives way.
const OVERRIDE: u8 = 0x20;
/// Without it a VM drops its default route by this router at once.
const ROUTER: u8 = 0x80;
const TARGET_MAC: u8 = 2;

/// A machine, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// It is a router.
    pub is_router: bool,
}

/// Tells the VM behind `tap`, and nobody else, where these are. Of a family in which the VM has no
/// address nothing is told.
///
/// # Errors
/// See [`NetworkError`].
pub fn announce(tap: &str, guest: &Guest, those: &[Announced]) -> Result<(), NetworkError> {
    if those.len() > ANNOUNCED_MAX {
        let (vm, count) = (guest.mac.to_string(), those.len());
        return Err(NetworkError::TooMany {
            vm,
            count,
            what: "announcements",
            most: ANNOUNCED_MAX,
        });
    }
    let failed = || NetworkError::kernel(format!("send to the VM behind {tap}"));
    let link = Netlink::open().and_then(|netlink| netlink.index(tap)).map_err(failed())?;
    let frames: Vec<_> = those.iter().filter_map(|one| frame(guest, one)).collect();
    packet_socket::send(link, &frames).map_err(failed())
}

fn frame(guest: &Guest, announced: &Announced) -> Option<Vec<u8>> {
    let mac = announced.mac;
    let (kind, body) = match announced.address {
        IpAddr::V4(address) => {
            let is_told = guest.addresses.iter().any(IpAddr::is_ipv4);
            (TYPE_ARP, is_told.then(|| arp(address, mac))?)
        }
        IpAddr::V6(address) => {
            let to = guest.addresses.iter().find_map(|to| match to {
                IpAddr::V4(_) => None,
                IpAddr::V6(to) => Some(*to),
            });
            (TYPE_IPV6, advertisement(address, mac, announced.is_router, to?))
        }
    };
    Some([&guest.mac.0[..], &mac.0, &kind, &body].concat())
}

fn arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let address = address.octets();
    [&ARP_BEGIN[..], &mac.0, &address, &[0; 6], &address].concat()
}

fn advertisement(address: Ipv6Addr, mac: Mac, is_router: bool, to: Ipv6Addr) -> Vec<u8> {
    let flags = OVERRIDE | if is_router { ROUTER } else { 0 };
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_MAC, 1]);
    message.extend(mac.0);
    // 32 bytes: the checksum's pseudo header has the length as a number of four bytes.
    let length = [0, 0, 0, 32];
    let pseudo = [&address.octets()[..], &to.octets(), &length, &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[pseudo, message.clone()].concat());
    message.splice(2..4, sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, 32, ICMPV6, HOP_LIMIT];
    packet.extend(address.octets());
    packet.extend(to.octets());
    packet.extend(message);
    packet
}

/// The Internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok());
    let sum: u32 = pairs.map(u16::from_be_bytes).map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_has_the_sum_that_its_receiver_computes() {
        let (from, to) = ("fd10::21:1".parse().unwrap(), "fd10::2:1".parse().unwrap());
        let packet = advertisement(from, Mac([2, 0, 0, 0, 0x21, 1]), true, to);
        assert_eq!(packet.len(), 72);
        let pseudo = [&packet[8..40], &[0, 0, 0, 32, 0, 0, 0, ICMPV6], &packet[40..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(packet[44], ROUTER | OVERRIDE);
    }

    #[test]
    fn a_vm_is_told_only_in_the_families_that_it_speaks() {
        let mac = Mac([2, 0, 0, 0, 2, 1]);
        let guest = Guest { mac, addresses: vec!["10.9.2.1".parse().unwrap()] };
        let told = |address: &str| {
            let address = address.parse().unwrap();
            frame(&guest, &Announced { address, mac: Mac([2; 6]), is_router: false })
        };
        let arp = told("10.9.21.1").unwrap();
        assert_eq!(
            (arp.len(), &arp[28..32], &arp[38..42]),
            (42, &[10, 9, 21, 1][..], &[10, 9, 21, 1][..])
        );
        assert_eq!(told("fd10::21:1"), None);
    }
}
