//! What kernels say that they have dropped: where to look when something is missing.

use lab::host::Host;
use lab::world::World;
use serde_json::Value;

/// Counters of the kernel's that stay zero where nothing is lost.
const COUNTERS: [&str; 12] = [
    "IpInDiscards",
    "IpInAddrErrors",
    "IpOutDiscards",
    "IpOutNoRoutes",
    "Ip6InDiscards",
    "Ip6InAddrErrors",
    "Ip6OutDiscards",
    "Ip6OutNoRoutes",
    "UdpRcvbufErrors",
    "UdpSndbufErrors",
    "Udp6RcvbufErrors",
    "Udp6SndbufErrors",
];

/// Everything that any machine of the world has dropped, a line each.
pub(crate) fn dropped(world: &World) -> Vec<String> {
    let mut told = Vec::new();
    for site in world.sites() {
        for host in [site.proxy(), site.hypervisor(), site.router()] {
            told.extend(at(&host, &host.to_string(), &[]));
        }
        let inner = site.proxy().succeed(&["ip", "netns", "list"]).unwrap();
        if let Some(inner) = inner.lines().filter_map(|line| line.split(' ').next()).next() {
            let name = format!("{}, {inner}", site.proxy());
            told.extend(at(&site.proxy(), &name, &["ip", "netns", "exec", inner]));
        }
    }
    told.extend(at(&world.client(1), "clients", &[]));
    told
}

fn at(host: &Host, name: &str, inside: &[&str]) -> Vec<String> {
    let ask = |words: &[&str]| -> Value {
        let told = host.succeed(&[inside, words].concat()).unwrap();
        serde_json::from_str(&told).unwrap()
    };
    let counted = ask(&["nstat", "-asj"]);
    let counters = COUNTERS.iter().filter_map(|counter| {
        let count = counted["kernel"][counter].as_u64().filter(|count| *count > 0)?;
        Some(format!("{name}: {counter} {count}"))
    });
    let links = ask(&["ip", "-j", "-s", "link"]);
    let links = links.as_array().unwrap().iter().flat_map(|link| {
        ["rx", "tx"].into_iter().filter_map(|way| {
            let of = &link["stats64"][way];
            let count = of["dropped"].as_u64().unwrap() + of["errors"].as_u64().unwrap();
            let link = link["ifname"].as_str().unwrap();
            (count > 0).then(|| format!("{name}: {link} dropped {count} ({way})"))
        })
    });
    counters.chain(links).collect()
}
