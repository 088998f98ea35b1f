//! A name server's configuration: all zones and steered names, the same at every name server.

use std::net::{IpAddr, SocketAddr};

use placement::{PartName, Role, SiteName, VmName};
use serde::Serialize;

use super::{Control, Papers, State, TextError, basics};
use crate::init::description::{Description, NameServer, Record, Site};

#[derive(Serialize)]
struct Text<'d> {
    site: &'d SiteName,
    name: &'d PartName,
    control: Control,
    identity: Papers,
    state: State,
    dns: Dns<'d>,
    zone: Vec<Zone<'d>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steered: Vec<Steered<'d>>,
}

#[derive(Serialize)]
struct Dns<'d> {
    listen: &'d [SocketAddr],
}

#[derive(Serialize)]
struct Zone<'d> {
    name: &'d str,
    ns: Vec<&'d str>,
    contact: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_ttl_s: Option<u32>,
    record: &'d [Record],
}

#[derive(Serialize)]
struct Steered<'d> {
    name: &'d str,
    vms: &'d [VmName],
    initial_site: &'d SiteName,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_moving_s: Option<u32>,
    at: Vec<At<'d>>,
}

#[derive(Serialize)]
struct At<'d> {
    site: &'d SiteName,
    address: &'d [IpAddr],
}

pub(super) fn text(
    description: &Description,
    site: &Site,
    server: &NameServer,
) -> Result<String, TextError> {
    let (control, identity, state) =
        basics(server.control, &site.identity(Role::Gslb, &server.name));
    let ns: Vec<&str> = description.name_servers().map(|server| server.host.as_str()).collect();
    let zone = description.zones.iter().map(|zone| Zone {
        name: &zone.name,
        ns: ns.clone(),
        contact: &zone.contact,
        ttl_s: zone.ttl_s,
        negative_ttl_s: zone.negative_ttl_s,
        record: &zone.records,
    });
    let steered = description.steered.iter().map(|steered| Steered {
        name: &steered.name,
        vms: &steered.vms,
        initial_site: &steered.initial_site,
        ttl_s: steered.ttl_s,
        ttl_moving_s: steered.ttl_moving_s,
        at: steered.at.iter().map(|(site, address)| At { site, address }).collect(),
    });
    toml::to_string(&Text {
        site: &site.name,
        name: &server.name,
        control,
        identity,
        state,
        dns: Dns { listen: &server.dns },
        zone: zone.collect(),
        steered: steered.collect(),
    })
}
