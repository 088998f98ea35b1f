//! Which way the tunnel sends a VM's packets, worked out from its record.

use std::collections::BTreeSet;

use placement::{Identity, Role};
use proxy_api::{Conversation, Elsewhere, Place, Protocol};
use tunnel::protocol::packets::{Stand, Talks, Tuple, Way};

use super::{Here, Moving, Record, Step, fit};

impl Record {
    /// The way of its packets; none where this proxy has no part in it.
    #[must_use]
    pub fn way(&self, here: &Here) -> Option<Way> {
        let addresses = self.card.as_ref()?.addresses.iter().copied().collect();
        let stand = match &self.moving {
            Some(Moving { stage, step }) if here.is(&stage.from) && *step != Step::Staged => {
                let talks = self.talks(here, &self.elsewhere);
                Stand::Holding { to: proxy_of(&stage.to), talks }
            }
            Some(Moving { stage, step: Step::Staged }) if here.is(&stage.to) => Stand::Staged {
                from: proxy_of(&stage.from),
                away: self.away.as_ref().map(|away| proxy_of(&away.to)),
                talks: self.talks(here, &stage.elsewhere),
            },
            _ => match &self.away {
                Some(away) => Stand::Away {
                    to: proxy_of(&away.to),
                    next: away.next.as_ref().map(|next| proxy_of(&next.to)),
                },
                None if self.elsewhere.is_empty() => return None,
                None => Stand::Here { talks: self.talks(here, &self.elsewhere) },
            },
        };
        Some(Way { epoch: self.epoch(), addresses, stand })
    }

    /// The proxy that what is kept back for the VM would go to.
    #[must_use]
    pub fn goes_to(&self, here: &Here) -> Option<Identity> {
        let Moving { stage, .. } = self.moving.as_ref()?;
        here.is(&stage.from).then(|| proxy_of(&stage.to))
    }

    /// By proxy: one may stand for several places.
    fn talks(&self, here: &Here, elsewhere: &[Elsewhere]) -> Vec<Talks> {
        let own = self.card.as_ref().map(|card| &card.addresses[..]).unwrap_or_default();
        let mut talks: Vec<Talks> = Vec::new();
        for one in elsewhere.iter().filter(|one| !here.is(&one.place)) {
            let peer = proxy_of(&one.place);
            let at = talks.iter().position(|known| known.peer == peer).unwrap_or_else(|| {
                talks.push(Talks { peer, addresses: BTreeSet::new(), tuples: BTreeSet::new() });
                talks.len() - 1
            });
            let neighbours = one.neighbours.iter().map(|neighbour| neighbour.address);
            let all = one.leg.iter().chain(&one.gateways).copied().chain(neighbours);
            let others = all.filter(|ip| fit::is_of_a_machine(*ip) && !own.contains(ip));
            if let Some(known) = talks.get_mut(at) {
                known.addresses.extend(others);
                known.tuples.extend(one.conversations.iter().map(tuple));
            }
        }
        talks
    }
}

/// A conversation, in the tunnel's terms.
pub(in crate::vms) fn tuple(conversation: &Conversation) -> Tuple {
    let Conversation { protocol, vm, vm_port, peer, peer_port } = *conversation;
    Tuple { is_tcp: protocol == Protocol::Tcp, vm, vm_port, peer, peer_port }
}

fn proxy_of(place: &Place) -> Identity {
    Identity { site: place.site.clone(), role: Role::Proxy, name: place.proxy.clone() }
}
