//! The name server's configuration: `written` as in the file, [`Config`] as it can be run on.
//!
//! ```toml
//! site = "a"
//! name = "ns1"
//!
//! [dns]                          # beside [control], [identity], [state] and [log] of every daemon
//! listen = ["192.0.2.10:53", "[2001:db8::10]:53"]
//!
//! [[zone]]
//! name = "example.net"
//! ns = ["ns1.example.net", "ns2.example.net"]
//! contact = "hostmaster@example.net"
//! ttl_s = 3600
//! negative_ttl_s = 5
//!
//! [[zone.record]]
//! name = "ns1.example.net"
//! type = "A"                     # A, AAAA, CNAME, MX or TXT
//! data = ["192.0.2.10"]
//!
//! [[steered]]
//! name = "shop.example.net"
//! vms = ["web-1"]                # whose place decides
//! place = "all"                  # where all of them run
//! initial_site = "a"
//! ttl_s = 300
//! ttl_moving_s = 5
//!
//! [[steered.at]]
//! site = "a"
//! address = ["192.0.2.80", "2001:db8::80"]
//! ```
//!
//! Names are whole names; a dot at their end is allowed and means nothing.

mod check;
mod names;
mod zones;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use daemon::config::{
    self, Basics, ConfigError, Problems, Told, WrittenControl, WrittenIdentity, WrittenLog,
    WrittenState,
};
use daemon::loaded::Configuration;
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use placement::{PartName, Role, SiteName, VmName};
use serde::Deserialize;
use toml::Spanned;

pub(crate) use self::check::plain;
use self::check::{WrittenDns, check_dns};
use self::names::WrittenSteered;
use self::zones::WrittenZone;

/// Most zones.
pub const ZONES_MAX: usize = 256;
/// Most sets of records in one zone, beside those of its apex.
pub const RECORDS_MAX: usize = 4_096;
/// Most names that follow VMs.
pub const STEERED_MAX: usize = 1_024;
/// Most of anything that is listed for one thing: addresses, name servers, VMs, sites.
pub const LISTED_MAX: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site: Spanned<String>,
    name: Spanned<String>,
    control: WrittenControl,
    identity: WrittenIdentity,
    state: WrittenState,
    #[serde(default)]
    log: WrittenLog,
    dns: WrittenDns,
    #[serde(default)]
    zone: Vec<WrittenZone>,
    #[serde(default)]
    steered: Vec<WrittenSteered>,
}

/// What a name server is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What every daemon is told.
    pub basics: Basics,
    /// Which name server of its site it is.
    pub name: PartName,
    /// Where questions arrive, and how many at a time.
    pub dns: DnsConfig,
    /// What it is an authority for; at least one.
    pub zones: Vec<ZoneConfig>,
    /// The names in those zones that follow VMs.
    pub steered: Vec<SteeredName>,
}

/// Where questions arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Over UDP and TCP alike.
    pub listen: Vec<SocketAddr>,
    /// Most TCP connections at a time.
    pub tcp_connections_max: usize,
}

/// A zone that this server is an authority for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// Its topmost name.
    pub apex: LowerName,
    /// Its name servers; the first is the one that the SOA names.
    pub name_servers: Vec<Name>,
    /// Who is responsible, as the SOA writes it.
    pub contact: Name,
    /// How long answers live, unless a record says otherwise.
    pub ttl_s: u32,
    /// How long it is believed that something does not exist.
    pub negative_ttl_s: u32,
    /// What is in it, apart from SOA, NS of the apex and steered names.
    pub records: Vec<RecordSet>,
}

/// All records of one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// Whose.
    pub name: LowerName,
    /// Of which type.
    pub kind: RecordType,
    /// How long they live.
    pub ttl_s: u32,
    /// At least one.
    pub data: Vec<RData>,
}

/// A name that is answered with the site where its VMs run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeredName {
    /// The name.
    pub name: LowerName,
    /// The VMs that all must run at a site for the name to be there.
    pub vms: Vec<VmName>,
    /// Where it is, and where its VMs are, until something else is said.
    pub initial_site: SiteName,
    /// Where it can be.
    pub sites: BTreeMap<SiteName, SiteAddresses>,
    /// How long answers live.
    pub ttl_s: u32,
    /// How long they live while a move is prepared.
    pub ttl_moving_s: u32,
    /// How long its zone lets it be believed that there is no address of a family.
    pub negative_ttl_s: u32,
}

/// What clients reach at one site; at least one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteAddresses {
    /// For A.
    pub v4: Vec<Ipv4Addr>,
    /// For AAAA.
    pub v6: Vec<Ipv6Addr>,
}

impl Configuration for Config {
    const ROLE: Role = Role::Gslb;

    fn read(path: &Path) -> Result<Config, ConfigError> {
        config::read(path, check)
    }

    fn basics(&self) -> &Basics {
        &self.basics
    }

    fn name(&self) -> Option<&PartName> {
        Some(&self.name)
    }
}

fn check(written: Written, problems: &mut Problems<'_>) -> Result<Config, Told> {
    let Written { site, name, control, identity, state, log, dns, zone, steered } = written;
    let basics = Basics::check(&site, &control, &identity, &state, &log, problems);
    let name = problems.parse("name", &name);
    let dns = check_dns(&dns, problems);
    let zones = zones::check_all(&zone, problems);
    // Names are checked against zones: without these, each would be called a stranger.
    let (zones, steered) = match zones {
        Ok(zones) => {
            let steered = names::check_all(&steered, &zones, problems)?;
            zones::nothing_is_hidden(&zone, &zones, problems)?;
            zones::name_servers_have_addresses(&zone, &zones, &steered, problems)?;
            (zones, steered)
        }
        Err(told) => return Err(told),
    };
    Ok(Config { basics: basics?, name: name?, dns: dns?, zones, steered })
}

#[cfg(test)]
pub(crate) mod tests;
