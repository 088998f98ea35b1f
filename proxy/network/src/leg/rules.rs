//! The packet rules of a leg, as text for nft: marks by which conversations go here or there, whose
//! solicitations are answered, and no redirects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use super::wanted::{MARK_HERE, MARK_THERE};
use super::{Ground, Otherwise, TUN, VmWanted};
use crate::nft::Nft;
use crate::tuples::TUPLES_MAX;
use crate::{NetworkError, Tuple, VmTag};

/// Sets of what began here.
pub(super) const NEW_SETS: [&str; 2] = ["began_here4", "began_here6"];
/// How ours begin.
const PREFIX: &str = "causeway_";
/// The leg's own tables; no VM's name ends in a hyphen.
const LEG_TABLES: [(&str, &str); 2] = [("inet", "causeway_leg-"), ("netdev", "causeway_leg-")];
/// An idle conversation is remembered as long as a firewall would.
const CONVERSATION_TIMEOUT: &str = "5d";
/// A handshake is over by then.
const HANDSHAKE_TIMEOUT: &str = "5m";

/// What nft was given.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) text: String,
    pub(super) tables: BTreeSet<String>,
}

/// What nft is to be given.
pub(super) struct Text {
    /// All of it, what goes included.
    pub(super) commands: String,
    /// The same, once what goes has gone: what a next text is compared to.
    pub(super) settled: String,
    /// The tables that stand then.
    pub(super) tables: BTreeSet<String>,
}

/// The whole text; of `ours`, tables of VMs that are not wanted go.
pub(super) fn text(
    ground: &Ground,
    vms: &BTreeMap<VmTag, VmWanted>,
    ours: &BTreeSet<String>,
) -> Text {
    let mut tables: BTreeSet<String> =
        LEG_TABLES.iter().map(|(family, name)| format!("{family} {name}")).collect();
    let mut settled = of_leg(ground, vms);
    for (vm, wanted) in vms {
        let table = format!("inet {}", vm.table());
        if wanted.hosting.is_some() {
            settled.push_str(&of_vm(ground, vm, wanted));
            tables.insert(table);
        } else if ours.contains(&table) {
            // What began here is remembered while the VM is away: it may come back and go again.
            tables.insert(table);
        }
    }
    let gone: String =
        ours.difference(&tables).map(|table| format!("delete table {table}\n")).collect();
    Text { commands: format!("{gone}{settled}"), settled, tables }
}

/// The tables of ours that stand.
pub(super) fn our_tables(nft: &impl Nft) -> Result<BTreeSet<String>, NetworkError> {
    let told = nft.list(&["tables"])?;
    let objects = told.as_ref().and_then(|told| told.get("nftables")?.as_array());
    let tables = objects.into_iter().flatten().filter_map(|object| {
        let table = object.get("table")?;
        let (family, name) = (table.get("family")?.as_str()?, table.get("name")?.as_str()?);
        name.starts_with(PREFIX).then(|| format!("{family} {name}"))
    });
    Ok(tables.collect())
}

/// Adds conversations to those that go there.
pub(super) fn add_began_there(vm: &VmTag, began: &BTreeSet<&Tuple>) -> String {
    let mut text = String::new();
    for (set, is_v4) in [("began_there4", true), ("began_there6", false)] {
        let of_family = began.iter().filter(|tuple| tuple.vm.is_ipv4() == is_v4);
        let elements: Vec<String> = of_family
            .map(|tuple| {
                let Tuple { vm, vm_port, peer, peer_port } = tuple;
                format!("{vm} . {vm_port} . {peer} . {peer_port}")
            })
            .collect();
        if !elements.is_empty() {
            let (table, elements) = (vm.table(), elements.join(", "));
            let _ = writeln!(text, "add element inet {table} {set} {{ {elements} }}");
        }
    }
    text
}

fn of_leg(ground: &Ground, vms: &BTreeMap<VmTag, VmWanted>) -> String {
    let [(_, inet), (_, netdev)] = LEG_TABLES;
    let leg = &ground.interface;
    let mut text = format!(
        "add table inet {inet}\n\
         add chain inet {inet} output {{ type filter hook output priority 0; }}\n\
         flush chain inet {inet} output\n\
         add rule inet {inet} output icmpv6 type nd-redirect drop\n\
         add table netdev {netdev}\n\
         add chain netdev {netdev} from_leg \
         {{ type filter hook ingress device \"{leg}\" priority 0; }}\n\
         flush chain netdev {netdev} from_leg\n"
    );
    let mut all = BTreeSet::new();
    let solicit = "icmpv6 type nd-neighbor-solicit @nh,384,128";
    for wanted in vms.values() {
        let Some(hosting) = &wanted.hosting else { continue };
        let peers = hosting.peers.iter().map(|peer| peer.address);
        let peers: BTreeSet<Ipv6Addr> = peers.filter_map(v6).collect();
        if !peers.is_empty() {
            let (mac, targets) = (wanted.guest.mac, hexadecimal(&peers));
            let _ = writeln!(
                text,
                "add rule netdev {netdev} from_leg ether saddr {mac} {solicit} {{ {targets} }} accept"
            );
        }
        all.extend(peers);
    }
    if !all.is_empty() {
        // Others here are answered by the machine of that address here, if there is one.
        let targets = hexadecimal(&all);
        let _ = writeln!(text, "add rule netdev {netdev} from_leg {solicit} {{ {targets} }} drop");
    }
    text
}

/// Where a VM's TCP goes. A SYN of the VM's begins here; so does its answer to a SYN that did not
/// come out of the TUN.
fn of_vm(ground: &Ground, vm: &VmTag, wanted: &VmWanted) -> String {
    let table = vm.table();
    let mut text = format!("add table inet {table}\n");
    for (family, address) in [("4", "ipv4_addr"), ("6", "ipv6_addr")] {
        let sets = [
            ("began_here", CONVERSATION_TIMEOUT),
            ("asked_there", HANDSHAKE_TIMEOUT),
            ("began_there", CONVERSATION_TIMEOUT),
        ];
        for (set, timeout) in sets {
            let _ = writeln!(
                text,
                "add set inet {table} {set}{family} {{ \
                 type {address} . inet_service . {address} . inet_service; \
                 flags dynamic,timeout; timeout {timeout}; size {TUPLES_MAX}; }}"
            );
        }
    }
    let _ = write!(
        text,
        "add chain inet {table} choose {{ type filter hook prerouting priority mangle; }}\n\
         flush chain inet {table} choose\n"
    );
    let addresses = &wanted.guest.addresses;
    for (family, ip, is_v4) in [("4", "ip", true), ("6", "ip6", false)] {
        let of_family: Vec<_> = addresses.iter().filter(|vm| vm.is_ipv4() == is_v4).collect();
        if !of_family.is_empty() {
            let of_family: Vec<String> = of_family.iter().map(ToString::to_string).collect();
            text.push_str(&of_family_rules(ground, vm, wanted, family, ip, &of_family.join(", ")));
        }
    }
    text
}

fn of_family_rules(
    ground: &Ground,
    vm: &VmTag,
    wanted: &VmWanted,
    family: &str,
    ip: &str,
    addresses: &str,
) -> String {
    let (table, leg) = (vm.table(), &ground.interface);
    // What is no TCP has no beginning that could be seen: away from home its peer's address alone
    // decides, at home it stays.
    let (otherwise, which) = match wanted.hosting.as_ref().map(|hosting| hosting.otherwise) {
        Some(Otherwise::There) => (MARK_THERE, "meta l4proto tcp"),
        Some(Otherwise::Here) | None => (MARK_HERE, ""),
    };
    let tuple = format!("{ip} saddr . tcp sport . {ip} daddr . tcp dport");
    let from_vm = format!("iifname \"{leg}\" {ip} saddr {{ {addresses} }}");
    let syn = "tcp flags & (syn | ack) == syn";
    let syn_ack = "tcp flags & (syn | ack) == syn | ack";
    let rules = [
        format!(
            "iifname \"{TUN}\" {ip} daddr {{ {addresses} }} {syn} \
             update @asked_there{family} {{ {ip} daddr . tcp dport . {ip} saddr . tcp sport }}"
        ),
        format!("{from_vm} {syn} delete @began_there{family} {{ {tuple} }}"),
        format!("{from_vm} {syn} update @began_here{family} {{ {tuple} }}"),
        format!(
            "{from_vm} {syn_ack} {tuple} != @asked_there{family} update @began_here{family} {{ {tuple} }}"
        ),
        format!(
            "{from_vm} meta l4proto tcp {tuple} @began_there{family} \
             update @began_there{family} {{ {tuple} }} meta mark set {MARK_THERE} accept"
        ),
        format!(
            "{from_vm} meta l4proto tcp {tuple} @began_here{family} \
             update @began_here{family} {{ {tuple} }} meta mark set {MARK_HERE} accept"
        ),
        format!("{from_vm} {which} meta mark set {otherwise}"),
    ];
    rules.iter().map(|rule| format!("add rule inet {table} choose {rule}\n")).collect()
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6),
    }
}

/// This nft knows the target of a solicitation by its place alone, and that as a number.
fn hexadecimal(targets: &BTreeSet<Ipv6Addr>) -> String {
    let numbers: Vec<_> = targets.iter().map(|v6| format!("{:#034x}", v6.to_bits())).collect();
    numbers.join(", ")
}
