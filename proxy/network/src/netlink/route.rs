//! Routes, of any table.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::Netlink;
use super::address::SCOPE_LINK;
use super::message::{
    AF_INET, AF_INET6, Make, Message, address_of, family_of, number_of, value_of,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;
/// `struct rtmsg`.
const BODY_BYTES: usize = 12;
/// What the kernel takes for 0 in IPv6.
const METRIC_V6: u32 = 1024;

/// The table that a route is in unless told otherwise.
pub(crate) const MAIN_TABLE: u32 = 254;

/// A unicast route by one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) table: u32,
    pub(crate) to: IpAddr,
    pub(crate) bits: u8,
    pub(crate) link: u32,
    pub(crate) via: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) metric: u32,
    /// Who set it.
    pub(crate) protocol: u8,
}

impl Route {
    /// Ours, to one address.
    pub(crate) fn to_host(table: u32, to: IpAddr, link: u32) -> Route {
        let bits = if to.is_ipv4() { 32 } else { 128 };
        Route::to_subnet(table, to, bits, link)
    }

    /// Ours, to a subnet on the link.
    pub(crate) fn to_subnet(table: u32, to: IpAddr, bits: u8, link: u32) -> Route {
        let metric = if to.is_ipv4() { 0 } else { METRIC_V6 };
        let protocol = super::PROTOCOL;
        Route { table, to, bits, link, via: None, source: None, metric, protocol }
    }

    /// Ours, to everything of the address's family.
    pub(crate) fn to_all_like(table: u32, like: IpAddr, link: u32) -> Route {
        let all = match like {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Route::to_subnet(table, all, 0, link)
    }

    pub(crate) fn via(self, via: IpAddr) -> Route {
        Route { via: Some(via), ..self }
    }

    pub(crate) fn from(self, source: Option<IpAddr>) -> Route {
        Route { source, ..self }
    }
}

impl Netlink {
    /// All unicast routes of one path.
    pub(crate) fn routes(&self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut body = [0; BODY_BYTES];
            body[0] = family;
            routes.extend(self.list(|| Message::list(RTM_GETROUTE).body(&body), read)?);
        }
        Ok(routes)
    }

    pub(crate) fn add_route(&self, route: &Route) -> io::Result<()> {
        self.ask(written(Message::make(RTM_NEWROUTE, Make::New), route))
    }

    /// It may be gone already.
    pub(crate) fn delete_route(&self, route: &Route) -> io::Result<()> {
        self.ask_gone(written(Message::change(RTM_DELROUTE), route))
    }
}

fn written(message: Message, route: &Route) -> Message {
    let scope = if route.to.is_ipv4() && route.via.is_none() { SCOPE_LINK } else { 0 };
    // The table's number in an attribute: it may be larger than a byte.
    let mut body =
        vec![family_of(route.to), route.bits, 0, 0, 0, route.protocol, scope, RTN_UNICAST];
    // A gateway outside the leg's subnets is still on the leg.
    let flags = if route.via.is_some() { RTNH_F_ONLINK } else { 0 };
    body.extend(flags.to_ne_bytes());
    let mut message = message.body(&body).with_number(RTA_TABLE, route.table);
    if route.bits > 0 {
        message = message.with_address(RTA_DST, route.to);
    }
    message = message.with_number(RTA_OIF, route.link);
    if route.metric > 0 {
        message = message.with_number(RTA_PRIORITY, route.metric);
    }
    if let Some(via) = route.via {
        message = message.with_address(RTA_GATEWAY, via);
    }
    if let Some(source) = route.source {
        message = message.with_address(RTA_PREFSRC, source);
    }
    message
}

fn read(bytes: &[u8]) -> Option<Route> {
    let [family, bits, _, _, table, protocol, _, kind] = *bytes.first_chunk::<8>()?;
    let flags = bytes.get(8..12)?.try_into().ok().map(u32::from_ne_bytes)?;
    if kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let attributes = bytes.get(BODY_BYTES..)?;
    let value = |kind| value_of(attributes, kind);
    let any = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    Some(Route {
        table: value(RTA_TABLE).and_then(number_of).unwrap_or_else(|| u32::from(table)),
        to: value(RTA_DST).map_or(Some(any), address_of)?,
        bits,
        link: value(RTA_OIF).and_then(number_of)?,
        via: value(RTA_GATEWAY).and_then(address_of),
        source: value(RTA_PREFSRC).and_then(address_of),
        metric: value(RTA_PRIORITY).and_then(number_of).unwrap_or(0),
        protocol,
    })
}
