//! Packets with a flow and a number in them.

use std::net::{IpAddr, Ipv4Addr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// From a port that is the flow's number; the body is the packet's.
pub(crate) fn packet(
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    flow: u16,
    number: u32,
) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else {
        panic!("IPv4 here");
    };
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(flow.to_be_bytes());
    packet.extend(80_u16.to_be_bytes());
    packet.extend(number.to_be_bytes());
    packet
}

/// Protocol, flow and number.
pub(crate) fn read(packet: &[u8]) -> (u8, u16, u32) {
    let flow = u16::from_be_bytes(packet[20..22].try_into().unwrap());
    (packet[9], flow, u32::from_be_bytes(packet[24..28].try_into().unwrap()))
}

pub(crate) fn ip(a: u8, b: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 9, a, b))
}
