//! The configuration of the service that drives moves, and the files of those who ask it.

use std::net::SocketAddr;

use placement::{PartName, SiteName};
use serde::Serialize;

use super::{Control, PAPERS, Papers, STATE, State, TextError};
use crate::init::description::{Description, Serve, Site};

#[derive(Serialize)]
struct Text<'d> {
    site: &'d SiteName,
    name: &'d PartName,
    control: Control,
    identity: Papers,
    state: State,
    sites: Vec<SiteText<'d>>,
}

#[derive(Serialize)]
struct SiteText<'d> {
    name: &'d SiteName,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    proxy: Vec<Called<'d>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agent: Vec<Called<'d>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    name_server: Vec<Called<'d>>,
}

/// A part that the service calls.
#[derive(Serialize)]
struct Called<'d> {
    name: &'d PartName,
    address: SocketAddr,
    /// Of an agent: the proxy whose leg stands on its networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<&'d PartName>,
}

#[derive(Serialize)]
struct Operator<'d> {
    server: Server<'d>,
    identity: Papers,
}

#[derive(Serialize)]
struct Server<'d> {
    address: SocketAddr,
    site: &'d SiteName,
    name: &'d PartName,
}

pub(super) fn text(description: &Description) -> Result<String, TextError> {
    let Serve { site, name, address, .. } = &description.serve;
    toml::to_string(&Text {
        site,
        name,
        control: Control { listen: *address },
        identity: PAPERS,
        // As its help has it: there is one on a machine.
        state: State { folder: format!("{STATE}/{name}") },
        sites: description.sites.iter().map(site_text).collect(),
    })
}

fn site_text(site: &Site) -> SiteText<'_> {
    let called = |(name, address, proxy)| Called { name, address, proxy };
    let proxies = site.proxies.iter().map(|proxy| (&proxy.name, proxy.control, None));
    let agents = site.hosts.iter().map(|host| (&host.name, host.address, Some(&host.proxy)));
    let servers = site.name_servers.iter().map(|server| (&server.name, server.control, None));
    SiteText {
        name: &site.name,
        proxy: proxies.map(called).collect(),
        agent: agents.map(called).collect(),
        name_server: servers.map(called).collect(),
    }
}

/// What an operator's commands need to know.
pub(super) fn operator(serve: &Serve) -> Result<String, TextError> {
    let Serve { site, name, address, .. } = serve;
    let server = Server { address: *address, site, name };
    toml::to_string(&Operator { server, identity: PAPERS })
}
