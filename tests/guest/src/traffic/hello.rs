//! The server's first words on a TCP connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Fault, Token};

/// The length of a hello.
pub const HELLO_BYTES: usize = 64;

/// How a hello begins; no frame begins so.
pub const HELLO_MAGIC: [u8; 8] = *b"CwHello1";

/// Which connection this is, and whom the server sees at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The connection's token.
    pub token: Token,
    /// The client as the server sees it: behind a proxy or NAT, not as the client sees itself.
    pub seen: SocketAddr,
}

impl Hello {
    /// The hello as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let address = match self.seen.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        bytes[..8].copy_from_slice(&HELLO_MAGIC);
        bytes[8..24].copy_from_slice(&self.token.0);
        bytes[24..40].copy_from_slice(&address.octets());
        bytes[40..42].copy_from_slice(&self.seen.port().to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a hello.
    ///
    /// # Errors
    /// [`Fault::NoHello`] for anything that [`Hello::encode`] has not made.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, Fault> {
        let [.., a, b, c, d] = *bytes;
        let checksum = crc32fast::hash(&bytes[..60]);
        if bytes[..8] != HELLO_MAGIC || [a, b, c, d] != checksum.to_le_bytes() {
            return Err(Fault::NoHello);
        }
        let mut token = [0; 16];
        token.copy_from_slice(&bytes[8..24]);
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[24..40]);
        let ip = Ipv6Addr::from(octets).to_canonical();
        let port = u16::from_le_bytes([bytes[40], bytes[41]]);
        Ok(Self { token: Token(token), seen: SocketAddr::new(ip, port) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hello_comes_back_and_an_altered_one_is_none(
            token in any::<[u8; 16]>(), v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(),
            use_v6 in any::<bool>(), port in any::<u16>(), at in 0..HELLO_BYTES, bit in 0_u32..8,
        ) {
            let ip = if use_v6 { Ipv6Addr::from(v6).to_canonical() } else { IpAddr::from(v4) };
            let hello = Hello { token: Token(token), seen: SocketAddr::new(ip, port) };
            let mut bytes = hello.encode();
            prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Hello::decode(&bytes), Err(Fault::NoHello));
        }
    }
}
