//! What is left in the taps of a VM that has stopped, on its way to the proxy: read once, kept until
//! it is shipped, shipped in parts whose order is theirs.

use std::sync::Arc;

use network::port::{self, Seen};
use network::{Mac, TapQueue};
use placement::{Authority, VmName};
use proxy_api::{
    Conversation, Leftovers, LeftoversHead, PART_CONVERSATIONS_MAX, PART_PACKET_BYTES_MAX,
    PARTS_MAX, Protocol,
};

use super::{Card, PortError, blocking};
use crate::own_proxy::OwnProxy;

/// Reads of one tap: more than its queue holds, should somebody go on to fill it.
const READS_MAX: usize = 64;

/// Leftovers of one move.
#[derive(Debug)]
pub(super) struct Leaving {
    authority: Authority,
    ways: Vec<Way>,
}

/// What goes to one proxy.
#[derive(Debug)]
struct Way {
    proxy: Arc<OwnProxy>,
    packets: Vec<Vec<u8>>,
    conversations: Vec<Conversation>,
    /// Of the next part.
    part: u32,
}

impl Leaving {
    pub(super) fn under(authority: Authority) -> Leaving {
        Leaving { authority, ways: Vec::new() }
    }

    /// Takes what is left at one card: until nothing is, once the VM is seen stopped.
    pub(super) async fn read(
        &mut self,
        card: &Card,
        queue: TapQueue,
        leg: Option<Mac>,
    ) -> Result<(), PortError> {
        let Some(proxy) = &card.proxy else { return Ok(()) };
        let (mac, port) = (card.mac, card.port.clone());
        let read = blocking(move || {
            let mut packets = Vec::new();
            for _ in 0..READS_MAX {
                let more = queue.leftovers(mac)?;
                if more.is_empty() {
                    break;
                }
                packets.extend(more);
            }
            Ok::<_, network::NetworkError>((packets, port.seen(leg)?))
        });
        let (packets, seen) = read.await??;
        let known = self.ways.iter().position(|way| Arc::ptr_eq(&way.proxy, proxy));
        let index = known.unwrap_or(self.ways.len());
        if known.is_none() {
            let proxy = Arc::clone(proxy);
            self.ways.push(Way { proxy, packets: vec![], conversations: vec![], part: 0 });
        }
        if let Some(way) = self.ways.get_mut(index) {
            way.packets.extend(packets);
            // A VM that stands still begins no others.
            if way.part == 0 {
                way.conversations = seen.iter().map(conversation).collect();
            }
        }
        Ok(())
    }

    /// Ships all of it. What was shipped is not shipped again by a repetition.
    pub(super) async fn ship(&mut self, vm: &VmName) -> Result<(), PortError> {
        for way in &mut self.ways {
            way.ship(vm, &self.authority).await?;
        }
        Ok(())
    }
}

impl Way {
    async fn ship(&mut self, vm: &VmName, authority: &Authority) -> Result<(), PortError> {
        // An empty first part says as well that the VM has stopped, and nothing was left.
        while self.part == 0 || !self.packets.is_empty() || !self.conversations.is_empty() {
            if self.part >= PARTS_MAX {
                let left = self.packets.len();
                tracing::warn!(%vm, left, "more was left than is shipped; the rest is lost");
                return Ok(());
            }
            let (packets, conversations) = self.next_part();
            let is_last =
                packets == self.packets.len() && conversations == self.conversations.len();
            let head = LeftoversHead {
                authority: authority.clone(),
                part: self.part,
                conversations: self.conversations[..conversations].to_vec(),
                is_last,
            };
            let part = Leftovers { head, packets: self.packets[..packets].to_vec() };
            self.proxy.leftovers(vm, &part.encode()?).await?;
            tracing::info!(%vm, part = self.part, packets, conversations, "leftovers shipped");
            self.packets.drain(..packets);
            self.conversations.drain(..conversations);
            self.part += 1;
        }
        Ok(())
    }

    /// How many packets and conversations go into it.
    fn next_part(&self) -> (usize, usize) {
        let mut bytes = 0;
        let fits = |packet: &&Vec<u8>| {
            bytes += 2 + packet.len();
            bytes <= PART_PACKET_BYTES_MAX
        };
        let packets = self.packets.iter().take_while(fits).count();
        (packets, self.conversations.len().min(PART_CONVERSATIONS_MAX))
    }
}

pub(super) fn conversation(seen: &Seen) -> Conversation {
    let protocol = match seen.protocol {
        port::Protocol::Tcp => Protocol::Tcp,
        port::Protocol::Udp => Protocol::Udp,
    };
    let network::Tuple { vm, vm_port, peer, peer_port } = seen.tuple;
    Conversation { protocol, vm, vm_port, peer, peer_port }
}
