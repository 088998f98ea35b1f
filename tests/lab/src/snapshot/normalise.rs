//! From a tool's JSON to a line that is the same as long as the thing is: keys in order, without
//! what changes by itself.

use serde_json::{Map, Value};

/// Counters, ages and numbers that the kernel hands out, and what a bridge works out for itself.
const VOLATILE: [&str; 28] = [
    "age",
    "bridge_id",
    "bytes",
    "config_pending",
    "confirmed",
    "designated_bridge",
    "designated_cost",
    "designated_port",
    "designated_root",
    "expires",
    "handle",
    "id",
    "ifindex",
    "link_index",
    "link_netnsid",
    "no",
    "packets",
    "preferred_life_time",
    "probes",
    "refcnt",
    "root_id",
    "root_path_cost",
    "root_port",
    "topology_change",
    "topology_change_ack",
    "topology_change_detected",
    "updated",
    "valid_life_time",
];
/// Properties of drivers that nobody sets; they would bury what matters.
const NOT_TOLD: [&str; 13] = [
    "gro_ipv4_max_size",
    "gro_max_size",
    "group_fwd_mask_str",
    "gso_ipv4_max_size",
    "gso_max_segs",
    "gso_max_size",
    "link_type",
    "max_mtu",
    "min_mtu",
    "num_rx_queues",
    "num_tx_queues",
    "tso_max_segs",
    "tso_max_size",
];

/// One line for one object.
pub(super) fn line(object: &Map<String, Value>) -> String {
    let mut keys: Vec<&String> = object.keys().filter(|key| !is_left_out(key)).collect();
    keys.sort();
    let parts: Vec<_> =
        keys.into_iter().map(|key| format!("{key}={}", told(key, &object[key]))).collect();
    parts.join(" ")
}

/// A device whose driver says nothing of its state is used like one that is up, and becomes one with the
/// first event, up to a second later: whoever looks in between would see a change that nobody made.
fn told(key: &str, value: &Value) -> String {
    match key {
        "operstate" if value == "UNKNOWN" => "UP".to_owned(),
        _ => text(value),
    }
}

/// Whether a neighbour was written down by somebody, not learned.
pub(super) fn is_permanent(neighbour: &Map<String, Value>) -> bool {
    neighbour
        .get("state")
        .and_then(Value::as_array)
        .is_some_and(|states| states.iter().any(|state| state == "PERMANENT"))
}

/// Whether a bridge's entry was set by somebody: neither learned, nor an interface's own filter, nor
/// the bridge's entry for one of its ports' own addresses, `own`.
pub(super) fn is_set_on_a_bridge(entry: &Map<String, Value>, own: &[String]) -> bool {
    let is_set = entry.get("state").is_some_and(|state| state == "permanent" || state == "static");
    let is_own = entry
        .get("mac")
        .and_then(Value::as_str)
        .is_some_and(|mac| own.iter().any(|own| own == mac));
    is_set && !is_own && entry.contains_key("master")
}

/// Takes a set's elements out of it, a line for each: a set that gained one is no other set.
pub(super) fn take_elements(object: &mut Map<String, Value>) -> Vec<String> {
    let set = ["set", "map"].into_iter().find(|kind| object.contains_key(*kind));
    let Some(Value::Object(set)) = set.and_then(|kind| object.get_mut(kind)) else {
        return Vec::new();
    };
    let Some(Value::Array(elements)) = set.remove("elem") else {
        return Vec::new();
    };
    let part = |key: &str| set.get(key).map(text).unwrap_or_default();
    let of = format!("{} {} {}", part("family"), part("table"), part("name"));
    elements.iter().map(|element| format!("element={} set={of}", text(element))).collect()
}

fn is_left_out(key: &str) -> bool {
    VOLATILE.contains(&key) || NOT_TOLD.contains(&key) || key.ends_with("_timer")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        Value::Array(values) => {
            let parts: Vec<_> = values.iter().map(text).collect();
            format!("[{}]", parts.join(","))
        }
        Value::Object(object) => format!("{{{}}}", line(object)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn counters_and_handles_do_not_show_at_any_depth() {
        let rule = object(
            r#"{"rule":{"handle":4,"table":"t","expr":[{"counter":{"packets":7,"bytes":9}},{"drop":null}]}}"#,
        );
        assert_eq!(line(&rule), "rule={expr=[{counter={}},{drop=null}] table=t}");
    }

    #[test]
    fn a_device_that_says_nothing_of_its_state_is_told_as_up_and_one_that_is_down_as_down() {
        for (state, told) in [("UNKNOWN", "UP"), ("UP", "UP"), ("DOWN", "DOWN")] {
            let link = object(&format!(r#"{{"ifname":"tun0","operstate":"{state}"}}"#));
            assert_eq!(line(&link), format!("ifname=tun0 operstate={told}"));
        }
    }

    #[test]
    fn elements_are_told_apart_from_their_set() {
        let mut set = object(
            r#"{"set":{"family":"ip","table":"t","name":"s","elem":[{"elem":{"val":"1.2.3.4","expires":9}},7]}}"#,
        );
        let elements = take_elements(&mut set);
        assert_eq!(elements, ["element={elem={val=1.2.3.4}} set=ip t s", "element=7 set=ip t s"]);
        assert_eq!(line(&set), "set={family=ip name=s table=t}");
    }

    #[test]
    fn only_what_somebody_wrote_down_counts_as_permanent() {
        assert!(is_permanent(&object(r#"{"dst":"10.0.0.1","state":["PERMANENT"]}"#)));
        assert!(!is_permanent(&object(r#"{"dst":"10.0.0.1","state":["STALE"]}"#)));
        assert!(!is_permanent(&object(r#"{"dst":"10.0.0.1"}"#)));
        let entry =
            |state: &str| object(&format!(r#"{{"mac":"m","master":"br0","state":"{state}"}}"#));
        assert!(is_set_on_a_bridge(&entry("static"), &[]));
        assert!(!is_set_on_a_bridge(&entry("permanent"), &["m".to_owned()]));
        assert!(!is_set_on_a_bridge(&entry(""), &[]));
        let filter = object(r#"{"mac":"m","flags":["self"],"state":"permanent"}"#);
        assert!(!is_set_on_a_bridge(&filter, &[]));
    }
}
