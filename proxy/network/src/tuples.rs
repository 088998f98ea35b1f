//! Conversations as nft's sets hold them, read back.

use std::net::IpAddr;

use serde_json::Value;

use crate::{Mac, Tuple};

/// Elements of one set, and conversations of one VM in one list.
pub const TUPLES_MAX: usize = 65_536;

/// A conversation as a set holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) tuple: Tuple,
    /// The MAC that stands with it, if one does.
    pub(crate) mac: Option<Mac>,
    /// When it leaves the set by itself, in seconds from now.
    pub(crate) expires_s: Option<u64>,
}

/// The conversations in the sets that nft told in JSON. What is no conversation is passed over.
pub(crate) fn read(told: &Value) -> impl Iterator<Item = Element> {
    sets(told).flat_map(elements).take(TUPLES_MAX)
}

/// Those of the set of this name, where a whole table was told.
pub(crate) fn read_of<'t>(told: &'t Value, set: &'t str) -> impl Iterator<Item = Element> + 't {
    let is_named = move |found: &&Value| found.get("name").and_then(Value::as_str) == Some(set);
    sets(told).filter(is_named).flat_map(elements).take(TUPLES_MAX)
}

fn sets(told: &Value) -> impl Iterator<Item = &Value> {
    let objects = told.get("nftables").and_then(Value::as_array).into_iter().flatten();
    objects.filter_map(|object| object.get("set"))
}

fn elements(set: &Value) -> impl Iterator<Item = Element> + '_ {
    set.get("elem").and_then(Value::as_array).into_iter().flatten().filter_map(element)
}

/// An element is its value, or an object that has it beside its times.
fn element(element: &Value) -> Option<Element> {
    let timed = element.get("elem");
    let value = timed.and_then(|timed| timed.get("val")).unwrap_or(element);
    let expires_s = timed.and_then(|timed| timed.get("expires")).and_then(Value::as_u64);
    let parts = value.get("concat")?.as_array()?;
    let [vm, vm_port, peer, peer_port, rest @ ..] = parts.as_slice() else { return None };
    let tuple = Tuple {
        vm: address(vm)?,
        vm_port: port(vm_port)?,
        peer: address(peer)?,
        peer_port: port(peer_port)?,
    };
    if tuple.vm.is_ipv4() != tuple.peer.is_ipv4() {
        return None;
    }
    let mac = match rest {
        [] => None,
        [mac, ..] => Some(mac.as_str()?.parse().ok()?),
    };
    Some(Element { tuple, mac, expires_s })
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| port.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn told(elements: &[Value]) -> Value {
        json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "set": { "family": "netdev", "name": "seen_tcp4", "elem": elements } },
        ]})
    }

    #[test]
    fn conversations_are_read_with_and_without_times_and_macs() {
        let timed = json!({ "elem": { "val":
            { "concat": ["10.9.2.1", 40_000, "10.9.21.1", 5432, "02:00:00:00:21:01"] },
            "timeout": 3600, "expires": 3599 } });
        let plain = json!({ "concat": ["fd10::2:1", 1, "fd10::21:1", 2] });
        let told = told(&[timed, plain]);
        let read: Vec<_> = read(&told).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].tuple.peer.to_string(), "10.9.21.1");
        assert_eq!((read[0].tuple.peer_port, read[1].tuple.vm_port), (5432, 1));
        assert_eq!(read[0].mac.map(|mac| mac.to_string()).as_deref(), Some("02:00:00:00:21:01"));
        assert_eq!((read[1].mac, read[0].expires_s, read[1].expires_s), (None, Some(3_599), None));
        assert_eq!(
            (read_of(&told, "seen_tcp4").count(), read_of(&told, "seen_udp4").count()),
            (2, 0)
        );
    }

    #[test]
    fn a_set_without_elements_holds_none() {
        let told = json!({ "nftables": [{ "set": { "name": "seen_tcp4" } }] });
        assert_eq!(read(&told).count(), 0);
        assert_eq!(read(&Value::Null).count(), 0);
    }

    fn part() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!("10.0.0.1")),
            Just(json!("fd10::1")),
            Just(json!("02:00:00:00:00:01")),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just(Value::Null),
            Just(json!({ "concat": [] })),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_told_is_read_or_passed_over(
            parts in prop::collection::vec(prop::collection::vec(part(), 0..7), 0..4)
        ) {
            let elements: Vec<_> = parts.iter().map(|parts| json!({ "concat": parts })).collect();
            let told = told(&elements);
            for Element { tuple, .. } in read(&told) {
                prop_assert_eq!(tuple.vm.is_ipv4(), tuple.peer.is_ipv4());
            }
        }
    }
}
