//! What can be asked of services and flows, and what an answer to nonsense says.

use placement::Role;
use proxy_api::{CallError, FlowId, FlowQuery};
use scenarios::house::{CONFIG, House};
use scenarios::site::{Site, service};
use serde_json::Value;

#[test]
fn check_tells_the_services_for_people_and_for_programs() {
    let house = House::new();
    let web = service(
        "web",
        "tcp",
        &["192.0.2.1:80".parse().unwrap()],
        "idle_timeout_ms = 7000\n[service.health]\ninterval_ms = 500",
        &[&["10.0.0.1:8080".parse().unwrap()]],
    );
    house.configure(&format!("{CONFIG}\n{web}"));
    let told = house.causeway_proxy(&["check", "--config", "proxy.toml"]);
    told.sound();
    let line = "web (tcp) on 192.0.2.1:80 -> b0 [10.0.0.1:8080]; checked each 500 ms, idle at most \
                7000 ms";
    assert!(told.stdout().contains(line), "{}", told.stdout());
    let json = house.causeway_proxy(&["check", "--json", "--config", "proxy.toml"]);
    let json: Value = serde_json::from_str(&json.stdout()).unwrap();
    assert_eq!(json["services"][0]["listen"][0], "192.0.2.1:80");
    assert_eq!(json["services"][0]["backends"][0]["addresses"][0], "10.0.0.1:8080");
}

#[test]
fn a_source_that_the_host_does_not_have_is_named_at_the_start() {
    let house = House::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let backend = "10.0.0.1:8080".parse().unwrap();
    let web = service("web", "tcp", &[free], "source = [\"192.0.2.9\"]", &[&[backend]]);
    house.configure(&format!("{CONFIG}\n{web}"));
    let ended = house.causeway_proxy(&["run", "--config", "proxy.toml"]);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr().contains("192.0.2.9: cannot dial from there"), "{}", ended.stderr());
}

#[test]
fn nonsense_is_refused_by_name() {
    let site = Site::new();
    site.configure("");
    let proxy = site.start();
    let query = FlowQuery { limit: Some(0), ..FlowQuery::default() };
    let refused = proxy.call(Role::Viewer, async |client| client.flows(&query).await).unwrap_err();
    let CallError::Refused { status: 400, refusal } = refused else { panic!("{refused}") };
    assert_eq!(refusal.code, "bad_query");

    let id = FlowId { boot_us: 1, number: 1 };
    let unknown = proxy.call(Role::Viewer, async |client| client.flow(id).await).unwrap_err();
    let CallError::Refused { status: 404, refusal } = unknown else { panic!("{unknown}") };
    assert_eq!(refusal.code, "unknown_flow");
    assert!(proxy.flows().is_empty());
}
