//! `causeway-proxy check`: says what a proxy would understand and be, and changes nothing.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::config::{BackendConfig, NetworkConfig, ServiceConfig};
use crate::running::Loaded;

/// What was understood, for people.
#[must_use]
pub fn told(path: &Path, loaded: &Loaded) -> String {
    let (basics, credentials) = (&loaded.config.basics, &loaded.credentials);
    let left_s =
        daemon::unix_s(credentials.valid_until()).saturating_sub(daemon::unix_s(SystemTime::now()));
    let days = left_s / 86_400;
    let mut text = format!("{}: sound\n\n", path.display());
    for (what, value) in [
        ("identity", credentials.identity().to_string()),
        ("certificate", format!("valid for {days} more days")),
        ("control", format!("listens on {}", basics.listen)),
        ("state", basics.state_folder.display().to_string()),
        ("log level", basics.log_level.clone()),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {what:<12} {value}");
    }
    if let Some(network) = &loaded.config.network {
        let _ = writeln!(text, "  {:<12} {}", "network", told_network(network));
    }
    for service in &loaded.config.services {
        let _ = writeln!(text, "  {:<12} {}", "service", told_service(service));
    }
    if loaded.config.services.is_empty() {
        let _ = writeln!(text, "  {:<12} none yet; add [[service]] to serve clients", "service");
    }
    text
}

fn told_network(network: &NetworkConfig) -> String {
    let NetworkConfig { name, leg, gateways, link_local, namespace } = network;
    let gateways: Vec<String> =
        gateways.iter().chain(link_local).map(ToString::to_string).collect();
    let gateways = if gateways.is_empty() { "none".to_owned() } else { gateways.join(" ") };
    format!("{name}: leg {leg}, taken into namespace {namespace}; gateways: {gateways}")
}

fn told_service(service: &ServiceConfig) -> String {
    let protocol = service.protocol.as_str();
    let vips: Vec<String> = service.vips.iter().map(ToString::to_string).collect();
    let backends: Vec<String> = service.backends.iter().map(told_backend).collect();
    let checked = match &service.health {
        Some(health) => format!("checked each {} ms", health.interval.as_millis()),
        None => "not checked".to_owned(),
    };
    let idle = match service.idle_timeout {
        Some(idle) => format!("idle at most {} ms", idle.as_millis()),
        None => "idle for ever".to_owned(),
    };
    format!(
        "{} ({protocol}) on {} -> {}; {checked}, {idle}",
        service.name,
        vips.join(", "),
        backends.join(", ")
    )
}

fn told_backend(backend: &BackendConfig) -> String {
    let addresses: Vec<String> = backend.addresses.each().map(ToString::to_string).collect();
    format!("{} [{}]", backend.name, addresses.join(" "))
}

/// What was understood, for programs.
#[must_use]
pub fn told_as_json(loaded: &Loaded) -> Value {
    let (basics, credentials) = (&loaded.config.basics, &loaded.credentials);
    json!({
        "sound": true,
        "site": basics.site,
        "identity": credentials.identity(),
        "certificate_valid_until_s": daemon::unix_s(credentials.valid_until()),
        "control_listen": basics.listen,
        "state_folder": basics.state_folder,
        "log_level": basics.log_level,
        "networks": loaded.config.network.iter().map(network_as_json).collect::<Vec<Value>>(),
        "services": loaded.config.services.iter().map(service_as_json).collect::<Vec<Value>>(),
    })
}

fn network_as_json(network: &NetworkConfig) -> Value {
    let NetworkConfig { name, leg, gateways, link_local, namespace } = network;
    let gateways: Vec<&IpAddr> = gateways.iter().chain(link_local).collect();
    json!({ "name": name, "leg": leg, "gateways": gateways, "namespace": namespace })
}

fn service_as_json(service: &ServiceConfig) -> Value {
    let backend = |backend: &BackendConfig| {
        json!({
            "name": backend.name,
            "vm": backend.vm,
            "addresses": backend.addresses.each().collect::<Vec<&SocketAddr>>(),
        })
    };
    json!({
        "name": service.name,
        "protocol": service.protocol,
        "listen": service.vips,
        "backends": service.backends.iter().map(backend).collect::<Vec<Value>>(),
        "flows_max": service.flows_max,
        "connect_timeout_ms": millis(service.connect_timeout),
        "idle_timeout_ms": service.idle_timeout.map(millis),
        "is_checked": service.health.is_some(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
