//! A proxy's configuration: its services, its leg, and its end of the tunnel to all other sites.

use std::net::{IpAddr, SocketAddr};

use placement::{Identity, PartName, Role, SiteName};
use serde::Serialize;

use super::{Control, Papers, State, TextError, basics, dials};
use crate::init::description::{Backend, Description, Protocol, Proxy, Service, Site};

/// What a move carries through the tunnel, each ending on a socket in the agent's folder.
const CHANNELS: [&str; 2] = ["disk", "memory"];

#[derive(Serialize)]
struct Text<'d> {
    site: &'d SiteName,
    control: Control,
    identity: Papers,
    state: State,
    network: [Network<'d>; 1],
    tunnel: Tunnel<'d>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service: Vec<ServiceText<'d>>,
}

#[derive(Serialize)]
struct Network<'d> {
    name: &'d PartName,
    leg: &'d str,
    gateway: &'d [IpAddr],
}

#[derive(Serialize)]
struct Tunnel<'d> {
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    entrances: &'d str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peer: Vec<Peer>,
    permit: Vec<Permit>,
}

#[derive(Serialize)]
struct Peer {
    identity: Identity,
    #[serde(skip_serializing_if = "Option::is_none")]
    dial: Option<SocketAddr>,
}

#[derive(Serialize)]
struct Permit {
    channel: &'static str,
    target: String,
}

#[derive(Serialize)]
struct ServiceText<'d> {
    name: &'d PartName,
    protocol: Protocol,
    listen: &'d [SocketAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    backend: &'d [Backend],
}

#[derive(Serialize)]
struct Health {
    port: u16,
}

pub(super) fn text(
    description: &Description,
    site: &Site,
    proxy: &Proxy,
) -> Result<String, TextError> {
    let (control, identity, state) =
        basics(proxy.control, &site.identity(Role::Proxy, &proxy.name));
    let network = Network { name: &proxy.network, leg: &proxy.leg, gateway: &proxy.gateways };
    let permit = |channel: &'static str| Permit {
        channel,
        target: format!("unix:{}/{{vm}}.{{epoch}}.{channel}", proxy.sockets),
    };
    let tunnel = Tunnel {
        listen: proxy.tunnel.map(|(_, listen)| listen),
        entrances: &proxy.sockets,
        peer: peers(description, site, proxy),
        permit: CHANNELS.map(permit).into(),
    };
    let services = description.services.iter();
    let service = services.flat_map(|service| served(service, site, proxy)).collect();
    let site = &site.name;
    toml::to_string(&Text { site, control, identity, state, network: [network], tunnel, service })
}

/// The proxies of all other sites.
fn peers(description: &Description, site: &Site, proxy: &Proxy) -> Vec<Peer> {
    let others = description.sites.iter().filter(|other| other.name != site.name);
    let all = others.flat_map(|other| other.proxies.iter().map(move |peer| (other, peer)));
    let peer = |(other, peer): (&Site, &Proxy)| Peer {
        identity: other.identity(Role::Proxy, &peer.name),
        dial: dials((&site.name, proxy), (&other.name, peer)),
    };
    all.map(peer).collect()
}

fn served<'d>(
    service: &'d Service,
    site: &Site,
    proxy: &Proxy,
) -> impl Iterator<Item = ServiceText<'d>> {
    let here = service.at.iter().filter(|at| at.site == site.name && at.proxy == proxy.name);
    here.map(|at| ServiceText {
        name: &service.name,
        protocol: service.protocol,
        listen: &at.listen,
        idle_timeout_ms: service.idle_timeout_ms,
        health: service.health_port.map(|port| Health { port }),
        backend: &at.backends,
    })
}
