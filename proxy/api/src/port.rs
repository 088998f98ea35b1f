//! What the agent at a VM's port tells the proxy of its own site: the hold's begin and end, and what
//! was left in the port. Only that agent may, and only under the VM's standing claim.
//!
//! ```text
//! leaving:   divert -> (the port is turned round) -> stand-in -> stop -> leftovers, part by part
//! arriving:  (the port is taken over and turned round) -> start -> release
//! called off: run -> release -> (the port is as it was)
//! ```
//!
//! Each is idempotent: a repetition gets the same answer.

use std::net::IpAddr;

use placement::{Authority, PartName};
use serde::{Deserialize, Serialize};

use crate::{Mac, Protocol};

/// Bytes of one part's packets, each with its length before it.
pub const PART_PACKET_BYTES_MAX: usize = 512 * 1024;
/// Conversations in one part.
pub const PART_CONVERSATIONS_MAX: usize = 2_048;
/// Parts of one move.
pub const PARTS_MAX: u32 = 256;

/// A call about a VM's port under its standing claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtPort {
    /// The standing claim's.
    pub authority: Authority,
}

/// What this proxy has for the VM is kept back from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverted {
    /// Where the port is to send what is for the VM: the leg on each of the VM's networks.
    pub legs: Vec<Leg>,
}

/// This proxy answers for the VM on its networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandsIn {}

/// One part of what was left at the port when the VM had stopped. What is in it goes before all that
/// the proxy kept back, in the order of the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftovers {
    /// Whose they are, and which part.
    pub head: LeftoversHead,
    /// IP packets, in order.
    pub packets: Vec<Vec<u8>>,
}

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftoversHead {
    /// The standing claim's.
    pub authority: Authority,
    /// From 0. A part that has come is not taken again.
    pub part: u32,
    /// Conversations of the VM's that began at this port: they go on from here. At most
    /// [`PART_CONVERSATIONS_MAX`].
    pub conversations: Vec<Conversation>,
    /// No other part follows: what the proxy kept back may be given to the VM once it runs.
    pub is_last: bool,
}

/// Leftovers that were taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoversTaken {
    /// How many packets of this part were taken, now or earlier.
    pub packets: u64,
}

/// What was kept back for the VM has followed it to where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Packets that were released by this call or an earlier one.
    pub packets: u64,
}

/// Both ends of a conversation, the VM's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// By which protocol.
    pub protocol: Protocol,
    /// The VM's address.
    pub vm: IpAddr,
    /// Its port.
    pub vm_port: u16,
    /// The other's address.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
}

/// Every network that this proxy has a leg on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// In the order of the configuration.
    pub legs: Vec<Leg>,
}

/// A proxy's interface on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Of which network.
    pub network: PartName,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// The network's own gateways, as the proxy was told: whoever stages a VM names them.
    pub gateways: Vec<IpAddr>,
    /// The network namespace that it stands in.
    pub namespace: String,
    /// The interface itself.
    pub interface: String,
    /// The TUN beside it.
    pub tun: String,
}

/// Bytes that are no part of leftovers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftoversError {
    /// They end too early, or a length leads beyond their end.
    #[error("the part is cut off at byte {at}; send it whole")]
    Cut {
        /// Where.
        at: usize,
    },
    /// The head is none.
    #[error("the part's head cannot be read: {why}; are both ends of one version?")]
    Head {
        /// In the parser's words.
        why: String,
    },
    /// More than goes into one part.
    #[error("the part has more than {most} {what}; send several")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// An empty packet.
    #[error("packet {index} of the part is empty; leave it out")]
    Empty {
        /// Which, from 0.
        index: usize,
    },
}

impl Leftovers {
    /// As the body of a call: the head's length in four bytes, the head as JSON, then each packet
    /// after its length in two; big-endian.
    ///
    /// # Errors
    /// It is more than one part, or a packet is empty or longer than IP's.
    pub fn encode(&self) -> Result<Vec<u8>, LeftoversError> {
        self.check()?;
        let why = |error: &dyn std::fmt::Display| LeftoversError::Head { why: error.to_string() };
        let head = serde_json::to_vec(&self.head).map_err(|error| why(&error))?;
        let mut bytes =
            u32::try_from(head.len()).map_err(|error| why(&error))?.to_be_bytes().to_vec();
        bytes.extend(head);
        for packet in &self.packets {
            let length = u16::try_from(packet.len()).map_err(|_| LeftoversError::TooMany {
                what: "bytes in one packet",
                most: u16::MAX.into(),
            })?;
            bytes.extend(length.to_be_bytes());
            bytes.extend(packet);
        }
        Ok(bytes)
    }

    /// Reads the body of a call.
    ///
    /// # Errors
    /// See [`LeftoversError`].
    pub fn decode(bytes: &[u8]) -> Result<Leftovers, LeftoversError> {
        let mut at = 0;
        let length = take(bytes, &mut at, 4)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let head = serde_json::from_slice(take(bytes, &mut at, length)?)
            .map_err(|error| LeftoversError::Head { why: error.to_string() })?;
        let mut packets = Vec::new();
        while at < bytes.len() {
            let length = take(bytes, &mut at, 2)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            packets.push(take(bytes, &mut at, length)?.to_vec());
        }
        let leftovers = Leftovers { head, packets };
        leftovers.check()?;
        Ok(leftovers)
    }

    fn check(&self) -> Result<(), LeftoversError> {
        let bytes: usize = self.packets.iter().map(|packet| 2 + packet.len()).sum();
        let bounds = [
            (self.head.conversations.len(), "conversations", PART_CONVERSATIONS_MAX),
            (bytes, "bytes of packets", PART_PACKET_BYTES_MAX),
        ];
        if let Some((_, what, most)) = bounds.into_iter().find(|(found, _, most)| found > most) {
            return Err(LeftoversError::TooMany { what, most });
        }
        let empty = self.packets.iter().position(Vec::is_empty);
        empty.map_or(Ok(()), |index| Err(LeftoversError::Empty { index }))
    }
}

fn take<'b>(bytes: &'b [u8], at: &mut usize, length: usize) -> Result<&'b [u8], LeftoversError> {
    let end = at.checked_add(length).filter(|end| *end <= bytes.len());
    let end = end.ok_or(LeftoversError::Cut { at: *at })?;
    let taken = bytes.get(*at..end).unwrap_or_default();
    *at = end;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use placement::Epoch;
    use proptest::prelude::*;

    use super::*;

    fn leftovers(packets: Vec<Vec<u8>>) -> Leftovers {
        let owner = "serve.0000000000000007".parse().unwrap();
        let authority = Authority { epoch: Epoch::new(2), owner };
        let conversation = Conversation {
            protocol: Protocol::Tcp,
            vm: "10.9.2.1".parse().unwrap(),
            vm_port: 7000,
            peer: "10.9.21.1".parse().unwrap(),
            peer_port: 40_000,
        };
        let head =
            LeftoversHead { authority, part: 0, conversations: vec![conversation], is_last: true };
        Leftovers { head, packets }
    }

    #[test]
    fn more_than_one_part_and_an_empty_packet_are_refused_at_both_ends() {
        let most = leftovers(vec![vec![0x45; 65_533]; PART_PACKET_BYTES_MAX / 65_535]);
        most.encode().unwrap();
        let more = leftovers([&most.packets[..], &[vec![0x45; 65_533]]].concat());
        assert!(matches!(more.encode(), Err(LeftoversError::TooMany { .. })));
        assert_eq!(leftovers(vec![vec![]]).encode(), Err(LeftoversError::Empty { index: 0 }));
        let mut bytes = leftovers(vec![]).encode().unwrap();
        bytes.extend([0, 0]);
        assert_eq!(Leftovers::decode(&bytes), Err(LeftoversError::Empty { index: 0 }));
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_is_read(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..20),
        ) {
            let sent = leftovers(packets);
            prop_assert_eq!(Leftovers::decode(&sent.encode().unwrap()).unwrap(), sent);
        }

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let _ = Leftovers::decode(&bytes);
            let mut mutated = leftovers(vec![vec![1; 9], vec![2; 40]]).encode().unwrap();
            for (at, with) in flips {
                let at = at.index(mutated.len());
                mutated[at] ^= with;
            }
            if let Ok(read) = Leftovers::decode(&mutated) {
                prop_assert!(read.encode().is_ok());
            }
        }
    }
}
