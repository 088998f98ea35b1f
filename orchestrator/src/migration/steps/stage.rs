//! Both proxies learn of the next placement. At the target's, all is set that changes no packet's way
//! yet; the source's remembers where to. Those of places that the VM left earlier and still talks to
//! learn from where it will speak.

use std::collections::HashSet;
use std::net::IpAddr;

use hypervisor::{CallTrouble, Code, Hypervisor};
use orchestrator_api::VmDefinition;
use orchestrator_api::agent::{Spoken, Transport, WatchView, WatchedPeer};
use placement::End;
use proxy_api::{
    Card, Conversation, Elsewhere, Mac, Neighbour, Place, Protocol, VM_CONVERSATIONS_MAX,
    VM_PEERS_MAX, VM_PLACES_MAX,
};
use saga::{Context, Observed, Reversible, Step, StepId, Trouble};

use crate::migration::ends::{Ends, troubled};
use crate::migration::parties::{Parties, ProxyPort};

/// See the module.
pub(in crate::migration) struct Stage<'w, P> {
    pub(in crate::migration) ends: Ends<'w, P>,
    pub(in crate::migration) definition: VmDefinition,
}

impl<P: Parties> Step for Stage<'_, P> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("stage")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // A stage said again is the same stage.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        let stage = self.stage(cx).await?;
        let ends = self.ends;
        for end in [ends.to(), ends.from()] {
            ends.proxy(end)?.stage(&ends.wanted.vm, &stage).await.map_err(troubled)?;
        }
        // One that is out of reach takes the VM's word a moment later, once it has heard where it is.
        for place in stage.elsewhere.iter().filter(|one| one.place != stage.from) {
            if let Some(proxy) = proxy_at(ends, &place.place) {
                warned(proxy.stage(&ends.wanted.vm, &stage).await, &place.place);
            }
        }
        Ok(())
    }
}

impl<P: Parties> Reversible for Stage<'_, P> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        let (ends, authority) = (self.ends, self.ends.authority(cx)?);
        for end in [ends.from(), ends.to()] {
            match ends.proxy(end)?.unstage(&ends.wanted.vm, &authority).await {
                Err(trouble) if trouble.code() == Some(Code::Ended) => {}
                unstaged => unstaged.map_err(troubled)?,
            }
        }
        let earlier = elsewhere(ends, ends.from()).await.unwrap_or_default();
        for Elsewhere { place, .. } in earlier {
            if let Some(proxy) = proxy_at(ends, &place) {
                warned(proxy.unstage(&ends.wanted.vm, &authority).await, &place);
            }
        }
        Ok(())
    }
}

impl<P: Parties> Stage<'_, P> {
    async fn stage(&self, cx: &Context) -> Result<proxy_api::Stage, Trouble> {
        let (ends, from) = (self.ends, self.ends.from());
        let card = self.definition.cards.first();
        let card = card.ok_or_else(|| Trouble::permanent("the VM has no network card"))?;
        let (leaves, arrives) =
            (place(from, &self.definition)?, place(ends.to(), &self.definition)?);
        let networks = ends.proxy(from)?.networks().await.map_err(troubled)?;
        let leg = networks.legs.into_iter().find(|leg| leg.network == card.network);
        let leg = leg.ok_or_else(|| {
            let (proxy, site, network) = (&from.proxy, &from.site, &card.network);
            Trouble::permanent(format!("proxy {proxy} of site {site} has no leg on {network}"))
        })?;
        let watched = ends.agent(from)?.watched(&ends.wanted.vm).await.map_err(troubled)?;
        let earlier = elsewhere(ends, from).await.map_err(troubled)?;
        let known = addresses_of(&earlier);
        let here = Elsewhere {
            place: leaves.clone(),
            leg: leg.addresses,
            gateways: leg.gateways,
            neighbours: neighbours(&watched, &known, !earlier.is_empty()),
            conversations: conversations(&watched, &known, &earlier),
        };
        // Where it comes to, its neighbours are its neighbours.
        let others = earlier.into_iter().filter(|one| one.place != arrives);
        let elsewhere = bounded(std::iter::once(here).chain(others));
        Ok(proxy_api::Stage {
            authority: ends.authority(cx)?,
            from: leaves,
            to: arrives,
            card: Card { mac: Mac(card.mac.bytes()), addresses: card.addresses.clone() },
            elsewhere,
        })
    }
}

/// Where the VM is at this end, as proxies know places.
pub(super) fn place(end: &End, definition: &VmDefinition) -> Result<Place, Trouble> {
    let card = definition.cards.first();
    let card = card.ok_or_else(|| Trouble::permanent("the VM has no network card"))?;
    let (site, proxy) = (end.site.clone(), end.proxy.clone());
    Ok(Place { site, proxy, network: card.network.clone() })
}

/// Every place that the VM left before it came to this end, and still talks to from there.
pub(super) async fn elsewhere<P: Parties>(
    ends: Ends<'_, P>,
    end: &End,
) -> Result<Vec<Elsewhere>, CallTrouble> {
    let Some(proxy) = ends.parties.proxy(end) else { return Ok(Vec::new()) };
    match proxy.elsewhere(&ends.wanted.vm).await {
        Ok(known) => Ok(known.places),
        Err(trouble) if trouble.code() == Some(Code::UnknownVm) => Ok(Vec::new()),
        Err(trouble) => Err(trouble),
    }
}

fn proxy_at<'w, P: Parties>(ends: Ends<'w, P>, place: &Place) -> Option<&'w P::Proxy> {
    let all = ends.parties.proxies().into_iter();
    let mut of_place = all.filter(|((site, name), _)| *site == place.site && *name == place.proxy);
    of_place.next().map(|(_, proxy)| proxy)
}

fn warned(told: Result<(), CallTrouble>, place: &Place) {
    if let Err(trouble) = told {
        let (site, proxy, why) = (&place.site, &place.proxy, daemon::with_causes(&trouble));
        tracing::warn!(%site, %proxy, why, "a proxy that a vm left does not know where it goes on to");
    }
}

/// Of all places together only so much can be told; what is left out is of the oldest.
fn bounded(places: impl Iterator<Item = Elsewhere>) -> Vec<Elsewhere> {
    let (mut peers, mut conversations) = (VM_PEERS_MAX, VM_CONVERSATIONS_MAX);
    let mut bounded = Vec::new();
    for mut place in places.take(VM_PLACES_MAX) {
        peers = peers.saturating_sub(place.leg.len() + place.gateways.len());
        place.neighbours.truncate(peers);
        peers -= place.neighbours.len();
        place.conversations.truncate(conversations);
        conversations -= place.conversations.len();
        bounded.push(place);
    }
    bounded
}

/// Whom the VM speaks with at the place that it leaves. What its port saw go to a proxy that stands
/// in for others says not by itself who is here: while it has somebody elsewhere, whoever is not
/// known there is; at home that was before, and only those count whose MAC was seen since. Whoever
/// comes to speak later is handed over by the agents, with what is left at the port.
fn neighbours(watched: &WatchView, known: &HashSet<IpAddr>, stands_in: bool) -> Vec<Neighbour> {
    let peers = watched.peers.iter().filter(|peer| !known.contains(&peer.address));
    let here = peers.filter(|peer| peer.mac.is_some() || stands_in);
    let neighbour = |peer: &WatchedPeer| Neighbour {
        address: peer.address,
        mac: peer.mac.map(|mac| Mac(mac.bytes())),
        is_gateway: false,
        is_there_too: false,
    };
    here.map(neighbour).collect()
}

/// What it speaks about with them.
fn conversations(
    watched: &WatchView,
    known: &HashSet<IpAddr>,
    earlier: &[Elsewhere],
) -> Vec<Conversation> {
    let of_earlier: HashSet<&Conversation> =
        earlier.iter().flat_map(|place| &place.conversations).collect();
    let told = |spoken: &Spoken| Conversation {
        protocol: match spoken.by {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        },
        vm: spoken.vm,
        vm_port: spoken.vm_port,
        peer: spoken.peer,
        peer_port: spoken.peer_port,
    };
    let here = watched.conversations.iter().filter(|spoken| !known.contains(&spoken.peer));
    here.map(told).filter(|one| !of_earlier.contains(one)).collect()
}

fn addresses_of(places: &[Elsewhere]) -> HashSet<IpAddr> {
    let of = |place: &Elsewhere| -> Vec<IpAddr> {
        let neighbours = place.neighbours.iter().map(|neighbour| neighbour.address);
        place.leg.iter().copied().chain(neighbours).collect()
    };
    places.iter().flat_map(of).collect()
}
