//! Prefixes, and the destination of a packet: what routing here needs of IP.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const V4_HEADER_BYTES: usize = 20;
const V6_HEADER_BYTES: usize = 40;

/// Why a text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address, a slash and a length.
    #[error("'{0}' is not a prefix; write for example 10.255.1.0/24 or fd00:1::/64")]
    NotAPrefix(String),
    /// The length is more than the address has bits.
    #[error("prefix '{0}' is longer than its address; write at most /32 for IPv4, /128 for IPv6")]
    TooLong(String),
    /// Bits are set beyond the length, so that what was meant is unclear.
    #[error("prefix '{written}' has bits set beyond its length; did you mean {meant}?")]
    HostBits {
        /// As it was written.
        written: String,
        /// The prefix that this address lies in.
        meant: Prefix,
    },
}

/// A range of IPv4 or IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length_bits: u8,
}

impl Prefix {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let is_same_family = address.is_ipv4() == self.address.is_ipv4();
        is_same_family && masked(address, self.length_bits) == self.address
    }

    /// How many leading bits its addresses share.
    #[must_use]
    pub fn length_bits(&self) -> u8 {
        self.length_bits
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let not_a_prefix = || PrefixError::NotAPrefix(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(not_a_prefix)?;
        let address: IpAddr = address.parse().map_err(|_| not_a_prefix())?;
        let length_bits: u8 = length.parse().map_err(|_| not_a_prefix())?;
        if length_bits > if address.is_ipv4() { 32 } else { 128 } {
            return Err(PrefixError::TooLong(text.to_owned()));
        }
        let prefix = Self { address: masked(address, length_bits), length_bits };
        if prefix.address != address {
            return Err(PrefixError::HostBits { written: text.to_owned(), meant: prefix });
        }
        Ok(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length_bits)
    }
}

/// Where an IP packet wants to go; none if it is no IP packet.
#[must_use]
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<V4_HEADER_BYTES>()?;
            Some(Ipv4Addr::from(*header.last_chunk::<4>()?).into())
        }
        6 => {
            let header = packet.first_chunk::<V6_HEADER_BYTES>()?;
            Some(Ipv6Addr::from(*header.last_chunk::<16>()?).into())
        }
        _ => None,
    }
}

/// The address with all but its first bits cleared; there must be as many.
fn masked(address: IpAddr, length_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length_bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length_bits)).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        let v4 = prefix("10.255.1.0/24");
        assert!(v4.contains("10.255.1.255".parse().unwrap()));
        assert!(!v4.contains("10.255.2.0".parse().unwrap()));
        let all_v4 = prefix("0.0.0.0/0");
        assert!(all_v4.contains("255.255.255.255".parse().unwrap()));
        assert!(!all_v4.contains("::".parse().unwrap()));
        let all_v6 = prefix("::/0");
        assert!(all_v6.contains("fd00::1".parse().unwrap()));
        assert!(!all_v6.contains("10.0.0.1".parse().unwrap()));
        assert!(!prefix("fd00:1::/64").contains("10.0.0.1".parse().unwrap()));
        assert!(prefix("fd00:1::7/128").contains("fd00:1::7".parse().unwrap()));
    }

    #[test]
    fn what_is_unclear_is_refused_with_what_was_meant() {
        let refused = "10.0.0.1/24".parse::<Prefix>().unwrap_err();
        assert!(refused.to_string().contains("10.0.0.0/24"), "{refused}");
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "x/1", "10.0.0.0/-1", "10.0.0.0/a"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_destination_is_read_from_whole_headers_only() {
        let mut v4 = vec![0x45; V4_HEADER_BYTES];
        v4[16..].copy_from_slice(&[10, 1, 2, 3]);
        assert_eq!(destination(&v4), Some("10.1.2.3".parse().unwrap()));
        assert_eq!(destination(&v4[..V4_HEADER_BYTES - 1]), None);
        let mut v6 = vec![0x60; V6_HEADER_BYTES];
        v6[24..].copy_from_slice(&"fd00::9".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(destination(&v6), Some("fd00::9".parse().unwrap()));
        assert_eq!(destination(&v6[..V6_HEADER_BYTES - 1]), None);
        assert_eq!(destination(&[0x10; 60]), None);
        assert_eq!(destination(&[]), None);
    }
}
