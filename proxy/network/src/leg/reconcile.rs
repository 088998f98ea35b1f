//! From what stands in the kernel to what should, with as few changes as there are differences.
//!
//! What is added comes first: between two of them a packet finds the old way or the new one, never
//! none.

use super::wanted::Wanted;
use crate::NetworkError;
use crate::netlink::{Neighbour, Netlink, PROTOCOL, Route, Rule, Standing};

/// Makes it so, in the namespace of `netlink`.
pub(super) fn to(netlink: &Netlink, wanted: &Wanted) -> Result<(), NetworkError> {
    neighbours_added(netlink, wanted)?;
    routes(netlink, wanted)?;
    rules(netlink, wanted)?;
    neighbours_left(netlink, wanted)
}

/// What stands of ours, on a line each.
pub(super) fn standing(netlink: &Netlink) -> Result<Vec<String>, NetworkError> {
    let failed = |what| NetworkError::kernel(format!("list {what}"));
    let routes = our_routes(netlink).map_err(failed("routes"))?;
    let rules = netlink.our_rules().map_err(failed("rules"))?;
    let neighbours = netlink.our_neighbours().map_err(failed("neighbours"))?;
    let mut lines: Vec<String> = routes.iter().map(route_text).collect();
    lines.extend(rules.iter().map(rule_text));
    lines.extend(neighbours.iter().map(neighbour_text));
    Ok(lines)
}

fn neighbours_added(netlink: &Netlink, wanted: &Wanted) -> Result<(), NetworkError> {
    let present = netlink.our_neighbours().map_err(NetworkError::kernel("list neighbours"))?;
    for neighbour in wanted.neighbours.iter().filter(|wanted| !present.contains(wanted)) {
        let failed = NetworkError::kernel(format!("set {}", neighbour_text(neighbour)));
        netlink.add_neighbour(neighbour).map_err(failed)?;
    }
    Ok(())
}

fn neighbours_left(netlink: &Netlink, wanted: &Wanted) -> Result<(), NetworkError> {
    let present = netlink.our_neighbours().map_err(NetworkError::kernel("list neighbours"))?;
    let is_wanted = |one: &Neighbour| {
        let is_answer = |standing| matches!(standing, Standing::Proxied { .. });
        wanted.neighbours.iter().any(|wanted| {
            wanted.ip == one.ip
                && wanted.link == one.link
                && is_answer(wanted.standing) == is_answer(one.standing)
        })
    };
    for neighbour in present.iter().filter(|present| !is_wanted(present)) {
        let failed = NetworkError::kernel(format!("leave {}", neighbour_text(neighbour)));
        netlink.leave_neighbour(neighbour).map_err(failed)?;
    }
    Ok(())
}

fn routes(netlink: &Netlink, wanted: &Wanted) -> Result<(), NetworkError> {
    let present = our_routes(netlink).map_err(NetworkError::kernel("list routes"))?;
    let delete = |route: &Route| {
        let failed = NetworkError::kernel(format!("delete {}", route_text(route)));
        netlink.delete_route(route).map_err(failed)
    };
    let (stays, mut goes): (Vec<&Route>, Vec<&Route>) =
        present.iter().partition(|present| wanted.routes.contains(present));
    for route in wanted.routes.iter().filter(|wanted| !stays.contains(wanted)) {
        // Where one to the same place stands, it has to make room.
        for other in goes.iter().filter(|other| is_same_place(other, route)) {
            delete(other)?;
        }
        let failed = NetworkError::kernel(format!("set {}", route_text(route)));
        netlink.add_route(route).map_err(failed)?;
    }
    // The worse of two to one place first: a packet must not find it when the better one has gone.
    goes.sort_by_key(|route| std::cmp::Reverse(route.metric));
    let is_replaced = |gone: &Route| wanted.routes.iter().any(|route| is_same_place(gone, route));
    goes.into_iter().filter(|gone| !is_replaced(gone)).try_for_each(delete)
}

fn rules(netlink: &Netlink, wanted: &Wanted) -> Result<(), NetworkError> {
    let present = netlink.our_rules().map_err(NetworkError::kernel("list rules"))?;
    for rule in wanted.rules.iter().filter(|wanted| !present.contains(wanted)) {
        let failed = NetworkError::kernel(format!("set {}", rule_text(rule)));
        netlink.add_rule(rule).map_err(failed)?;
    }
    for rule in present.iter().filter(|present| !wanted.rules.contains(present)) {
        let failed = NetworkError::kernel(format!("delete {}", rule_text(rule)));
        netlink.delete_rule(rule).map_err(failed)?;
    }
    Ok(())
}

fn our_routes(netlink: &Netlink) -> std::io::Result<Vec<Route>> {
    let mut routes = netlink.routes()?;
    routes.retain(|route| route.protocol == PROTOCOL);
    Ok(routes)
}

fn is_same_place(one: &Route, other: &Route) -> bool {
    (one.table, one.to, one.bits, one.metric) == (other.table, other.to, other.bits, other.metric)
}

fn route_text(route: &Route) -> String {
    let Route { to, bits, table, link, .. } = route;
    let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
    format!("route to {to}/{bits}{via} by interface {link} in table {table}")
}

fn rule_text(rule: &Rule) -> String {
    let Rule { priority, input, table, .. } = rule;
    let mark = rule.mark.map(|mark| format!(" with mark {mark}")).unwrap_or_default();
    let source = rule.source.map(|source| format!(" from {source}")).unwrap_or_default();
    let family = if rule.is_v4 { "IPv4" } else { "IPv6" };
    format!("rule {priority} for {family} in by {input}{source}{mark}: table {table}")
}

fn neighbour_text(neighbour: &Neighbour) -> String {
    let Neighbour { ip, link, standing } = neighbour;
    match standing {
        Standing::Has(mac) => format!("neighbour {ip} with MAC {mac} on interface {link}"),
        Standing::Proxied { is_router: false } => format!("answers for {ip} on interface {link}"),
        Standing::Proxied { is_router: true } => {
            format!("answers for router {ip} on interface {link}")
        }
    }
}
