//! The packet rules at a port, as text for nft. Each device has chains of its own, which go with it.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{PortWanted, Protocol, turn};
use crate::tuples::TUPLES_MAX;
use crate::{Guest, Mac, VmTag};

/// What has been seen: the sets, by protocol and family. More than five fields and this nft would
/// list nonsense.
pub(super) const SEEN_SETS: [(&str, Protocol, bool); 4] = [
    ("seen_tcp4", Protocol::Tcp, true),
    ("seen_tcp6", Protocol::Tcp, false),
    ("seen_udp4", Protocol::Udp, true),
    ("seen_udp6", Protocol::Udp, false),
];
/// How long after its last frame a conversation is told, in seconds.
pub(super) const SEEN_S: u64 = 3_600;
/// When each conversation's first frame came, while a take-over stands: likewise. Nothing moves these
/// times, and a conversation that lasts longer than they do begins anew.
pub(super) const FIRST_SETS: [(&str, Protocol, bool); 4] = [
    ("first_tcp4", Protocol::Tcp, true),
    ("first_tcp6", Protocol::Tcp, false),
    ("first_udp4", Protocol::Udp, true),
    ("first_udp6", Protocol::Udp, false),
];
/// How long after its first frame that is told, in seconds.
pub(super) const FIRST_S: u64 = 86_400;
const IS_UNICAST: &str = "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00";

/// All of it, whatever stood before.
pub(super) fn text(vm: &VmTag, guest: &Guest, tap: Option<&str>, wanted: PortWanted) -> String {
    let table = vm.table();
    let mut text = format!("add table netdev {table}\n");
    let with_mac = SEEN_SETS.map(|(set, _, is_v4)| (set, is_v4, " . ether_addr", SEEN_S));
    let without = FIRST_SETS.map(|(set, _, is_v4)| (set, is_v4, "", FIRST_S));
    for (set, is_v4, mac, timeout_s) in with_mac.into_iter().chain(without) {
        let address = if is_v4 { "ipv4_addr" } else { "ipv6_addr" };
        let _ = writeln!(
            text,
            "add set netdev {table} {set} {{ \
             type {address} . inet_service . {address} . inet_service{mac}; \
             flags dynamic,timeout; timeout {timeout_s}s; size {TUPLES_MAX}; }}"
        );
    }
    if let Some(tap) = tap {
        let mut rules = watch_and_take_over(guest, wanted.take_over);
        text.push_str(&chain(&table, "from", "ingress", tap, &rules));
        rules = to_vm(vm, guest, wanted);
        text.push_str(&chain(&table, "to", "egress", tap, &rules));
    }
    let on_bridge = turn::names(vm).on_bridge;
    if wanted.turn_round.is_some() {
        text.push_str(&chain(&table, "to", "egress", &on_bridge, &to_vm(vm, guest, wanted)));
    } else {
        // Made first: this nft deletes only what is there.
        let chain = format!("chain netdev {table} to_{on_bridge}");
        let _ = writeln!(text, "add {chain}\nflush {chain}\ndelete {chain}");
    }
    text
}

/// Nothing of it, whatever stood before.
pub(super) fn end(vm: &VmTag) -> String {
    let table = vm.table();
    format!("add table netdev {table}\ndelete table netdev {table}\n")
}

fn chain(table: &str, way: &str, hook: &str, device: &str, rules: &[String]) -> String {
    let name = format!("{way}_{device}");
    let mut text = format!(
        "add chain netdev {table} {name} {{ type filter hook {hook} device \"{device}\" priority 0; }}\n\
         flush chain netdev {table} {name}\n"
    );
    for rule in rules {
        let _ = writeln!(text, "add rule netdev {table} {name} {rule}");
    }
    text
}

/// Where the take-over stands, it comes first: the MAC that is seen is the leg's then, and no
/// evidence of where the peer is.
fn watch_and_take_over(guest: &Guest, leg: Option<Mac>) -> Vec<String> {
    let mut rules = leg.map(take_over).unwrap_or_default();
    for ((set, protocol, is_v4), (first, ..)) in SEEN_SETS.into_iter().zip(FIRST_SETS) {
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let ip = if is_v4 { "ip" } else { "ip6" };
        let own = list(guest.addresses.iter().filter(|address| address.is_ipv4() == is_v4));
        // A stranger's address as source would fill the set. Without any known, all count.
        let from_vm = if guest.addresses.is_empty() {
            format!("ether type {ip}")
        } else if own.is_empty() {
            continue;
        } else {
            format!("{ip} saddr {{ {own} }}")
        };
        let which = format!("{IS_UNICAST} {from_vm} meta l4proto {protocol}");
        let tuple = format!("{ip} saddr . {protocol} sport . {ip} daddr . {protocol} dport");
        rules.push(format!("{which} update @{set} {{ {tuple} . ether daddr }}"));
        if leg.is_some() {
            rules.push(format!("{which} add @{first} {{ {tuple} }}"));
        }
    }
    rules
}

/// Probes of what the VM has cached are for the leg too, or it would find its peers dead. Answers
/// and what is said to all stay as they are.
fn take_over(leg: Mac) -> Vec<String> {
    vec![
        format!("{IS_UNICAST} icmpv6 type nd-neighbor-solicit ether daddr set {leg} accept"),
        format!("{IS_UNICAST} ether type arp arp operation request ether daddr set {leg} accept"),
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept"
            .to_owned(),
        format!("{IS_UNICAST} ether type {{ ip, ip6 }} ether daddr set {leg}"),
    ]
}

/// Guards first: what the turn-round lets pass must have passed them.
fn to_vm(vm: &VmTag, guest: &Guest, wanted: PortWanted) -> Vec<String> {
    if wanted.turn_round.is_none() && wanted.take_over.is_none() {
        return Vec::new();
    }
    let mut rules = guards(guest);
    if let Some(leg) = wanted.turn_round {
        rules.extend(turn_round(vm, guest.mac, leg));
    }
    rules
}

/// Whoever stands in for the VM would otherwise tell the VM itself: its own check for duplicate
/// addresses would fail.
fn guards(guest: &Guest) -> Vec<String> {
    let v4 = list(guest.addresses.iter().filter(|address| address.is_ipv4()));
    let v6: Vec<String> = guest.addresses.iter().filter_map(hexadecimal).collect();
    let mut rules = Vec::new();
    if !v4.is_empty() {
        rules.push(format!("ether type arp arp saddr ip {{ {v4} }} drop"));
    }
    if !v6.is_empty() {
        let v6 = v6.join(", ");
        rules.push(format!("icmpv6 type nd-neighbor-advert @nh,384,128 {{ {v6} }} drop"));
    }
    rules
}

/// The frames bear the VM's MAC as their source: the switch knows it at this port already, and would
/// move the sender's there.
fn turn_round(vm: &VmTag, mac: Mac, leg: Mac) -> Vec<String> {
    let apart = turn::names(vm).apart;
    let others = format!("ether saddr != {leg} ether daddr {mac}");
    let back = format!("ether daddr set {leg} ether saddr set {mac} fwd to \"{apart}\"");
    vec![
        format!("{others} icmpv6 type nd-neighbor-advert accept"),
        format!("{others} ether type {{ ip, ip6 }} {back}"),
        format!("{others} ether type arp arp operation request {back}"),
    ]
}

fn list<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
    addresses.join(", ")
}

/// This nft knows the target of an advertisement by its place alone, and that as a number.
fn hexadecimal(address: &IpAddr) -> Option<String> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(format!("{:#034x}", v6.to_bits())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_only_watches_touches_nothing_that_passes() {
        let guest = Guest {
            mac: Mac([2, 0, 0, 0, 2, 1]),
            addresses: vec!["10.9.2.1".parse().unwrap(), "fd10::1".parse().unwrap()],
        };
        let vm: VmTag = "web".parse().unwrap();
        let text = text(&vm, &guest, Some("cwtap0"), PortWanted::default());
        for word in ["drop", "accept", "fwd", " set 0"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        assert_eq!(text.matches("update @seen_").count(), 4);
        assert_eq!(text.matches("add @first_").count(), 0);
        let taken_over =
            PortWanted { take_over: Some(Mac([2, 0, 0, 0, 9, 9])), ..PortWanted::default() };
        let text = super::text(&vm, &guest, Some("cwtap0"), taken_over);
        assert_eq!(text.matches("add @first_").count(), 4);
    }
}
