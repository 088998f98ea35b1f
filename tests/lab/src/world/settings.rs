//! Kernel settings of the lab's machines, made before their links, which take them over. They take
//! chance and waiting out: no duplicate address detection to wait for, no address or route that
//! nobody wrote.

use std::fs;
use std::path::Path;

use crate::LabError;
use crate::host::Host;

/// What a machine does with packets that are not for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It drops them.
    Machine,
    /// It forwards them.
    Router,
}

const EVERY_MACHINE: [(&str, &str); 11] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/ip_forward", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/default/forwarding", "0"),
];
/// Redirects off: a router with two networks behind one interface would teach shortcuts.
const ROUTERS: [(&str, &str); 4] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];
/// There only where the kernel can filter bridged packets as routed ones; a bridge of the lab never
/// does.
const WHERE_PRESENT: [(&str, &str); 3] = [
    ("bridge/bridge-nf-call-arptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-iptables", "0"),
];

pub(super) fn apply(host: &Host, role: Role) -> Result<(), LabError> {
    host.inside(|| {
        for (name, value) in EVERY_MACHINE {
            write(name, value)?;
        }
        if role == Role::Router {
            for (name, value) in ROUTERS {
                write(name, value)?;
            }
        }
        for (name, value) in WHERE_PRESENT {
            if Path::new("/proc/sys/net").join(name).exists() {
                write(name, value)?;
            }
        }
        Ok(())
    })?
}

/// `/proc/sys/net` is that of the thread that looks.
fn write(name: &str, value: &str) -> Result<(), LabError> {
    let path = Path::new("/proc/sys/net").join(name);
    fs::write(&path, value).map_err(|cause| LabError::file("write", &path, cause))
}
