//! Settings of the namespace under `/proc/sys/net`. The kernel's defaults break the packet path
//! silently; each of these is here because its default did.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::NetworkError;

const FOLDER: &str = "/proc/sys/net";

/// Of the whole namespace.
const EVERYWHERE: [(&str, &str); 8] = [
    // The largest of all's and the interface's counts, for the reverse path as for redirects.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/ip_forward", "1"),
    // An interface's own does not forward in IPv6.
    ("ipv6/conf/all/forwarding", "1"),
    // With an interface's alone, unicast solicitations are forwarded instead of answered.
    ("ipv6/conf/all/proxy_ndp", "1"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
];

/// Of the leg and the TUN; `IF` stands for its name.
const OF_EACH: [(&str, &str); 6] = [
    ("ipv4/conf/IF/rp_filter", "0"),
    ("ipv4/conf/IF/send_redirects", "0"),
    ("ipv4/conf/IF/accept_redirects", "0"),
    ("ipv4/conf/IF/forwarding", "1"),
    ("ipv6/conf/IF/forwarding", "1"),
    ("ipv6/conf/IF/accept_redirects", "0"),
];

/// Of the leg alone.
const OF_LEG: [(&str, &str); 5] = [
    // Answers for others would wait up to 800 ms.
    ("ipv4/neigh/IF/proxy_delay", "0"),
    ("ipv6/neigh/IF/proxy_delay", "0"),
    ("ipv6/conf/IF/proxy_ndp", "1"),
    // Its addresses were in use a moment ago, by us.
    ("ipv6/conf/IF/accept_dad", "0"),
    ("ipv6/conf/IF/accept_ra", "0"),
];

/// Of the TUN alone.
const OF_TUN: [(&str, &str); 1] = [
    // What is given back at a cancel bears our own source, and would be dropped as a martian.
    ("ipv4/conf/IF/accept_local", "1"),
];

/// Sets them, in the calling thread's network.
pub(super) fn apply(leg: &str, tun: &str) -> Result<(), NetworkError> {
    let of = |settings: &[(&str, &'static str)], name: &str| {
        let named = settings.iter().map(|(path, value)| (path.replace("IF", name), *value));
        named.collect::<Vec<_>>()
    };
    let all = [
        of(&EVERYWHERE, ""),
        of(&OF_EACH, leg),
        of(&OF_EACH, tun),
        of(&OF_LEG, leg),
        of(&OF_TUN, tun),
    ];
    for (name, value) in all.concat() {
        write(&name, value)?;
    }
    // Only kernels that have it need it.
    match write("ipv6/conf/all/force_forwarding", "1") {
        Err(NetworkError::Kernel { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn write(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = Path::new(FOLDER).join(name);
    fs::write(&path, value).map_err(NetworkError::kernel(format!("set {name} to {value}")))
}
