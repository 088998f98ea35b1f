//! What should stand for VMs: said in their terms, and worked out in the kernel's. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Ground, TUN};
use crate::netlink::{MAIN_TABLE, Neighbour, Route, Rule, Standing};
use crate::{Guest, NetworkError, VmTag};

/// Those that one VM talks to elsewhere, at most.
pub(super) const PEERS_MAX: usize = 4096;
const ADDRESSES_MAX: usize = 64;

/// What comes out of the TUN: to the leg, and never back.
const OUT_OF_TUN_TABLE: u32 = 20_200;
/// All of it into the TUN.
const THROUGH_TABLE: u32 = 20_201;
/// Where the tables of VMs begin, two for each: far above what people number by hand.
const VM_TABLES: u32 = 0x2000_0000;
/// So many bits of a VM's number count.
const VM_NUMBER_MASK: u32 = 0x0fff_ffff;

/// In the order in which they are asked.
const OUT_OF_TUN_PRIORITY: u32 = 1000;
const ONLY_THERE_PRIORITY: u32 = 1080;
const HERE_PRIORITY: u32 = 1090;
const THERE_PRIORITY: u32 = 1100;
const THROUGH_PRIORITY: u32 = 1110;

/// A conversation of a VM's that goes on elsewhere, and one that stays here.
pub(super) const MARK_THERE: u32 = 1;
pub(super) const MARK_HERE: u32 = 2;
/// Of the route into the TUN: one to the leg can be set before it.
const AWAY_METRIC: u32 = 2048;
/// Of the default route by the site's own gateway: one that the leg brought along comes first.
const GATEWAY_METRIC: u32 = 20_200;

/// What is wanted for a VM at one leg. On a return both are: what was away comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmWanted {
    /// The VM.
    pub guest: Guest,
    /// It is elsewhere, or about to be.
    pub away: Option<Away>,
    /// It is here, or about to be.
    pub hosting: Option<Hosting>,
}

/// A VM that is elsewhere, is about to be, or is just back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away {
    /// What this proxy has for it goes into the TUN. When it is back, first this alone is taken away:
    /// a better route is set beside the one into the TUN, which goes with the rest, once nothing
    /// comes out of the TUN any more. A route that is deleted while packets use it takes them along.
    pub diverts: bool,
    /// Answers are given for it on the leg: only once its port has been turned round, or its
    /// neighbours' packets would overtake each other.
    pub stands_in: bool,
}

/// A VM that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosting {
    /// Those elsewhere that it talks to, the other proxies' legs and gateways included.
    pub peers: Vec<Peer>,
    /// Where its TCP goes that no list names.
    pub otherwise: Otherwise,
}

/// Somebody elsewhere that the VM talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// Its address. A link-local one is answered for and not routed: a gateway's.
    pub address: IpAddr,
    /// It is a router, and is to look like one.
    pub is_router: bool,
    /// A machine here has the same address: conversations that began here stay here.
    pub is_here_too: bool,
}

/// Where TCP of a VM's goes that no list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// Elsewhere: it came from there, and what began here was seen to.
    There,
    /// It stays here: the VM has come home.
    Here,
}

/// What should stand in the kernel.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<Rule>,
    pub(super) neighbours: Vec<Neighbour>,
}

/// Refuses what cannot stand.
pub(super) fn check(vms: &BTreeMap<VmTag, VmWanted>) -> Result<(), NetworkError> {
    let mut numbers: BTreeMap<u32, &VmTag> = BTreeMap::new();
    for (vm, wanted) in vms {
        if let Some(other) = numbers.insert(vm.number() & VM_NUMBER_MASK, vm) {
            return Err(NetworkError::Clash { one: other.to_string(), other: vm.to_string() });
        }
        let peers = wanted.hosting.as_ref().map_or(0, |hosting| hosting.peers.len());
        let bounds = [
            (peers, "peers", PEERS_MAX),
            (wanted.guest.addresses.len(), "addresses", ADDRESSES_MAX),
        ];
        for (count, what, most) in bounds {
            if count > most {
                return Err(NetworkError::TooMany { vm: vm.to_string(), count, what, most });
            }
        }
    }
    Ok(())
}

/// Works it out.
pub(super) fn of(ground: &Ground, vms: &BTreeMap<VmTag, VmWanted>) -> Wanted {
    let mut wanted = of_leg(ground);
    for (vm, of_vm) in vms {
        of_away(ground, of_vm, &mut wanted);
        if let Some(hosting) = &of_vm.hosting {
            of_hosting(ground, vm, &of_vm.guest, hosting, &mut wanted);
        }
    }
    wanted
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// What stands for the leg, whatever VMs there are.
fn of_leg(ground: &Ground) -> Wanted {
    let mut wanted = Wanted::default();
    for is_v4 in [true, false] {
        wanted.rules.push(rule(is_v4, OUT_OF_TUN_PRIORITY, TUN, OUT_OF_TUN_TABLE));
        let here = rule(is_v4, HERE_PRIORITY, &ground.interface, MAIN_TABLE);
        wanted.rules.push(Rule { mark: Some(MARK_HERE), ..here });
        let through = rule(is_v4, THROUGH_PRIORITY, &ground.interface, THROUGH_TABLE);
        wanted.rules.push(Rule { mark: Some(MARK_THERE), ..through });
        let like = if is_v4 { [0; 4].into() } else { IpAddr::from([0; 16]) };
        wanted.routes.push(Route::to_all_like(THROUGH_TABLE, like, ground.tun));
    }
    for address in ground.addresses.iter().filter(|address| !is_link_local(address.ip)) {
        let subnet = subnet_of(address.ip, address.bits);
        let route = Route::to_subnet(OUT_OF_TUN_TABLE, subnet, address.bits, ground.link);
        if !wanted.routes.contains(&route) {
            wanted.routes.push(route);
        }
    }
    for gateway in &ground.gateways {
        let to_all = |table| Route::to_all_like(table, *gateway, ground.link).via(*gateway);
        wanted.routes.push(to_all(OUT_OF_TUN_TABLE));
        wanted.routes.push(Route { metric: GATEWAY_METRIC, ..to_all(MAIN_TABLE) });
    }
    wanted
}

fn of_away(ground: &Ground, of_vm: &VmWanted, wanted: &mut Wanted) {
    let Some(Away { diverts, stands_in }) = of_vm.away else { return };
    for ip in &of_vm.guest.addresses {
        let own = ground.addresses.iter().map(|address| address.ip);
        let own = own.filter(|own| own.is_ipv4() == ip.is_ipv4() && !is_link_local(*own));
        let own = own.take(1).next();
        let away = Route::to_host(MAIN_TABLE, *ip, ground.tun).from(own);
        wanted.routes.push(Route { metric: AWAY_METRIC, ..away });
        if !diverts {
            wanted.routes.push(Route::to_host(MAIN_TABLE, *ip, ground.link).from(own));
        }
        if stands_in {
            let standing = Standing::Proxied { is_router: false };
            wanted.neighbours.push(Neighbour { link: ground.link, ip: *ip, standing });
        }
    }
}

fn of_hosting(ground: &Ground, vm: &VmTag, guest: &Guest, hosting: &Hosting, wanted: &mut Wanted) {
    let link = ground.link;
    let [only_there, there] = tables_of(vm);
    for ip in &guest.addresses {
        // Known beforehand: a packet that comes before the VM would cost a second of asking.
        let standing = Standing::Has(guest.mac);
        wanted.neighbours.push(Neighbour { link, ip: *ip, standing });
        for (priority, table) in [(ONLY_THERE_PRIORITY, only_there), (THERE_PRIORITY, there)] {
            let rule = rule(ip.is_ipv4(), priority, &ground.interface, table);
            wanted.rules.push(Rule { source: Some(*ip), ..rule });
        }
    }
    let mut peers = hosting.peers.clone();
    peers.sort_unstable();
    peers.dedup_by_key(|peer| peer.address);
    for peer in peers {
        let standing = Standing::Proxied { is_router: peer.is_router };
        let proxied = Neighbour { link, ip: peer.address, standing };
        // Two VMs may have the same peer.
        if !wanted.neighbours.contains(&proxied) {
            wanted.neighbours.push(proxied);
        }
        if !is_link_local(peer.address) {
            let table = if peer.is_here_too { there } else { only_there };
            wanted.routes.push(Route::to_host(table, peer.address, ground.tun));
        }
    }
}

fn tables_of(vm: &VmTag) -> [u32; 2] {
    let first = VM_TABLES + ((vm.number() & VM_NUMBER_MASK) << 1);
    [first, first + 1]
}

fn rule(is_v4: bool, priority: u32, input: &str, table: u32) -> Rule {
    Rule { is_v4, priority, input: input.to_owned(), mark: None, source: None, table }
}

/// The subnet's address with no host part.
fn subnet_of(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
