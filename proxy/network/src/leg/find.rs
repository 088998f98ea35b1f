//! Who is on the leg's own network, and where: the kernel asks, as it does before it sends to one.
//!
//! What is sent to nobody tells nothing, so the kernel is asked to look without a packet. What it
//! finds, it forgets by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::netlink::{Known, Netlink};
use crate::vm::check_interface;
use crate::{Mac, Namespace, NetworkError};

/// So many are looked for in one go; a VM finds others by itself, some seconds later.
pub const FIND_MAX: usize = 1_024;
/// So many at a time: a kernel's table of neighbours has room for a thousand.
const AT_A_TIME: usize = 256;
/// How long these are waited for. Whoever is there answers in milliseconds; the kernel asks again
/// after a second.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// Between two looks at what came.
const LOOK: Duration = Duration::from_millis(5);

/// A machine on the leg's own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC there.
    pub mac: Mac,
    /// It says that it is a router; IPv4 has no way to.
    pub is_router: bool,
}

/// Looks for these on the network of the leg `interface`, which is in `namespace`. Who does not answer
/// is not found; of more than [`FIND_MAX`] the last are not looked for. Blocks until all have answered,
/// or were waited for.
///
/// # Errors
/// See [`NetworkError`].
pub fn find(
    namespace: &Namespace,
    interface: &str,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Vec<Found>, NetworkError> {
    check_interface(interface)?;
    let failed = || NetworkError::kernel(format!("look for neighbours on {interface}"));
    let inside = namespace.enter()?;
    let netlink = Netlink::open().map_err(failed())?;
    let link = netlink.index(interface).map_err(failed())?;
    drop(inside);
    let wanted: Vec<IpAddr> = addresses.iter().copied().take(FIND_MAX).collect();
    let mut found = Vec::new();
    for some in wanted.chunks(AT_A_TIME) {
        found.extend(find_some(&netlink, link, some).map_err(failed())?);
    }
    Ok(found)
}

fn find_some(netlink: &Netlink, link: u32, wanted: &[IpAddr]) -> std::io::Result<Vec<Found>> {
    // An entry that stands is not looked for again: what we have set ourselves would lose its hold.
    let known: BTreeMap<IpAddr, Known> = netlink.known_on(link)?.into_iter().collect();
    let is_open = |ip: &&IpAddr| !matches!(known.get(ip), Some(Known::At { .. }));
    for address in wanted.iter().filter(is_open) {
        netlink.look_for(link, *address)?;
    }
    let end = Instant::now() + ANSWER_MAX;
    loop {
        let known: BTreeMap<IpAddr, Known> = netlink.known_on(link)?.into_iter().collect();
        let open = wanted.iter().filter(|ip| matches!(known.get(ip), Some(Known::Sought)));
        if open.count() == 0 || Instant::now() >= end {
            let found = wanted.iter().filter_map(|address| match known.get(address) {
                Some(Known::At { mac, is_router }) => {
                    Some(Found { address: *address, mac: *mac, is_router: *is_router })
                }
                _ => None,
            });
            return Ok(found.collect());
        }
        thread::sleep(LOOK);
    }
}
