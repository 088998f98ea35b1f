//! A pair of interfaces on the VM's bridge. What is turned round leaves by the one that stands apart
//! and arrives on the bridge by the other; that one has the same rules as the tap, so that frames
//! which the bridge sends there once the tap is gone are turned round too, by no process at all.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::netlink::{Link, Netlink};
use crate::{NetworkError, VmTag};

/// How long a new pair may take until it carries; the kernel tells so a few milliseconds late.
const ACTIVE_MAX: Duration = Duration::from_secs(5);
/// How people know them.
const ALIAS: &str = "causeway turns round for ";

/// The two names.
pub(super) struct Names {
    pub(super) apart: String,
    pub(super) on_bridge: String,
}

/// The kernel's names are too short for a VM's.
pub(super) fn names(vm: &VmTag) -> Names {
    let name = |end| format!("cwr{:08x}{end}", vm.number());
    Names { apart: name('a'), on_bridge: name('b') }
}

/// Makes the pair, or what of it is missing.
pub(super) fn make(netlink: &Netlink, vm: &VmTag, bridge: &str) -> Result<(), NetworkError> {
    let failed = || NetworkError::kernel(format!("make the turn-round of {vm} on {bridge}"));
    let remedy = "make it, or name another in the agent's network";
    let missing = || NetworkError::NoInterface { name: bridge.to_owned(), remedy };
    let bridge = netlink.link(bridge).map_err(failed())?.ok_or_else(missing)?;
    let names = names(vm);
    let there = netlink.link(&names.apart).map_err(failed())?;
    match there {
        Some(link) => is_of(&link, vm)?,
        None => netlink.make_pair([&names.apart, &names.on_bridge], bridge.mtu).map_err(failed())?,
    }
    let set = || {
        for name in [&names.apart, &names.on_bridge] {
            let link = netlink.index(name)?;
            netlink.name_for_people(link, &format!("{ALIAS}{vm}"))?;
            silence(netlink, link, name)?;
            if *name == names.on_bridge {
                netlink.join(link, bridge.index)?;
                netlink.keep_apart(link)?;
            }
            netlink.set_up(link)?;
        }
        Ok(())
    };
    set().map_err(failed())?;
    let pair = [names.apart.as_str(), names.on_bridge.as_str()];
    match netlink.wait_until_active(&pair, ACTIVE_MAX).map_err(failed())? {
        true => Ok(()),
        false => Err(failed()(ErrorKind::TimedOut.into())),
    }
}

/// It may be gone already.
pub(super) fn delete(netlink: &Netlink, vm: &VmTag) -> Result<(), NetworkError> {
    let failed = || NetworkError::kernel(format!("delete the turn-round of {vm}"));
    match netlink.link(&names(vm).apart).map_err(failed())? {
        Some(link) => {
            is_of(&link, vm)?;
            netlink.delete_link(link.index).map_err(failed())
        }
        None => Ok(()),
    }
}

/// Two VMs' names may lead to one number. One without an alias is ours: we were interrupted.
fn is_of(link: &Link, vm: &VmTag) -> Result<(), NetworkError> {
    match link.alias.strip_prefix(ALIAS) {
        Some(other) if other != vm.as_str() => {
            Err(NetworkError::Clash { one: vm.to_string(), other: other.to_owned() })
        }
        _ => Ok(()),
    }
}

/// It says nothing by itself.
fn silence(netlink: &Netlink, link: u32, name: &str) -> std::io::Result<()> {
    netlink.silence(link)?;
    let setting = Path::new("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6");
    match fs::write(setting, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
