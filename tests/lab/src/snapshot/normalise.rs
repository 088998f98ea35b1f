//! From a tool's JSON to a line that is the same as long as the thing is: keys in order, without
//! what changes by itself.

use serde_json::{Map, Value};

/// Numbers and times that the kernel hands out or counts.
const VOLATILE: [&str; 22] = [
    "age",
    "bytes",
    "confirmed",
    "expires",
    "handle",
    "ifindex",
    "link_index",
    "link_netnsid",
    "packets",
    "preferred_life_time",
    "probes",
    "refcnt",
    "root_id",
    "root_path_cost",
    "root_port",
    "designated_root",
    "topology_change",
    "topology_change_detected",
    "updated",
    "used",
    "valid_life_time",
    "designated_bridge",
];

/// One line for one object.
pub(super) fn line(object: &Map<String, Value>) -> String {
    let mut keys: Vec<&String> = object.keys().filter(|key| !is_volatile(key)).collect();
    keys.sort();
    let parts: Vec<_> =
        keys.into_iter().map(|key| format!("{key}={}", text(&object[key]))).collect();
    parts.join(" ")
}

/// Whether a neighbour was written down by somebody, not learned.
pub(super) fn is_permanent(neighbour: &Map<String, Value>) -> bool {
    neighbour
        .get("state")
        .and_then(Value::as_array)
        .is_some_and(|states| states.iter().any(|state| state == "PERMANENT"))
}

/// Whether a bridge's entry was set by somebody: neither learned, nor an interface's own filter.
pub(super) fn is_set_on_a_bridge(entry: &Map<String, Value>) -> bool {
    let is_set = entry.get("state").is_some_and(|state| state == "permanent" || state == "static");
    is_set && entry.contains_key("master")
}

fn is_volatile(key: &str) -> bool {
    VOLATILE.contains(&key) || key.ends_with("_timer")
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
    fn only_what_somebody_wrote_down_counts_as_permanent() {
        assert!(is_permanent(&object(r#"{"dst":"10.0.0.1","state":["PERMANENT"]}"#)));
        assert!(!is_permanent(&object(r#"{"dst":"10.0.0.1","state":["STALE"]}"#)));
        assert!(!is_permanent(&object(r#"{"dst":"10.0.0.1"}"#)));
        assert!(is_set_on_a_bridge(&object(r#"{"mac":"m","master":"br0","state":"static"}"#)));
        assert!(!is_set_on_a_bridge(&object(r#"{"mac":"m","master":"br0","state":""}"#)));
        assert!(!is_set_on_a_bridge(&object(
            r#"{"mac":"m","flags":["self"],"state":"permanent"}"#
        )));
    }
}
