//! What is wrong with a configuration is named, with its place; then nothing has been started.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use scenarios::house::{CONFIG, House};
use scenarios::running::Running;
use serde_json::Value;

const CHECK: [&str; 3] = ["check", "--config", "proxy.toml"];
const RUN: [&str; 3] = ["run", "--config", "proxy.toml"];

#[test]
fn a_good_configuration_is_explained_and_nothing_is_touched() {
    let house = House::new();
    let checked = house.causeway_proxy(&CHECK);
    checked.sound();
    for word in ["causeway://site/a/role/proxy/name/p1", "127.0.0.1:0", "more days"] {
        assert!(checked.stdout().contains(word), "no {word} in {}", checked.stdout());
    }
    let json = house.causeway_proxy(&[&CHECK[..], &["--json"]].concat());
    json.sound();
    let json: Value = serde_json::from_str(&json.stdout()).unwrap();
    assert_eq!((&json["sound"], &json["site"]), (&Value::Bool(true), &Value::from("a")));
    assert!(!house.path("state").exists());
}

#[test]
fn an_unknown_field_and_a_wrong_type_are_named_with_their_lines() {
    let house = House::new();
    house.configure(&CONFIG.replace("[state]", "[state]\n  size = 3"));
    for command in [CHECK, RUN] {
        let ended = house.causeway_proxy(&command);
        assert_eq!(ended.code(), Some(2));
        let wanted = "proxy.toml:12:3: unknown field 'size'; expected 'folder'\n";
        assert_eq!(ended.stderr(), wanted);
    }
    house.configure(&CONFIG.replace("\"127.0.0.1:0\"", "0"));
    let ended = house.causeway_proxy(&RUN);
    assert_eq!(ended.code(), Some(2));
    assert!(ended.stderr().starts_with("proxy.toml:4:10: 'control.listen': invalid type"));
    assert!(!house.path("state").exists());
}

#[test]
fn everything_that_is_wrong_is_named_at_once_for_programs_too() {
    let house = House::new();
    let text = CONFIG.replace("\"a\"", "\"A B\"").replace(":0\"", "\"").replace("level", "lvl");
    house.configure(&text);
    let ended = house.causeway_proxy(&[&CHECK[..], &["--json"]].concat());
    assert_eq!(ended.code(), Some(2));
    let json: Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert_eq!(json["sound"], Value::Bool(false));
    let fields: Vec<&str> = json["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["site", "control.listen", "log.lvl"]);
    assert_eq!(ended.stderr().lines().count(), 3);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let house = House::new();
    fs::set_permissions(house.path("p1/key.pem"), Permissions::from_mode(0o644)).unwrap();
    let ended = house.causeway_proxy(&RUN);
    assert_eq!(ended.code(), Some(2));
    let wanted =
        "p1/key.pem: this key may be read by others (mode 0644); run: chmod 600 p1/key.pem";
    assert_eq!(ended.stderr().trim_end(), wanted);
}

#[test]
fn somebody_elses_papers_are_refused() {
    let house = House::new();
    house.configure(&CONFIG.replace("\"a\"", "\"b\""));
    let ended = house.causeway_proxy(&RUN);
    assert_eq!(ended.code(), Some(2));
    let wanted = "the certificate is causeway://site/a/role/proxy/name/p1, but this is a proxy of \
                  site 'b'";
    assert!(ended.stderr().contains(wanted), "{}", ended.stderr());
}

#[test]
fn a_configuration_that_is_not_there_is_named_with_its_cause() {
    let house = House::new();
    let ended = house.causeway_proxy(&["check", "--config", "no.toml"]);
    assert_eq!(ended.code(), Some(2));
    assert!(ended.stderr().starts_with("no.toml: cannot be read; check the path"));
    assert!(ended.stderr().contains("No such file"));
    assert_eq!(house.causeway_proxy(&["run"]).code(), Some(2));
    assert_eq!(house.causeway_proxy(&["--version"]).code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let house = House::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    house.configure(&CONFIG.replace("127.0.0.1:0", &address));
    let ended = house.causeway_proxy(&RUN);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr().contains(&format!("{address}: the control server cannot listen")));
}

#[tokio::test]
async fn a_second_proxy_does_not_get_the_state_of_the_first() {
    let house = House::new();
    let first = Running::start(&house).await;
    let ended = house.causeway_proxy(&RUN);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr().contains("another process uses this state folder"));
    drop(first);
}
