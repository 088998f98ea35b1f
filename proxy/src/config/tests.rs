//! What a file of services means, and every way in which it can be nonsense.

use std::path::Path;
use std::time::Duration;

use daemon::config::{ConfigError, parse};
use proxy_api::Protocol;

use super::{Config, WhenAllDown, check};

const BASICS: &str = r#"site = "a"
[control]
listen = "127.0.0.1:0"
[identity]
certificate = "c"
key = "k"
authority = "a"
[state]
folder = "s"
"#;

const WEB: &str = r#"[[service]]
name = "web"
protocol = "tcp"
listen = ["192.0.2.1:80", "[2001:db8::1]:80"]
[[service.backend]]
name = "b1"
address = ["10.0.0.1:80", "[fd10::1]:80"]
vm = "web"
"#;

fn read(services: &str) -> Result<Config, ConfigError> {
    parse(Path::new("proxy.toml"), format!("{BASICS}{services}").as_bytes(), check)
}

/// All that is wrong, each with its place.
fn wrong(services: &str) -> String {
    read(services).unwrap_err().to_string()
}

#[test]
fn a_service_without_numbers_has_the_stated_defaults() {
    let config = read(WEB).unwrap();
    let [web] = &config.services[..] else { panic!("{config:?}") };
    assert_eq!((web.protocol, web.vips.len()), (Protocol::Tcp, 2));
    assert_eq!((web.connect_timeout, web.idle_timeout), (Duration::from_secs(5), None));
    assert_eq!((web.flows_max, web.when_all_down), (50_000, WhenAllDown::Refuse));
    assert_eq!(web.health, None);
    assert_eq!(web.backends[0].vm.as_ref().unwrap().as_str(), "web");
    assert_eq!(config.limits.flows_max, 200_000);
    assert_eq!(config.limits.shutdown_drain, Duration::from_secs(1));

    let udp = read(&WEB.replace("\"tcp\"", "\"udp\"")).unwrap();
    assert_eq!(udp.services[0].idle_timeout, Some(Duration::from_secs(60)));
}

#[test]
fn a_proxy_may_serve_nothing_yet() {
    assert_eq!(read("").unwrap().services, []);
}

#[test]
fn every_problem_is_named_with_its_line() {
    let text = WEB
        .replace("192.0.2.1:80", "0.0.0.0:80")
        .replace("[fd10::1]:80", "[ff02::1]:80")
        .replace("listen", "idle_timeout_ms = 5\nlisten");
    let wrong = wrong(&text);
    for line in [
        "proxy.toml:13:19: 'service.0.idle_timeout_ms': is 5; write 100 to ",
        "proxy.toml:14:11: 'service.0.listen': is no address of one host",
        "proxy.toml:17:27: 'service.0.backend.address': is no address of one host",
    ] {
        assert!(wrong.contains(line), "no {line} in {wrong}");
    }
}

#[test]
fn a_family_that_only_one_end_has_is_refused() {
    let no_backend = wrong(&WEB.replace(", \"[fd10::1]:80\"", ""));
    assert!(
        no_backend.contains("13:27: 'service.0.listen': no backend has an IPv6"),
        "{no_backend}"
    );
    let no_vip = wrong(&WEB.replace(", \"[2001:db8::1]:80\"", ""));
    assert!(no_vip.contains("backend.address': no VIP of the service is IPv6"), "{no_vip}");
}

#[test]
fn what_two_would_claim_is_refused() {
    let second = WEB.replace("\"web\"\nprotocol", "\"other\"\nprotocol");
    let both = wrong(&format!("{WEB}{second}"));
    assert!(both.contains("service 'web' listens on tcp 192.0.2.1:80 already"), "{both}");
    assert!(both.contains("service 'web' listens on tcp [2001:db8::1]:80 already"), "{both}");
    // The same port of another protocol is another place.
    read(&format!("{WEB}{}", second.replace("\"tcp\"", "\"udp\""))).unwrap();

    let twice = format!("{WEB}{}", WEB.replace(":80", ":81"));
    assert!(wrong(&twice).contains("'web' is the name of an earlier service"));
    let backend = WEB.split_once("[[service.backend]]").unwrap().1;
    let twice = wrong(&format!("{WEB}[[service.backend]]{backend}"));
    assert!(twice.contains("'b1' is an earlier backend's name"), "{twice}");
    assert!(twice.contains("an earlier backend is at 10.0.0.1:80"), "{twice}");
    let same = wrong(&WEB.replace("10.0.0.1:80", "10.0.0.1:80\", \"10.0.0.2:80"));
    assert!(same.contains("is a second one of its family"), "{same}");
}

#[test]
fn nonsense_is_refused_by_name() {
    let health = "[service.health]\n[[service.backend]]";
    for (from, to, message) in [
        ("10.0.0.1:80", "10.0.0.1", "is no address with a port"),
        ("10.0.0.1:80", "10.0.0.1:0", "has port 0"),
        ("10.0.0.1:80", "192.0.2.1:80", "which would call itself"),
        ("[2001:db8::1]:80", "[fe80::1]:80", "is no address of one host"),
        ("[\"192.0.2.1:80\", \"[2001:db8::1]:80\"]", "[]", "has 0 entries"),
        ("listen", "source = [\"0.0.0.0\"]\nlisten", "is no address to dial from"),
        ("listen", "flows_max = 0\nlisten", "is 0; write 1 to"),
        ("listen", "when_all_down = \"panic\"\nlisten", "unknown variant 'panic'"),
        ("\"tcp\"", "\"sctp\"", "unknown variant 'sctp'"),
        ("\"tcp\"", "\"udp\"\nconnect_timeout_ms = 100", "is for TCP alone"),
        ("listen", "listem", "unknown field 'listem'"),
    ] {
        let wrong = wrong(&WEB.replacen(from, to, 1));
        assert!(wrong.contains(message), "no '{message}' in: {wrong}");
    }
    let udp = WEB.replace("\"tcp\"", "\"udp\"").replacen("[[service.backend]]", health, 1);
    assert!(wrong(&udp).contains("needs 'port'"), "{}", wrong(&udp));
    let lone = WEB.split_once("[[service.backend]]").unwrap().0;
    assert!(wrong(lone).contains("'service.0.backend': has 0 entries"), "{}", wrong(lone));
    assert!(wrong("[limits]\nflows_max = 0\n").contains("limits.flows_max"));
}

#[test]
fn a_network_has_one_leg_and_a_gateway_of_each_family() {
    let text =
        "[[network]]\nname = \"apps\"\nleg = \"eth1\"\ngateway = [\"10.0.0.254\", \"fd10::fe\"]\n";
    assert_eq!(read(WEB).unwrap().network, None);
    let network = read(text).unwrap().network.unwrap();
    assert_eq!((network.leg.as_str(), network.namespace.as_str()), ("eth1", "causeway-apps"));
    assert_eq!((network.gateways.len(), network.link_local), (2, None));
    let on_link = read(&text.replace("fd10::fe\"", "fd10::fe\", \"fe80::1\"")).unwrap();
    let network = on_link.network.unwrap();
    assert_eq!(network.gateways.len(), 2);
    assert_eq!(network.link_local, Some("fe80::1".parse().unwrap()));
    let second = text.replace("apps", "dmz");
    let twice = wrong(&format!("{text}{second}"));
    assert!(twice.contains("is a second network"), "{twice}");
    for (from, to, message) in [
        ("eth1", "", "is no interface's name"),
        ("eth1", "eth1/..", "is no interface's name"),
        ("eth1", "sixteen-bytes-xx", "is no interface's name"),
        ("fd10::fe", "10.0.0.253", "is a second one of its kind"),
        ("fd10::fe", "ff02::1", "is no address of a router"),
        ("fd10::fe", "apps", "is no address"),
        ("leg =", "namespace = \"../x\"\nleg =", "network.0.namespace"),
    ] {
        let wrong = wrong(&text.replacen(from, to, 1));
        assert!(wrong.contains(message), "no '{message}' in: {wrong}");
    }
}

#[test]
fn health_is_checked_with_the_stated_defaults() {
    let text =
        WEB.replacen("[[service.backend]]", "[service.health]\nfall = 1\n[[service.backend]]", 1);
    let health = read(&text).unwrap().services[0].health.unwrap();
    assert_eq!((health.interval, health.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((health.rise, health.fall, health.port), (2, 1, None));
}
