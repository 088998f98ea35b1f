//! The leg side: a proxy's interface on the application subnet, and what it does there for VMs.
//!
//! Where a leg is: in a network namespace of ours, beside a TUN whose other end is the tunnel.
//! [`Leg::up`] takes the interface there, [`down`] gives it back with its addresses. In between,
//! [`Leg::set`] is told what is wanted for a VM and makes the kernel so:
//!
//! - *away*: the VM is elsewhere; what this proxy has for it goes into the TUN, and, once its port has
//!   been turned round, it is answered for here.
//! - *hosting*: the VM is here, or is about to be; those that it talks to elsewhere are answered for,
//!   and what it sends them goes into the TUN.
//!
//! Everything bears our number ([`PROTOCOL`](crate::PROTOCOL)) or our name, is looked up before it is
//! set, and is set only where it differs: after a restart the same wants change nothing.
//!
//! `record` and `take` move the interface, `settings` are the kernel's, `wanted` is what should stand,
//! `reconcile` makes it so, `rules` are for nft. [`find()`] looks who else is on the leg's network.

mod find;
mod reconcile;
mod record;
mod rules;
mod settings;
mod take;
mod wanted;

pub use find::{FIND_MAX, Found, find};
pub use take::down;
pub use wanted::{Away, Hosting, Otherwise, Peer, VmWanted};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::clone_device;
use crate::namespace::Namespace;
use crate::netlink::{Address, Netlink};
use crate::nft::{Nft, NftProgram};
use crate::tuples::{self, TUPLES_MAX};
use crate::vm::check_interface;
use crate::{Mac, NetworkError, Tuple, VmTag};

/// The TUN's name, in the namespace of ours.
pub const TUN: &str = "causeway";
/// How long a leg is waited for that has just been brought up.
const ACTIVE_MAX: Duration = Duration::from_secs(2);
/// Packets that may wait for the tunnel's end: fewer lost some at the beginning of a hold.
const TUN_QUEUE_LENGTH: u32 = 10_000;
/// A loose reverse path check would drop what comes in by an interface without an IPv4 address.
const TUN_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 202, 1));

/// A leg as it is configured.
#[derive(Debug, Clone)]
pub struct LegPlan {
    /// The namespace of ours that it is to be in; `ip netns` knows it by this name.
    pub namespace: String,
    /// The interface.
    pub interface: String,
    /// The subnet's own gateways at this site, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Where to note what the interface was before it was moved. It must outlive crashes, not boots.
    pub record: PathBuf,
}

/// A leg that is up. Dropping it changes nothing: the kernel goes on.
#[derive(Debug)]
pub struct Leg {
    namespace: Namespace,
    netlink: Netlink,
    ground: Ground,
    nft: NftProgram,
    vms: BTreeMap<VmTag, VmWanted>,
    /// What nft was last given, so that a change that is none of its business does not wait for it.
    loaded: Option<rules::Loaded>,
}

/// What everything else stands on.
#[derive(Debug, Clone)]
struct Ground {
    interface: String,
    link: u32,
    mac: Mac,
    tun: u32,
    addresses: Vec<Address>,
    gateways: Vec<IpAddr>,
}

impl Leg {
    /// Brings the leg up, from whatever state it is in, and gives the TUN's descriptor, which does
    /// not block. What stands for VMs stays as it is until [`Leg::set_all`].
    ///
    /// # Errors
    /// See [`NetworkError`]; [`down`] undoes what was done.
    pub fn up(plan: &LegPlan) -> Result<(Leg, OwnedFd), NetworkError> {
        check_interface(&plan.interface)?;
        let namespace = Namespace::make(&plan.namespace)?;
        let taken = take::take(plan, &namespace)?;
        let inside = namespace.enter()?;
        let failed = |what: &str| NetworkError::kernel(format!("{what} {TUN}"));
        let netlink = Netlink::open().map_err(failed("open rtnetlink for"))?;
        let tun = open_tun(&netlink, taken.mtu)?;
        settings::apply(&plan.interface, TUN)?;
        take::settle(&netlink, plan, &taken)?;
        // One that does not carry yet is a leg all the same: its cable may come later.
        let both = [plan.interface.as_str(), TUN];
        netlink.wait_until_active(&both, ACTIVE_MAX).map_err(failed("look at the leg beside"))?;
        let link = netlink.index(&plan.interface).map_err(failed("find the leg beside"))?;
        let addresses = netlink.addresses(link).map_err(failed("read the addresses beside"))?;
        let ground = Ground {
            interface: plan.interface.clone(),
            link,
            mac: taken.mac,
            tun: netlink.index(TUN).map_err(failed("find"))?,
            addresses,
            gateways: plan.gateways.clone(),
        };
        drop(inside);
        let (vms, nft) = (BTreeMap::new(), NftProgram);
        Ok((Leg { namespace, netlink, ground, nft, vms, loaded: None }, tun))
    }

    /// The namespace: sockets to backends on the subnet are opened in there.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The leg's MAC.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.ground.mac
    }

    /// The leg's addresses, link-local ones left out.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let global =
            self.ground.addresses.iter().filter(|address| !wanted::is_link_local(address.ip));
        global.map(|address| address.ip).collect()
    }

    /// Those addresses with the lengths of their subnets' prefixes.
    #[must_use]
    pub fn subnets(&self) -> Vec<(IpAddr, u8)> {
        let global =
            self.ground.addresses.iter().filter(|address| !wanted::is_link_local(address.ip));
        global.map(|address| (address.ip, address.bits)).collect()
    }

    /// What is wanted now.
    #[must_use]
    pub fn wanted(&self) -> &BTreeMap<VmTag, VmWanted> {
        &self.vms
    }

    /// Makes the kernel as `wanted` for one VM; `None` takes everything of it away. A failure leaves
    /// what was wanted before as it was, and the kernel in between: ask again.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn set(&mut self, vm: &VmTag, wanted: Option<VmWanted>) -> Result<(), NetworkError> {
        let mut vms = self.vms.clone();
        match wanted {
            Some(wanted) => vms.insert(vm.clone(), wanted),
            None => vms.remove(vm),
        };
        self.set_all(vms)
    }

    /// Makes the kernel so for all VMs; what stands of others is taken away. For the start.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn set_all(&mut self, vms: BTreeMap<VmTag, VmWanted>) -> Result<(), NetworkError> {
        wanted::check(&vms)?;
        let wanted = wanted::of(&self.ground, &vms);
        let _inside = self.namespace.enter()?;
        // First the marks that routes are chosen by, then the routes.
        let ours = match &self.loaded {
            Some(loaded) => loaded.tables.clone(),
            None => rules::our_tables(&self.nft)?,
        };
        let text = rules::text(&self.ground, &vms, &ours);
        if self.loaded.as_ref().is_none_or(|loaded| loaded.text != text.commands) {
            self.loaded = None;
            self.nft.load(&format!("the rules of {}", self.ground.interface), &text.commands)?;
            self.loaded = Some(rules::Loaded { text: text.settled, tables: text.tables });
        }
        reconcile::to(&self.netlink, &wanted)?;
        self.vms = vms;
        Ok(())
    }

    /// The TCP conversations that a VM began here, or that began with it from here, as far as they
    /// were seen while it was hosted: those that go on through here when it leaves.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn began_here(&self, vm: &VmTag) -> Result<Vec<Tuple>, NetworkError> {
        let _inside = self.namespace.enter()?;
        let mut all = Vec::new();
        for set in rules::NEW_SETS {
            let told = self.nft.list(&["set", "inet", &vm.table(), set])?;
            all.extend(told.iter().flat_map(tuples::read).map(|element| element.tuple));
        }
        Ok(all)
    }

    /// Adds conversations that began elsewhere and go on through there, whatever else is known. The
    /// VM must be hosted here.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn add_began_there(&self, vm: &VmTag, began: &[Tuple]) -> Result<(), NetworkError> {
        if began.len() > TUPLES_MAX {
            let (vm, count) = (vm.to_string(), began.len());
            return Err(NetworkError::TooMany {
                vm,
                count,
                what: "conversations",
                most: TUPLES_MAX,
            });
        }
        if began.is_empty() {
            return Ok(());
        }
        let began: BTreeSet<&Tuple> = began.iter().collect();
        let _inside = self.namespace.enter()?;
        self.nft.load(&format!("the conversations of {vm}"), &rules::add_began_there(vm, &began))
    }

    /// All of ours that stands in the kernel, on a line each, for people.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn standing(&self) -> Result<Vec<String>, NetworkError> {
        let _inside = self.namespace.enter()?;
        let mut lines = reconcile::standing(&self.netlink)?;
        lines.extend(rules::our_tables(&self.nft)?.iter().map(|table| format!("nft {table}")));
        Ok(lines)
    }
}

/// The TUN stays when we end, so that what the kernel sends there is never routed elsewhere.
fn open_tun(netlink: &Netlink, mtu: u32) -> Result<OwnedFd, NetworkError> {
    let failed = || NetworkError::kernel(format!("make {TUN}"));
    let tun = match clone_device::open_lasting_tun(TUN) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            return Err(NetworkError::TunInUse { name: TUN.to_owned() });
        }
        other => other.map_err(failed())?,
    };
    let set = || {
        let link = netlink.index(TUN)?;
        netlink.silence(link)?;
        netlink.set_queue_length(link, TUN_QUEUE_LENGTH)?;
        netlink.set_mtu(link, mtu)?;
        netlink.add_address(link, &Address::of_link(TUN_ADDRESS))?;
        netlink.set_up(link)
    };
    set().map_err(failed())?;
    Ok(tun)
}
