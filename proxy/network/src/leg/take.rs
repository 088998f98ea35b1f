//! The leg's way into the namespace, and back.
//!
//! What it had is noted on the disk before it is moved, and the note goes only when it has all of it
//! again. Wherever a crash leaves it, `take` or [`down`] goes on from there.

use std::io;

use super::record::{self, Record};
use super::{LegPlan, wanted};
use crate::namespace::Namespace;
use crate::netlink::{Link, MAIN_TABLE, Netlink, Route};
use crate::{Mac, NetworkError};

/// Set by the kernel with an address.
const BY_KERNEL: u8 = 2;
const REMEDY: &str = "make it, or name another as the network's leg";

/// A leg that is in the namespace, or on its way there.
pub(super) struct Taken {
    record: Record,
    pub(super) mtu: u32,
    pub(super) mac: Mac,
}

/// Moves the leg in, if it is not there yet.
pub(super) fn take(plan: &LegPlan, namespace: &Namespace) -> Result<Taken, NetworkError> {
    let name = &plan.interface;
    let failed = |what| NetworkError::kernel(format!("{what} {name}"));
    let noted = record::read(&plan.record, name)?;
    let inside = link_inside(namespace, name).map_err(failed("look for"))?;
    let (link, record) = match (inside, noted) {
        (Some(link), Some(record)) => (link, record),
        // Somebody put it there by hand: it is given back as it is now.
        (Some(link), None) => {
            let _inside = namespace.enter()?;
            (link.clone(), note(&link).map_err(failed("read the addresses of"))?)
        }
        (None, noted) => {
            let netlink = Netlink::open().map_err(failed("look for"))?;
            let link = netlink.link(name).map_err(failed("look for"))?;
            let missing = || NetworkError::NoInterface { name: name.clone(), remedy: REMEDY };
            let link = link.ok_or_else(missing)?;
            if let Some(record) = &noted {
                // It was on its way: here it may have lost what it had.
                give(&netlink, &link, record).map_err(failed("give back the addresses of"))?;
            }
            let record = note(&link).map_err(failed("read the addresses of"))?;
            record::write(&plan.record, &record)?;
            let there = rustix::fd::AsFd::as_fd(namespace.as_descriptor());
            netlink.move_to(link.index, there).map_err(failed("move into its namespace"))?;
            (link, record)
        }
    };
    if !plan.record.exists() {
        record::write(&plan.record, &record)?;
    }
    let no_mac = || failed("find the MAC of")(io::ErrorKind::Unsupported.into());
    Ok(Taken { record, mtu: link.mtu, mac: link.mac.ok_or_else(no_mac)? })
}

/// Gives the leg its addresses where it is now, and brings it up. For the namespace's inside, after
/// its settings, which decide how it comes up.
pub(super) fn settle(netlink: &Netlink, plan: &LegPlan, taken: &Taken) -> Result<(), NetworkError> {
    let name = &plan.interface;
    let settle = || {
        let link = netlink.link(name)?.ok_or(io::ErrorKind::NotFound)?;
        give(netlink, &link, &Record { is_up: true, ..taken.record.clone() })
    };
    settle().map_err(NetworkError::kernel(format!("set up {name} in its namespace")))
}

/// Takes down all of ours, gives the leg back to the calling thread's network, with what it had
/// there, and removes the namespace. Done already, it does nothing.
///
/// # Errors
/// See [`NetworkError`]; asking again goes on.
pub fn down(plan: &LegPlan) -> Result<(), NetworkError> {
    let name = &plan.interface;
    let failed = |what| NetworkError::kernel(format!("{what} {name}"));
    let noted = record::read(&plan.record, name)?;
    if let Some(namespace) = Namespace::find(&plan.namespace)? {
        let inside = link_inside(&namespace, name).map_err(failed("look for"))?;
        if let Some(link) = inside {
            let home = rustix::fd::AsFd::as_fd(namespace.home());
            let _inside = namespace.enter()?;
            let netlink = Netlink::open().map_err(failed("look for"))?;
            netlink.move_to(link.index, home).map_err(failed("move back"))?;
        }
        // The TUN, the tables, rules and routes go with it.
        namespace.remove()?;
    }
    if let Some(record) = noted {
        let netlink = Netlink::open().map_err(failed("look for"))?;
        let give_back = || match netlink.link(name)? {
            Some(link) => give(&netlink, &link, &record),
            None => Ok(()),
        };
        give_back().map_err(failed("give back the addresses of"))?;
    }
    record::remove(&plan.record)
}

fn link_inside(namespace: &Namespace, name: &str) -> io::Result<Option<Link>> {
    let _inside = namespace.enter().map_err(io::Error::other)?;
    Netlink::open()?.link(name)
}

/// What the link has, in the calling thread's network.
fn note(link: &Link) -> io::Result<Record> {
    let netlink = Netlink::open()?;
    let mut addresses = netlink.addresses(link.index)?;
    // Others come by themselves, here as there.
    addresses.retain(|address| address.is_permanent && !wanted::is_link_local(address.ip));
    let mut routes = netlink.routes()?;
    routes.retain(|route| {
        route.link == link.index && route.table == MAIN_TABLE && route.protocol != BY_KERNEL
    });
    let (boot, interface) = (record::boot()?, link.name.clone());
    Ok(Record { boot, interface, addresses, routes, is_up: link.is_up })
}

/// Gives the link what is noted; what it has already stays.
fn give(netlink: &Netlink, link: &Link, record: &Record) -> io::Result<()> {
    for address in &record.addresses {
        netlink.add_address(link.index, address)?;
    }
    if !record.is_up {
        return Ok(());
    }
    netlink.set_up(link.index)?;
    let present = netlink.routes()?;
    for route in &record.routes {
        let route = Route { link: link.index, ..route.clone() };
        if !present.contains(&route) {
            netlink.add_route(&route)?;
        }
    }
    Ok(())
}
