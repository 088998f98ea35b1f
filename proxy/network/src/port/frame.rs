//! A frame that waited for the VM, and the packet in it that is to follow the VM. Pure, total.

use crate::Mac;

const HEADER_BYTES: usize = 14;
const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const IPV4_BYTES_MIN: usize = 20;
const IPV6_BYTES_MIN: usize = 40;
const ICMPV6: u8 = 58;
/// From a router's solicitation to a redirect.
const NDP: std::ops::RangeInclusive<u8> = 133..=137;

/// The IP packet of a frame that is for the VM alone, without what the wire added behind it. Nothing
/// where the frame is none such: groups, ARP and neighbour discovery mean something on their own
/// bridge only.
pub(super) fn packet(frame: &[u8], guest: Mac) -> Option<&[u8]> {
    let (header, packet) = frame.split_at_checked(HEADER_BYTES)?;
    if !header.starts_with(&guest.0) {
        return None;
    }
    let kind: [u8; 2] = header.last_chunk().copied()?;
    match kind {
        TYPE_IPV4 => ipv4(packet),
        TYPE_IPV6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<&[u8]> {
    let header = packet.first_chunk::<IPV4_BYTES_MIN>()?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_sound = header[0] >> 4 == 4 && header_bytes >= IPV4_BYTES_MIN && length >= header_bytes;
    if is_sound { packet.get(..length) } else { None }
}

fn ipv6(packet: &[u8]) -> Option<&[u8]> {
    let header = packet.first_chunk::<IPV6_BYTES_MIN>()?;
    let length = IPV6_BYTES_MIN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 {
        return None;
    }
    let packet = packet.get(..length)?;
    let is_ndp = header[6] == ICMPV6 && packet.get(IPV6_BYTES_MIN).is_some_and(|k| NDP.contains(k));
    if is_ndp { None } else { Some(packet) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VM: Mac = Mac([2, 0, 0, 0, 2, 1]);

    fn framed(to: Mac, kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&to.0[..], &[2, 0, 0, 0, 0, 9], &kind, packet].concat()
    }

    fn v4(payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 20 + payload];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(20 + payload).unwrap().to_be_bytes());
        packet
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        packet[6] = next;
        packet.extend(payload);
        packet
    }

    #[test]
    fn a_packet_comes_without_its_frames_padding() {
        let mut frame = framed(VM, TYPE_IPV4, &v4(3));
        frame.resize(60, 0);
        assert_eq!(packet(&frame, VM), Some(&v4(3)[..]));
        let mut frame = framed(VM, TYPE_IPV6, &v6(17, b"12345678"));
        frame.resize(80, 0);
        assert_eq!(packet(&frame, VM), Some(&v6(17, b"12345678")[..]));
    }

    #[test]
    fn what_means_something_on_its_bridge_only_stays_there() {
        let group = Mac([0xff; 6]);
        assert_eq!(packet(&framed(group, TYPE_IPV4, &v4(3)), VM), None);
        assert_eq!(packet(&framed(VM, [0x08, 0x06], &[0; 28]), VM), None);
        for kind in [133, 135, 136, 137] {
            assert_eq!(packet(&framed(VM, TYPE_IPV6, &v6(ICMPV6, &[kind, 0])), VM), None);
        }
        assert!(packet(&framed(VM, TYPE_IPV6, &v6(ICMPV6, &[128, 0])), VM).is_some());
    }

    #[test]
    fn a_packet_that_was_cut_is_none() {
        let frame = framed(VM, TYPE_IPV4, &v4(30));
        for length in 0..frame.len() {
            assert_eq!(packet(&frame[..length], VM), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_part_of_the_frame_or_nothing(
            rest in prop::collection::vec(any::<u8>(), 0..120), is_v4: bool, is_sound: bool,
        ) {
            let kind = if is_v4 { TYPE_IPV4 } else { TYPE_IPV6 };
            let mut frame = framed(VM, kind, &rest);
            if is_sound && frame.len() > HEADER_BYTES {
                frame[HEADER_BYTES] = if is_v4 { 0x45 } else { 0x60 };
            }
            if let Some(found) = packet(&frame, VM) {
                prop_assert!(frame[HEADER_BYTES..].starts_with(found));
                prop_assert!(found.len() >= IPV4_BYTES_MIN);
            }
        }
    }
}
