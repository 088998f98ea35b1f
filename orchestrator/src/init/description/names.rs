//! `[[zone]]` and `[[steered]]`, from written to checked: what the name servers of all sites serve.

use std::net::{IpAddr, SocketAddr};

use daemon::config::{Problems, Told};
use placement::{PartName, SiteName, VmName};

use super::written::{Text, WrittenSteered, WrittenZone};
use super::{NameServer, Record, Service, Site, Steered, Vm, Zone, each, once, unknown};

/// Longest name, and longest part of one between dots.
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A whole name, without the dot at its end.
pub(super) fn domain(
    field: &str,
    written: &Text,
    problems: &mut Problems<'_>,
) -> Result<String, Told> {
    let name = written.get_ref().trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_fit)
    };
    if name.len() <= DOMAIN_BYTES_MAX && name.split('.').all(is_label) {
        return Ok(name);
    }
    let message = "is no whole name; write one, as in www.example.net";
    Err(problems.at(written.span(), field, message))
}

pub(super) fn check_zones(
    written: &[WrittenZone],
    sites: &[Site],
    problems: &mut Problems<'_>,
) -> Result<Vec<Zone>, Told> {
    let servers: Vec<&NameServer> = sites.iter().flat_map(|site| &site.name_servers).collect();
    if written.is_empty() && !servers.is_empty() {
        let message = "is missing, and there are name servers; add a zone, or leave them out";
        return Err(problems.whole("zone", message));
    }
    let mut zones = each(written, "zone", problems, |zone, earlier: &[Zone], problems| {
        let name = domain("zone.name", &zone.name, problems)?;
        once(earlier.iter().any(|known| known.name == name), "zone.name", &zone.name, problems)?;
        if servers.is_empty() {
            let message = "has nobody to serve it; add [[site.name_server]] at each site";
            return Err(problems.at(zone.name.span(), "zone.name", message));
        }
        if !zone.contact.get_ref().contains('@') {
            let message = "is no mail address; write one, as in 'hostmaster@example.net'";
            return Err(problems.at(zone.contact.span(), "zone.contact", message));
        }
        let records = each(&zone.record, "zone.record", problems, |record, _, problems| {
            let name = domain("zone.record.name", &record.name, problems)?;
            let (kind, data) = (record.kind.clone(), record.data.clone());
            Ok(Record { name, kind, data, ttl_s: record.ttl_s })
        })?;
        let (ttl_s, negative_ttl_s) = (zone.ttl_s, zone.negative_ttl_s);
        let contact = zone.contact.get_ref().clone();
        Ok(Zone { name, contact, ttl_s, negative_ttl_s, records })
    })?;
    for server in servers {
        if let Some(zone) = innermost(&mut zones, &server.host) {
            zone.records.extend(addresses_of(server));
        }
    }
    Ok(zones)
}

/// Questions go to the innermost zone around a name.
fn innermost<'z>(zones: &'z mut [Zone], name: &str) -> Option<&'z mut Zone> {
    let around = zones.iter_mut().filter(|zone| is_in(name, &zone.name));
    around.max_by_key(|zone| zone.name.len())
}

fn is_in(name: &str, zone: &str) -> bool {
    let above = name.strip_suffix(zone);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

/// Its addresses, as its zone has them.
fn addresses_of(server: &NameServer) -> impl Iterator<Item = Record> {
    [("A", true), ("AAAA", false)].into_iter().filter_map(|(kind, is_v4)| {
        let ips = server.dns.iter().map(SocketAddr::ip).filter(|ip| ip.is_ipv4() == is_v4);
        let data: Vec<String> = ips.map(|ip| ip.to_string()).collect();
        let name = server.host.clone();
        (!data.is_empty()).then(|| Record { name, kind: kind.to_owned(), data, ttl_s: None })
    })
}

pub(super) fn check_steered(
    written: &[WrittenSteered],
    zones: &[Zone],
    services: &[Service],
    vms: &[Vm],
    problems: &mut Problems<'_>,
) -> Result<Vec<Steered>, Told> {
    each(written, "steered", problems, |steered, earlier: &[Steered], problems| {
        let name = domain("steered.name", &steered.name, problems)?;
        let is_known = earlier.iter().any(|known| known.name == name);
        once(is_known, "steered.name", &steered.name, problems)?;
        if !zones.iter().any(|zone| is_in(&name, &zone.name)) {
            let message =
                "is in no [[zone]] of this description; add the zone, or correct the name";
            return Err(problems.at(steered.name.span(), "steered.name", message));
        }
        let listed = steered.services.get_ref();
        let follows = each(listed, "steered.services", problems, |text, _, problems| {
            let name: PartName = problems.parse("steered.services", text)?;
            let found = services.iter().find(|service| service.name == name);
            found.ok_or_else(|| unknown("service", "steered.services", text, problems))
        })?;
        let mut followed: Vec<VmName> =
            follows.iter().flat_map(|service| service.vms.iter().cloned()).collect();
        followed.sort();
        followed.dedup();
        let at = places(&follows);
        let mut wrong = |message: String| {
            Err(problems.at(steered.services.span(), "steered.services", message))
        };
        let Some(initial_site) = only_site(&followed, vms) else {
            let count = followed.len();
            return wrong(format!(
                "have {count} VMs, not all of one site: name services whose VMs are together"
            ));
        };
        if !at.iter().any(|(site, _)| *site == initial_site) {
            return wrong(format!("have no VIP at site {initial_site}, where the VMs run first"));
        }
        let (ttl_s, ttl_moving_s) = (steered.ttl_s, steered.ttl_moving_s);
        Ok(Steered { name, vms: followed, initial_site, ttl_s, ttl_moving_s, at })
    })
}

/// The site where all of these run first.
fn only_site(followed: &[VmName], vms: &[Vm]) -> Option<SiteName> {
    let mut sites: Vec<&SiteName> =
        vms.iter().filter(|vm| followed.contains(&vm.definition.name)).map(|vm| &vm.site).collect();
    sites.dedup();
    match sites[..] {
        [site] => Some(site.clone()),
        _ => None,
    }
}

/// The VIPs of these services, by site.
fn places(follows: &[&Service]) -> Vec<(SiteName, Vec<IpAddr>)> {
    let mut places: Vec<(SiteName, Vec<IpAddr>)> = Vec::new();
    for at in follows.iter().flat_map(|service| &service.at) {
        let known = places.iter().position(|(site, _)| *site == at.site);
        let index = known.unwrap_or_else(|| {
            places.push((at.site.clone(), Vec::new()));
            places.len() - 1
        });
        for listen in &at.listen {
            let ips = &mut places[index].1;
            if !ips.contains(&listen.ip()) {
                ips.push(listen.ip());
            }
        }
    }
    places
}
