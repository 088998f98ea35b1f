//! `causeway-gslb check`: says what a name server would understand and be, and changes nothing.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use placement::{SiteName, VmName};
use serde_json::{Value, json};

use crate::config::{SteeredName, ZoneConfig, plain};
use crate::running::Loaded;

/// What was understood, for people.
#[must_use]
pub fn told(path: &Path, loaded: &Loaded) -> String {
    let (config, credentials) = (&loaded.config, &loaded.credentials);
    let left_s =
        daemon::unix_s(credentials.valid_until()).saturating_sub(daemon::unix_s(SystemTime::now()));
    let days = left_s / 86_400;
    let listen: Vec<String> = config.dns.listen.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        ("identity", credentials.identity().to_string()),
        ("certificate", format!("valid for {days} more days")),
        ("control", format!("listens on {}", config.basics.listen)),
        ("state", config.basics.state_folder.display().to_string()),
        ("log level", config.basics.log_level.clone()),
        ("dns", format!("answers on {}", listen.join(", "))),
    ];
    lines.extend(config.zones.iter().map(|zone| ("zone", told_zone(zone))));
    lines.extend(config.steered.iter().map(|steered| ("steered", told_steered(steered))));
    let mut text = format!("{}: sound\n\n", path.display());
    for (what, value) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {what:<12} {value}");
    }
    text
}

fn told_zone(zone: &ZoneConfig) -> String {
    let ZoneConfig { apex, records, ttl_s, negative_ttl_s, .. } = zone;
    let (name, count) = (plain(apex), records.len());
    format!("{name}: {count} sets of records, ttl {ttl_s} s, negative {negative_ttl_s} s")
}

fn told_steered(steered: &SteeredName) -> String {
    let SteeredName { name, vms, initial_site, sites, ttl_s, ttl_moving_s, .. } = steered;
    let vms: Vec<&str> = vms.iter().map(VmName::as_str).collect();
    let sites: Vec<&str> = sites.keys().map(SiteName::as_str).collect();
    format!(
        "{}: where all of [{}] run, one of [{}], first {initial_site}; ttl {ttl_s} s, moving {ttl_moving_s} s",
        plain(name),
        vms.join(" "),
        sites.join(" "),
    )
}

/// What was understood, for programs.
#[must_use]
pub fn told_as_json(loaded: &Loaded) -> Value {
    let (config, credentials) = (&loaded.config, &loaded.credentials);
    json!({
        "sound": true,
        "site": config.basics.site,
        "name": config.name,
        "identity": credentials.identity(),
        "certificate_valid_until_s": daemon::unix_s(credentials.valid_until()),
        "control_listen": config.basics.listen,
        "state_folder": config.basics.state_folder,
        "log_level": config.basics.log_level,
        "dns_listen": config.dns.listen,
        "zones": config.zones.iter().map(|zone| plain(&zone.apex)).collect::<Vec<String>>(),
        "steered": config.steered.iter().map(steered_as_json).collect::<Vec<Value>>(),
    })
}

fn steered_as_json(steered: &SteeredName) -> Value {
    let sites: Vec<Value> = steered
        .sites
        .iter()
        .map(|(site, at)| json!({ "site": site, "v4": at.v4, "v6": at.v6 }))
        .collect();
    json!({
        "name": plain(&steered.name),
        "vms": steered.vms,
        "initial_site": steered.initial_site,
        "ttl_s": steered.ttl_s,
        "ttl_moving_s": steered.ttl_moving_s,
        "sites": sites,
    })
}
