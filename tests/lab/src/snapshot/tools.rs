//! What `ip`, `bridge`, `nft`, `ss` and `/proc/sys/net` tell of one host.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Item, Kind, normalise};
use crate::LabError;
use crate::host::Host;

/// Where settings of the network lie; the thread that looks decides whose.
const SETTINGS: &str = "/proc/sys/net";
/// Settings that the kernel changes by itself.
const VOLATILE_SETTINGS: [&str; 1] = ["netfilter/nf_conntrack_count"];
/// Deeper than `/proc/sys/net` goes.
const SETTINGS_DEPTH_MAX: usize = 8;

pub(super) fn look(host: &Host) -> Result<Vec<Item>, LabError> {
    let mut items = Vec::new();
    let mut add = |kind, text| {
        items.push(Item { host: host.to_string(), kind, text });
    };
    let links = json(host, &["ip", "-j", "-d", "link"])?;
    let own: Vec<String> = links.iter().filter_map(address_of).collect();
    for link in &links {
        add(Kind::Link, named(link));
    }
    for link in json(host, &["ip", "-j", "addr"])? {
        for address in objects(link.get("addr_info")) {
            let name = link.get("ifname").and_then(Value::as_str).unwrap_or_default();
            add(Kind::Address, format!("{name} {}", normalise::line(&address)));
        }
    }
    for family in ["-4", "-6"] {
        for route in json(host, &["ip", "-j", family, "route", "show", "table", "all"])? {
            add(Kind::Route, normalise::line(&route));
        }
        for rule in json(host, &["ip", "-j", family, "rule"])? {
            add(Kind::Rule, normalise::line(&rule));
        }
        for neighbour in json(host, &["ip", "-j", family, "neigh", "show", "nud", "all"])? {
            if normalise::is_permanent(&neighbour) {
                add(Kind::Neighbour, normalise::line(&neighbour));
            }
        }
        for neighbour in json(host, &["ip", "-j", family, "neigh", "show", "proxy"])? {
            add(Kind::ProxyNeighbour, normalise::line(&neighbour));
        }
    }
    for entry in json(host, &["bridge", "-j", "fdb"])? {
        if normalise::is_set_on_a_bridge(&entry, &own) {
            add(Kind::BridgeEntry, normalise::line(&entry));
        }
    }
    for mut object in ruleset(host)? {
        for element in normalise::take_elements(&mut object) {
            add(Kind::Nft, element);
        }
        add(Kind::Nft, normalise::line(&object));
    }
    for line in host.succeed(&["ss", "-H", "-l", "-n", "-p", "-t", "-u", "-w", "-x", "-0"])?.lines()
    {
        add(Kind::Listener, listener(line));
    }
    for setting in settings(host)? {
        add(Kind::Setting, setting);
    }
    Ok(items)
}

/// An array of objects; some tools print nothing where they have nothing to tell.
fn json(host: &Host, command: &[&str]) -> Result<Vec<Map<String, Value>>, LabError> {
    let text = host.succeed(command)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = parse(command, &text)?;
    Ok(objects(Some(&value)))
}

fn ruleset(host: &Host) -> Result<Vec<Map<String, Value>>, LabError> {
    let command = ["nft", "-j", "list", "ruleset"];
    let value = parse(&command, &host.succeed(&command)?)?;
    let objects = objects(value.get("nftables"));
    Ok(objects.into_iter().filter(|object| !object.contains_key("metainfo")).collect())
}

fn parse(command: &[&str], text: &str) -> Result<Value, LabError> {
    serde_json::from_str(text).map_err(|cause| LabError::Unreadable {
        command: command.join(" "),
        reason: cause.to_string(),
    })
}

/// `ip` fills up filtered lists with empty objects, which tell nothing.
fn objects(value: Option<&Value>) -> Vec<Map<String, Value>> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter(|object| !object.is_empty())
        .cloned()
        .collect()
}

fn address_of(link: &Map<String, Value>) -> Option<String> {
    link.get("address").and_then(Value::as_str).map(ToOwned::to_owned)
}

/// Interfaces are told by name first.
fn named(link: &Map<String, Value>) -> String {
    let mut rest = link.clone();
    let name = rest.remove("ifname");
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
    format!("{name} {}", normalise::line(&rest))
}

/// `KIND STATE RECV-Q SEND-Q LOCAL PEER [users:((NAME,pid,fd),...)]`; of unix and packet sockets
/// LOCAL is two words, the second an inode's number.
fn listener(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = words.first().copied().unwrap_or_default();
    let local = words.get(4).copied().unwrap_or_default();
    let state = words.get(1).copied().unwrap_or_default();
    let users = line.split_once("users:").map_or("", |(_, users)| users);
    let mut programs: Vec<&str> = users.split('"').skip(1).step_by(2).collect();
    programs.sort_unstable();
    programs.dedup();
    format!("{kind} {state} {local} {}", programs.join(",")).trim_end().to_owned()
}

fn settings(host: &Host) -> Result<Vec<String>, LabError> {
    host.inside(|| {
        let mut found = Vec::new();
        collect(Path::new(SETTINGS), SETTINGS_DEPTH_MAX, &mut found)
            .map_err(|cause| LabError::file("read settings below", Path::new(SETTINGS), cause))?;
        Ok(found)
    })?
}

fn collect(folder: &Path, depth_left: usize, found: &mut Vec<String>) -> std::io::Result<()> {
    if depth_left == 0 {
        return Err(std::io::Error::other("folders lie deeper than they ever did"));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, depth_left - 1, found)?;
            continue;
        }
        let name = path.strip_prefix(SETTINGS).unwrap_or(&path).to_string_lossy();
        if VOLATILE_SETTINGS.contains(&name.as_ref()) {
            continue;
        }
        // Some can only be written, and some are secrets not yet made.
        if let Ok(value) = fs::read_to_string(&path) {
            let value: Vec<_> = value.split_whitespace().collect();
            found.push(format!("{name} = {}", value.join(" ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_without_numbers_that_change() {
        let tcp =
            r#"tcp   LISTEN 3 128 10.0.0.1:80 0.0.0.0:* users:(("p",pid=7,fd=3),("p",pid=7,fd=4))"#;
        assert_eq!(listener(tcp), "tcp LISTEN 10.0.0.1:80 p");
        let unix = r"u_str LISTEN 0 128 /run/x.sock 4711 * 0";
        assert_eq!(listener(unix), "u_str LISTEN /run/x.sock");
    }
}
