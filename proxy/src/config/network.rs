//! `[[network]]`: a network with backends and VMs on it, and the proxy's leg there. Without it,
//! backends are dialled from the host's own network, and no VM can move from here or to here.
//!
//! ```toml
//! [[network]]
//! name = "apps"
//! leg = "eth1"                           # an interface of its own; given back by `down`
//! gateway = ["10.0.0.1", "fd10::1", "fe80::1"]   # the subnet's own, and IPv6's on the link
//! namespace = "causeway-apps"            # optional; as `ip netns` shows it
//! ```
//!
//! The leg is taken into a network namespace of ours, with its addresses, and all sockets to backends
//! are opened there: a service's `source` is then an address of the leg. VIPs stay the host's.

use std::net::IpAddr;

use daemon::config::{Problems, Told};
use placement::PartName;
use serde::Deserialize;
use toml::Spanned;

/// Networks of one proxy: of a second one, its leg would have to be told apart in every call.
pub const NETWORKS_MAX: usize = 1;
/// Longest name of an interface, as the kernel has it.
const INTERFACE_BYTES_MAX: usize = 15;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNetwork {
    name: Spanned<String>,
    leg: Spanned<String>,
    #[serde(default)]
    gateway: Vec<Spanned<String>>,
    namespace: Option<Spanned<String>>,
}

/// A network that the proxy has a leg on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its name.
    pub name: PartName,
    /// The interface.
    pub leg: String,
    /// The subnet's gateways, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// The IPv6 gateway's address on the link, which machines have their default route by.
    pub link_local: Option<IpAddr>,
    /// The namespace that the leg is taken into.
    pub namespace: String,
}

pub(super) fn check(
    written: &[WrittenNetwork],
    problems: &mut Problems<'_>,
) -> Result<Option<NetworkConfig>, Told> {
    if let Some(second) = written.get(NETWORKS_MAX) {
        let message = "is a second network, and this version has a leg on one; \
                       run another causeway-proxy for it";
        return Err(problems.at(second.name.span(), "network.1.name", message));
    }
    written.first().map(|network| check_network(network, problems)).transpose()
}

fn check_network(
    written: &WrittenNetwork,
    problems: &mut Problems<'_>,
) -> Result<NetworkConfig, Told> {
    let name: Result<PartName, Told> = problems.parse("network.0.name", &written.name);
    let leg = match written.leg.get_ref().as_str() {
        leg if is_interface(leg) => Ok(leg.to_owned()),
        _ => {
            let message = format!(
                "is no interface's name; write 1 to {INTERFACE_BYTES_MAX} of a-z, A-Z, 0-9, '-', '_' \
                 and inner '.'"
            );
            Err(problems.at(written.leg.span(), "network.0.leg", message))
        }
    };
    let gateways = gateways(&written.gateway, problems);
    let (link_local, gateways) = match gateways {
        Ok(all) => {
            let (on_link, on_subnet) = all.into_iter().partition(|ip| is_link_local(*ip));
            (Vec::<IpAddr>::into_iter(on_link).next(), Ok(on_subnet))
        }
        Err(told) => (None, Err(told)),
    };
    let namespace = match &written.namespace {
        Some(namespace) => {
            let named: Result<PartName, Told> = problems.parse("network.0.namespace", namespace);
            Some(named.map(|named| named.to_string()))
        }
        None => None,
    };
    let name = name?;
    let namespace = namespace.transpose()?.unwrap_or_else(|| format!("causeway-{name}"));
    Ok(NetworkConfig { name, leg: leg?, gateways: gateways?, link_local, namespace })
}

fn is_interface(name: &str) -> bool {
    // It travels into rules and paths: what the kernel takes is more than those do.
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=INTERFACE_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_fit)
        && !name.starts_with('.')
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Of each there is one.
fn kind(ip: IpAddr) -> (bool, bool) {
    (ip.is_ipv4(), is_link_local(ip))
}

fn gateways(written: &[Spanned<String>], problems: &mut Problems<'_>) -> Result<Vec<IpAddr>, Told> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    let mut told = None;
    for gateway in written {
        let mut wrong = |message| Err(problems.at(gateway.span(), "network.0.gateway", message));
        let checked = match gateway.get_ref().parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() => {
                wrong("is no address of a router on the subnet; write the subnet's gateway")
            }
            Ok(ip) if gateways.iter().any(|earlier| kind(*earlier) == kind(ip)) => {
                wrong("is a second one of its kind; write one of each")
            }
            Ok(ip) => Ok(ip),
            Err(_) => wrong("is no address; write 10.0.0.1 or fd10::1"),
        };
        match checked {
            Ok(ip) => gateways.push(ip),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(gateways), Err)
}
