//! `[[zone]]` and `[[zone.record]]`, from written to checked.

use std::collections::BTreeSet;

use daemon::config::{Problems, Told};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use serde::Deserialize;
use toml::Spanned;

use super::check::{TTL_S, bounded, counted, domain, plain, whole};
use super::{RECORDS_MAX, RecordSet, SteeredName, ZONES_MAX, ZoneConfig};

const TTL_S_DEFAULT: u32 = 3_600;
const NEGATIVE_TTL_S_DEFAULT: u32 = 5;
/// Longest text in one piece of a TXT record.
const TEXT_BYTES_MAX: usize = 255;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenZone {
    name: Spanned<String>,
    ns: Spanned<Vec<Spanned<String>>>,
    contact: Spanned<String>,
    ttl_s: Option<Spanned<u32>>,
    negative_ttl_s: Option<Spanned<u32>>,
    #[serde(default)]
    record: Vec<WrittenRecord>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRecord {
    name: Spanned<String>,
    #[serde(rename = "type")]
    kind: Spanned<String>,
    data: Spanned<Vec<Spanned<String>>>,
    ttl_s: Option<Spanned<u32>>,
}

pub(super) fn check_all(
    written: &[WrittenZone],
    problems: &mut Problems<'_>,
) -> Result<Vec<ZoneConfig>, Told> {
    if written.is_empty() || written.len() > ZONES_MAX {
        let message = format!("there are {} zones; write 1 to {ZONES_MAX}", written.len());
        return Err(problems.whole("zone", message));
    }
    let mut zones: Vec<ZoneConfig> = Vec::new();
    let mut told = None;
    for (number, zone) in written.iter().enumerate() {
        match check_zone(number, zone, &zones, problems) {
            Ok(zone) => zones.push(zone),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(zones), Err)
}

fn check_zone(
    number: usize,
    written: &WrittenZone,
    earlier: &[ZoneConfig],
    problems: &mut Problems<'_>,
) -> Result<ZoneConfig, Told> {
    let field = |name| format!("zone.{number}.{name}");
    let apex = LowerName::from(domain(&field("name"), &written.name, problems)?);
    if earlier.iter().any(|zone| zone.apex == apex) {
        let message = "is an earlier zone's name; write each zone once";
        return Err(problems.at(written.name.span(), &field("name"), message));
    }
    let name_servers = counted(&field("ns"), &written.ns, problems).and_then(|()| {
        let names = written.ns.get_ref().iter();
        names.map(|name| domain(&field("ns"), name, problems)).collect::<Result<Vec<_>, _>>()
    });
    let contact = mailbox(written.contact.get_ref()).ok_or_else(|| {
        let message = "is no mail address; write one, as in 'hostmaster@example.net'";
        problems.at(written.contact.span(), &field("contact"), message)
    });
    let ttl_s = bounded(&field("ttl_s"), written.ttl_s.as_ref(), &TTL_S, problems);
    let ttl_s = ttl_s.map(|ttl_s| ttl_s.unwrap_or(TTL_S_DEFAULT));
    let negative = written.negative_ttl_s.as_ref();
    let negative_ttl_s = bounded(&field("negative_ttl_s"), negative, &TTL_S, problems);
    let records = check_records(number, written, &apex, ttl_s.unwrap_or(0), problems);
    Ok(ZoneConfig {
        apex,
        name_servers: name_servers?,
        contact: contact?,
        ttl_s: ttl_s?,
        negative_ttl_s: negative_ttl_s?.unwrap_or(NEGATIVE_TTL_S_DEFAULT),
        records: records?,
    })
}

/// A mail address as a name: what stands before the @ is one label.
fn mailbox(address: &str) -> Option<Name> {
    let (local, host) = address.split_once('@')?;
    let host = whole(host)?;
    host.prepend_label(local.as_bytes()).ok().filter(|_| !local.is_empty() && local.is_ascii())
}

fn check_records(
    zone: usize,
    written: &WrittenZone,
    apex: &LowerName,
    ttl_s: u32,
    problems: &mut Problems<'_>,
) -> Result<Vec<RecordSet>, Told> {
    if written.record.len() > RECORDS_MAX {
        let message = format!("has more than {RECORDS_MAX} records; leave some out");
        return Err(problems.at(written.name.span(), &format!("zone.{zone}.record"), message));
    }
    let mut taken = Taken::default();
    let mut records = Vec::new();
    let mut told = None;
    for (number, record) in written.record.iter().enumerate() {
        let field = format!("zone.{zone}.record.{number}");
        let checked = check_record(&field, record, apex, ttl_s, problems);
        match checked.and_then(|set| taken.by(set, &field, record, problems)) {
            Ok(set) => records.push(set),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(records), Err)
}

fn check_record(
    field: &str,
    written: &WrittenRecord,
    apex: &LowerName,
    zone_ttl_s: u32,
    problems: &mut Problems<'_>,
) -> Result<RecordSet, Told> {
    let name_field = format!("{field}.name");
    let name = LowerName::from(domain(&name_field, &written.name, problems)?);
    if !apex.zone_of(&name) {
        let message = format!("is not in zone '{}'; write the whole name", plain(apex));
        return Err(problems.at(written.name.span(), &name_field, message));
    }
    let ttl_s = bounded(&format!("{field}.ttl_s"), written.ttl_s.as_ref(), &TTL_S, problems);
    let (kind, read): (RecordType, Read) = match written.kind.get_ref().as_str() {
        "A" => (RecordType::A, |text| text.parse().ok().map(|ip| RData::A(A(ip)))),
        "AAAA" => (RecordType::AAAA, |text| text.parse().ok().map(|ip| RData::AAAA(AAAA(ip)))),
        "CNAME" => (RecordType::CNAME, |text| whole(text).map(|name| RData::CNAME(CNAME(name)))),
        "MX" => (RecordType::MX, mail_exchange),
        "TXT" => (RecordType::TXT, text_record),
        _ => {
            let message = "is no type that is served; write A, AAAA, CNAME, MX or TXT";
            return Err(problems.at(written.kind.span(), &format!("{field}.type"), message));
        }
    };
    let data_field = format!("{field}.data");
    counted(&data_field, &written.data, problems)?;
    let mut data: Vec<RData> = Vec::new();
    for text in written.data.get_ref() {
        match read(text.get_ref()) {
            Some(value) if !data.contains(&value) => data.push(value),
            Some(_) => return Err(problems.at(text.span(), &data_field, "is there twice")),
            None => {
                let message = format!("is no data of type {kind}; write {}", example(kind));
                return Err(problems.at(text.span(), &data_field, message));
            }
        }
    }
    if kind == RecordType::CNAME && (data.len() > 1 || name == *apex) {
        let message = "an alias has one target, and the zone's own name cannot be one";
        return Err(problems.at(written.data.span(), &data_field, message));
    }
    Ok(RecordSet { name, kind, ttl_s: ttl_s?.unwrap_or(zone_ttl_s), data })
}

type Read = fn(&str) -> Option<RData>;

fn mail_exchange(text: &str) -> Option<RData> {
    let (preference, exchange) = text.split_once(' ')?;
    Some(RData::MX(MX::new(preference.parse().ok()?, whole(exchange)?)))
}

fn text_record(text: &str) -> Option<RData> {
    (text.len() <= TEXT_BYTES_MAX).then(|| RData::TXT(TXT::new(vec![text.to_owned()])))
}

fn example(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "an IPv4 address",
        RecordType::AAAA => "an IPv6 address",
        RecordType::MX => "a preference and a name, as in '10 mail.example.net'",
        RecordType::TXT => "at most 255 bytes",
        _ => "a whole name",
    }
}

/// What earlier records of the zone have.
#[derive(Default)]
struct Taken {
    sets: BTreeSet<(LowerName, String)>,
    names: BTreeSet<LowerName>,
    aliases: BTreeSet<LowerName>,
}

impl Taken {
    fn by(
        &mut self,
        set: RecordSet,
        field: &str,
        written: &WrittenRecord,
        problems: &mut Problems<'_>,
    ) -> Result<RecordSet, Told> {
        let is_alias = set.kind == RecordType::CNAME;
        let has_company = if is_alias { &self.names } else { &self.aliases };
        let message = if has_company.contains(&set.name) {
            "is an alias and has other records; an alias has none beside itself"
        } else if !self.sets.insert((set.name.clone(), set.kind.to_string())) {
            "has records of this type already; write them as one list"
        } else {
            self.names.insert(set.name.clone());
            if is_alias {
                self.aliases.insert(set.name.clone());
            }
            return Ok(set);
        };
        Err(problems.at(written.name.span(), &format!("{field}.name"), message))
    }
}

/// Questions go to the innermost zone: what an outer one says of names in it would never be said.
pub(super) fn nothing_is_hidden(
    written: &[WrittenZone],
    zones: &[ZoneConfig],
    problems: &mut Problems<'_>,
) -> Result<(), Told> {
    let mut told = None;
    for (number, (written, zone)) in written.iter().zip(zones).enumerate() {
        let inner = |name: &LowerName| {
            let inside = |other: &&ZoneConfig| {
                zone.apex != other.apex
                    && zone.apex.zone_of(&other.apex)
                    && other.apex.zone_of(name)
            };
            zones.iter().find(inside)
        };
        for (record, set) in written.record.iter().zip(&zone.records) {
            if let Some(inner) = inner(&set.name) {
                let message = format!("is in zone '{}'; write it there", plain(&inner.apex));
                let field = format!("zone.{number}.record.name");
                told = Some(problems.at(record.name.span(), &field, message));
            }
        }
    }
    told.map_or(Ok(()), Err)
}

/// A name server within our own zones that nobody can find would make the zone unreachable.
pub(super) fn name_servers_have_addresses(
    written: &[WrittenZone],
    zones: &[ZoneConfig],
    steered: &[SteeredName],
    problems: &mut Problems<'_>,
) -> Result<(), Told> {
    let addressed: BTreeSet<&LowerName> = zones
        .iter()
        .flat_map(|zone| &zone.records)
        .filter(|set| matches!(set.kind, RecordType::A | RecordType::AAAA))
        .map(|set| &set.name)
        .chain(steered.iter().map(|steered| &steered.name))
        .collect();
    let mut told = None;
    for (number, (written, zone)) in written.iter().zip(zones).enumerate() {
        for (text, name) in written.ns.get_ref().iter().zip(&zone.name_servers) {
            let name = LowerName::from(name);
            let is_ours = zones.iter().any(|zone| zone.apex.zone_of(&name));
            if is_ours && !addressed.contains(&name) {
                let message = "has no address in its zone; add a [[zone.record]] of type A or AAAA";
                told = Some(problems.at(text.span(), &format!("zone.{number}.ns"), message));
            }
        }
    }
    told.map_or(Ok(()), Err)
}
