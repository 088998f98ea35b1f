//! `[[steered]]`, from written to checked: names that follow VMs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daemon::config::{Problems, Told};
use hickory_proto::rr::{LowerName, RecordType};
use placement::{SiteName, VmName};
use serde::Deserialize;
use toml::Spanned;

use super::check::{TTL_S, bounded, counted, domain};
use super::{LISTED_MAX, STEERED_MAX, SiteAddresses, SteeredName, ZoneConfig};

/// The only rule so far: where all VMs run.
const PLACE_ALL: &str = "all";
const TTL_S_DEFAULT: u32 = 300;
const TTL_MOVING_S_DEFAULT: u32 = 5;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSteered {
    name: Spanned<String>,
    place: Option<Spanned<String>>,
    vms: Spanned<Vec<Spanned<String>>>,
    initial_site: Spanned<String>,
    ttl_s: Option<Spanned<u32>>,
    ttl_moving_s: Option<Spanned<u32>>,
    #[serde(default)]
    at: Vec<WrittenAt>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAt {
    site: Spanned<String>,
    address: Spanned<Vec<Spanned<String>>>,
}

pub(super) fn check_all(
    written: &[WrittenSteered],
    zones: &[ZoneConfig],
    problems: &mut Problems<'_>,
) -> Result<Vec<SteeredName>, Told> {
    if written.len() > STEERED_MAX {
        let message = format!("more than {STEERED_MAX} names; leave some out");
        return Err(problems.whole("steered", message));
    }
    let mut names: Vec<SteeredName> = Vec::new();
    let mut told = None;
    for (number, steered) in written.iter().enumerate() {
        let mut check = Check { number, problems };
        match check.steered(steered, zones, &names) {
            Ok(steered) => names.push(steered),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(names), Err)
}

/// Checks one name; `number` is where it stands in the file.
struct Check<'p, 't> {
    number: usize,
    problems: &'p mut Problems<'t>,
}

impl Check<'_, '_> {
    fn steered(
        &mut self,
        written: &WrittenSteered,
        zones: &[ZoneConfig],
        earlier: &[SteeredName],
    ) -> Result<SteeredName, Told> {
        let name = self.name(&written.name, zones, earlier);
        let vms = self.vms(&written.vms);
        let rule = self.rule(written.place.as_ref());
        let initial: Result<SiteName, Told> =
            self.problems.parse(&self.field("initial_site"), &written.initial_site);
        let sites = self.sites(&written.at, &written.name);
        let ttls = self.ttls(written);
        rule?;
        let (name, negative_ttl_s) = name?;
        let (initial_site, sites, (ttl_s, ttl_moving_s)) = (initial?, sites?, ttls?);
        if !sites.contains_key(&initial_site) {
            let message = "has no [[steered.at]]; give the name's addresses there";
            let field = self.field("initial_site");
            return Err(self.problems.at(written.initial_site.span(), &field, message));
        }
        let vms = vms?;
        Ok(SteeredName { name, vms, initial_site, sites, ttl_s, ttl_moving_s, negative_ttl_s })
    }

    /// The name, and its zone's negative TTL.
    fn name(
        &mut self,
        written: &Spanned<String>,
        zones: &[ZoneConfig],
        earlier: &[SteeredName],
    ) -> Result<(LowerName, u32), Told> {
        let field = self.field("name");
        let name = LowerName::from(domain(&field, written, self.problems)?);
        let around = zones.iter().filter(|zone| zone.apex.zone_of(&name));
        let Some(zone) = around.max_by_key(|zone| zone.apex.num_labels()) else {
            let message = "is in no [[zone]] of this file; add the zone, or correct the name";
            return Err(self.problems.at(written.span(), &field, message));
        };
        let addresses = [RecordType::A, RecordType::AAAA, RecordType::CNAME];
        let message = if earlier.iter().any(|steered| steered.name == name) {
            "is steered already; write each name once"
        } else if name.is_wildcard() {
            "is a pattern; write one name"
        } else if zone.records.iter().any(|set| set.name == name && addresses.contains(&set.kind)) {
            "has addresses, or an alias, in its zone as well; leave one of them out"
        } else {
            return Ok((name, zone.negative_ttl_s));
        };
        Err(self.problems.at(written.span(), &field, message))
    }

    fn vms(&mut self, written: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<VmName>, Told> {
        let field = self.field("vms");
        counted(&field, written, self.problems)?;
        let mut vms: Vec<VmName> = Vec::new();
        for text in written.get_ref() {
            let vm = self.problems.parse(&field, text)?;
            if vms.contains(&vm) {
                return Err(self.problems.at(text.span(), &field, "is there twice; write it once"));
            }
            vms.push(vm);
        }
        Ok(vms)
    }

    fn rule(&mut self, written: Option<&Spanned<String>>) -> Result<(), Told> {
        let Some(written) = written else { return Ok(()) };
        let rule = written.get_ref().as_str();
        if rule == PLACE_ALL {
            return Ok(());
        }
        let rule: String = rule.chars().take(32).collect();
        let message =
            format!("rule '{rule}' is not offered by this version; write \"{PLACE_ALL}\"");
        Err(self.problems.at(written.span(), &self.field("place"), message))
    }

    fn sites(
        &mut self,
        written: &[WrittenAt],
        name: &Spanned<String>,
    ) -> Result<BTreeMap<SiteName, SiteAddresses>, Told> {
        let field = self.field("at");
        if written.is_empty() || written.len() > LISTED_MAX {
            let message = format!("has {} sites; write 1 to {LISTED_MAX}", written.len());
            return Err(self.problems.at(name.span(), &field, message));
        }
        let mut sites = BTreeMap::new();
        for at in written {
            let site: SiteName = self.problems.parse(&field, &at.site)?;
            let addresses = self.addresses(&at.address)?;
            if sites.insert(site, addresses).is_some() {
                let message = "is there twice; write all its addresses as one list";
                return Err(self.problems.at(at.site.span(), &field, message));
            }
        }
        Ok(sites)
    }

    fn addresses(
        &mut self,
        written: &Spanned<Vec<Spanned<String>>>,
    ) -> Result<SiteAddresses, Told> {
        let field = self.field("at.address");
        counted(&field, written, self.problems)?;
        let mut addresses = SiteAddresses::default();
        for text in written.get_ref() {
            let is_new = match text.get_ref().parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                    let message = "is no address of one host; write one that clients can reach";
                    return Err(self.problems.at(text.span(), &field, message));
                }
                Ok(IpAddr::V4(v4)) => push_new(&mut addresses.v4, v4),
                Ok(IpAddr::V6(v6)) => push_new(&mut addresses.v6, v6),
                Err(_) => {
                    let message = "is no address; write 192.0.2.80 or 2001:db8::80";
                    return Err(self.problems.at(text.span(), &field, message));
                }
            };
            if !is_new {
                return Err(self.problems.at(text.span(), &field, "is there twice; write it once"));
            }
        }
        Ok(addresses)
    }

    fn ttls(&mut self, written: &WrittenSteered) -> Result<(u32, u32), Told> {
        let (long, short) = (self.field("ttl_s"), self.field("ttl_moving_s"));
        let ttl_s = bounded(&long, written.ttl_s.as_ref(), &TTL_S, self.problems);
        let moving_s = bounded(&short, written.ttl_moving_s.as_ref(), &TTL_S, self.problems);
        let ttl_s = ttl_s?.unwrap_or(TTL_S_DEFAULT);
        let moving_s = moving_s?.unwrap_or(TTL_MOVING_S_DEFAULT.min(ttl_s));
        if moving_s <= ttl_s {
            return Ok((ttl_s, moving_s));
        }
        let span = written.ttl_moving_s.as_ref().map_or(0..0, Spanned::span);
        let message = format!("is {moving_s}, longer than ttl_s, {ttl_s}; write a shorter time");
        Err(self.problems.at(span, &short, message))
    }

    fn field(&self, field: &str) -> String {
        format!("steered.{}.{field}", self.number)
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T) -> bool {
    let is_new = !list.contains(&value);
    if is_new {
        list.push(value);
    }
    is_new
}
