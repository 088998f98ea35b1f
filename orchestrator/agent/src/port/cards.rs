//! A VM's cards, each with its port on a bridge here and the proxy whose leg stands there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use daemon::identity::Credentials;
use network::{Guest, Mac, Port, VmTag};
use orchestrator_api::VmDefinition;
use placement::{Identity, PartName, Role, VmName};

use super::PortError;
use crate::config::{Config, Network};
use crate::own_proxy::OwnProxy;

/// The proxies of this site, by the networks that their legs stand on.
#[derive(Debug, Default)]
pub(crate) struct Proxies(BTreeMap<PartName, Arc<OwnProxy>>);

impl Proxies {
    /// Those that the configuration says how to reach.
    pub(crate) fn of(config: &Config, credentials: &Arc<Credentials>) -> Proxies {
        let mut proxies: BTreeMap<PartName, Arc<OwnProxy>> = BTreeMap::new();
        for Network { name, proxy, proxy_address, .. } in &config.networks {
            let Some(address) = *proxy_address else { continue };
            let site = config.basics.site.clone();
            let identity = Identity { site, role: Role::Proxy, name: proxy.clone() };
            let known = proxies.values().find(|known| known.is(&identity, address)).cloned();
            let new = || Arc::new(OwnProxy::new(identity, address, Arc::clone(credentials)));
            proxies.insert(name.clone(), known.unwrap_or_else(new));
        }
        Proxies(proxies)
    }

    /// The one that a claim names: the first network's. The tunnel is its.
    pub(super) fn first(&self, config: &Config) -> Option<&Arc<OwnProxy>> {
        config.networks.first().and_then(|network| self.0.get(&network.name))
    }
}

/// One card's.
#[derive(Clone)]
pub(super) struct Card {
    pub(super) network: PartName,
    pub(super) mac: Mac,
    pub(super) guest: Guest,
    pub(super) port: Port,
    pub(super) proxy: Option<Arc<OwnProxy>>,
}

impl Card {
    /// All of them, in the definition's order.
    pub(super) fn all(
        vm: &VmName,
        definition: &VmDefinition,
        config: &Config,
        proxies: &Proxies,
    ) -> Result<Vec<Card>, PortError> {
        let card = |(index, card): (usize, &orchestrator_api::Card)| {
            let network = config.network(&card.network);
            let network = network.ok_or_else(|| PortError::NoNetwork(card.network.clone()))?;
            let mac = Mac(card.mac.bytes());
            let addresses = card.addresses.iter().copied();
            let guest =
                Guest { mac, addresses: addresses.filter(|ip| !is_link_local(ip)).collect() };
            Ok(Card {
                network: network.name.clone(),
                mac,
                port: Port::new(tag(vm, index)?, guest.clone(), &network.bridge),
                guest,
                proxy: proxies.0.get(&network.name).cloned(),
            })
        };
        definition.cards.iter().enumerate().map(card).collect()
    }

    /// Where its proxy stands; none where there is no proxy to ask.
    pub(super) async fn leg(&self) -> Result<Option<Mac>, PortError> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        let told = proxy.networks().await?;
        let leg = told.legs.into_iter().find(|leg| leg.network == self.network);
        Ok(Some(Mac(leg.ok_or_else(|| PortError::NoLeg(self.network.clone()))?.mac.0)))
    }
}

/// Each card's tables have a name of their own; the first card's is the VM's.
pub(crate) fn tag(vm: &VmName, card: usize) -> Result<VmTag, PortError> {
    Ok(match card {
        0 => vm.as_str().parse()?,
        card => format!("{vm}--{card}").parse()?,
    })
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Each proxy once, in the order of the cards.
pub(super) fn distinct(cards: &[Card]) -> Vec<&Arc<OwnProxy>> {
    let mut proxies: Vec<&Arc<OwnProxy>> = Vec::new();
    for proxy in cards.iter().filter_map(|card| card.proxy.as_ref()) {
        if !proxies.iter().any(|known| Arc::ptr_eq(known, proxy)) {
            proxies.push(proxy);
        }
    }
    proxies
}
