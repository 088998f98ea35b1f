//! Both proxies learn of the next placement. At the target's, all is set that changes no packet's way
//! yet; the source's remembers where to.

use hypervisor::{Code, Hypervisor};
use orchestrator_api::VmDefinition;
use orchestrator_api::agent::{Spoken, Transport, WatchView};
use placement::End;
use proxy_api::{
    Card, Conversation, Elsewhere, Mac, Neighbour, Place, Protocol, VM_CONVERSATIONS_MAX,
    VM_PEERS_MAX,
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
        let elsewhere = Elsewhere {
            place: leaves.clone(),
            leg: leg.addresses,
            gateways: leg.gateways,
            neighbours: neighbours(&watched),
            conversations: conversations(&watched),
        };
        Ok(proxy_api::Stage {
            authority: ends.authority(cx)?,
            from: leaves,
            to: arrives,
            card: Card { mac: Mac(card.mac.bytes()), addresses: card.addresses.clone() },
            elsewhere: vec![elsewhere],
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

/// Those whose place on the network the port has seen. Whoever comes to speak later is handed over
/// by the agents, with what is left at the port.
fn neighbours(watched: &WatchView) -> Vec<Neighbour> {
    let known = watched.peers.iter().filter_map(|peer| {
        let mac = Mac(peer.mac?.bytes());
        Some(Neighbour { address: peer.address, mac, is_gateway: false, is_there_too: false })
    });
    known.take(VM_PEERS_MAX).collect()
}

fn conversations(watched: &WatchView) -> Vec<Conversation> {
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
    watched.conversations.iter().map(told).take(VM_CONVERSATIONS_MAX).collect()
}
