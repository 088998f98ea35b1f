//! What a record says of a VM's way, and what should stand in the kernel for it.

use std::collections::BTreeSet;

use network::leg::{Away as KernelAway, Hosting, Otherwise, Peer, VmWanted};
use network::{Guest, Mac};
use placement::{Epoch, Identity, PartName, Role, SiteName};
use proxy_api::{Card, Elsewhere, Neighbour, Place, WayKind};

use super::{Here, Moving, Record, Step, fit};

impl Record {
    /// Which way its packets go.
    #[must_use]
    pub fn kind(&self, here: &Here) -> Option<WayKind> {
        match &self.moving {
            Some(Moving { stage, step }) if here.is(&stage.from) => Some(match step {
                Step::Staged => WayKind::Leaving,
                _ => WayKind::Holding,
            }),
            Some(Moving { step: Step::Released, .. }) => Some(WayKind::Hosting),
            Some(_) => Some(WayKind::Staged),
            None if self.away.is_some() => Some(WayKind::Away),
            None if !self.elsewhere.is_empty() => Some(WayKind::Hosting),
            None => None,
        }
    }

    /// The move that its way is of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let moving = self.moving.as_ref().map(|moving| moving.stage.authority.epoch);
        let away = self.away.as_ref().map(|away| away.epoch);
        let claim = self.claim.as_ref().map(|claim| claim.authority.epoch);
        moving.or(away).or(claim).unwrap_or(Epoch::NONE)
    }

    /// The VM's card.
    #[must_use]
    pub fn card(&self) -> Option<&Card> {
        self.card.as_ref()
    }

    /// The proxies at the other end of its way.
    #[must_use]
    pub fn peers(&self, here: &Here) -> Vec<Identity> {
        let mut places: Vec<&Place> = Vec::new();
        if let Some(Moving { stage, .. }) = &self.moving {
            places.extend([&stage.from, &stage.to]);
            places.extend(stage.elsewhere.iter().map(|elsewhere| &elsewhere.place));
        }
        places.extend(self.away.iter().map(|away| &away.to));
        let next = self.away.iter().filter_map(|away| away.next.as_ref());
        places.extend(next.map(|next| &next.to));
        places.extend(self.elsewhere.iter().map(|elsewhere| &elsewhere.place));
        let others = places.into_iter().filter(|place| !here.is(place));
        let peers: BTreeSet<(&SiteName, &PartName)> =
            others.map(|place| (&place.site, &place.proxy)).collect();
        let identity = |(site, name): (&SiteName, &PartName)| Identity {
            site: site.clone(),
            role: Role::Proxy,
            name: name.clone(),
        };
        peers.into_iter().map(identity).collect()
    }

    /// What should stand in the kernel.
    #[must_use]
    pub fn wanted(&self, here: &Here) -> Option<VmWanted> {
        let card = self.card.as_ref()?;
        let guest = Guest { mac: Mac(card.mac.0), addresses: card.addresses.clone() };
        let mut away = self.away.as_ref().map(|_| KernelAway { diverts: true, stands_in: true });
        let mut hosting = self.hosting(here, &self.elsewhere, self.is_home);
        match &self.moving {
            Some(Moving { stage, step }) if here.is(&stage.from) => match step {
                Step::Staged => {}
                Step::Diverted => away = Some(KernelAway { diverts: true, stands_in: false }),
                _ => away = Some(KernelAway { diverts: true, stands_in: true }),
            },
            Some(Moving { stage, step: Step::Staged }) => {
                hosting = self.hosting(here, &stage.elsewhere, self.away.is_some());
            }
            _ => {}
        }
        (away.is_some() || hosting.is_some()).then_some(VmWanted { guest, away, hosting })
    }

    /// Those elsewhere that this proxy answers for. What a port has seen is more than that: whoever
    /// is off the subnet is reached by a gateway, groups by nobody, and what is link-local and no
    /// gateway's stays on its link.
    fn hosting(&self, here: &Here, elsewhere: &[Elsewhere], is_home: bool) -> Option<Hosting> {
        let own = self.card.as_ref().map(|card| &card.addresses[..]).unwrap_or_default();
        let is_answered_for = |neighbour: &Neighbour| {
            let ip = neighbour.address;
            if fit::is_link_local(ip) { neighbour.is_gateway } else { here.is_on_subnet(ip) }
        };
        let legs = elsewhere.iter().flat_map(|place| &place.leg).map(|leg| Peer {
            address: *leg,
            is_router: false,
            is_here_too: false,
        });
        // One that is here too, by the same address, answers for itself.
        let gateways = elsewhere.iter().flat_map(|place| &place.gateways);
        let gateways = gateways.filter(|gateway| !here.gateways.contains(gateway));
        let gateways =
            gateways.map(|gateway| Peer { address: *gateway, is_router: true, is_here_too: false });
        let neighbours = elsewhere.iter().flat_map(|place| &place.neighbours);
        let neighbours = neighbours.filter(|neighbour| is_answered_for(neighbour));
        let neighbours = neighbours.map(|neighbour| Peer {
            address: neighbour.address,
            is_router: neighbour.is_gateway,
            is_here_too: neighbour.is_there_too,
        });
        let mut known = BTreeSet::new();
        let peers = legs.chain(gateways).chain(neighbours).filter(|peer| {
            let ip = peer.address;
            let is_other = !own.contains(&ip) && !here.has(ip) && fit::is_of_a_machine(ip);
            is_other && known.insert(ip)
        });
        let peers: Vec<Peer> = peers.collect();
        let otherwise = if is_home { Otherwise::Here } else { Otherwise::There };
        (!peers.is_empty()).then_some(Hosting { peers, otherwise })
    }
}
