//! What a file of zones and names means, and every way in which it can be nonsense.

use std::path::Path;

use daemon::config::{ConfigError, parse};

use super::{Config, check};

const BASICS: &str = r#"site = "a"
name = "ns1"
[control]
listen = "127.0.0.1:0"
[identity]
certificate = "c"
key = "k"
authority = "a"
[state]
folder = "s"
[dns]
listen = ["192.0.2.10:53", "[2001:db8::10]:53"]
"#;

pub(crate) const ZONES: &str = r#"[[zone]]
name = "Example.net."
ns = ["ns1.example.net", "ns.example.org"]
contact = "host.master@example.net"
negative_ttl_s = 7
[[zone.record]]
name = "ns1.example.net"
type = "A"
data = ["192.0.2.10"]
[[zone.record]]
name = "example.net"
type = "MX"
data = ["10 mail.deep.example.net"]
[[zone.record]]
name = "mail.deep.example.net"
type = "AAAA"
data = ["2001:db8::25"]
ttl_s = 60
[[zone.record]]
name = "www.example.net"
type = "CNAME"
data = ["shop.example.net"]
[[zone.record]]
name = "out.example.net"
type = "CNAME"
data = ["elsewhere.example.org"]
[[zone.record]]
name = "nowhere.example.net"
type = "CNAME"
data = ["missing.example.net"]
[[zone.record]]
name = "round.example.net"
type = "CNAME"
data = ["about.example.net"]
[[zone.record]]
name = "about.example.net"
type = "CNAME"
data = ["round.example.net"]
[[zone.record]]
name = "*.apps.example.net"
type = "TXT"
data = ["any app"]
[[zone.record]]
name = "long.example.net"
type = "TXT"
data = ["LONG0", "LONG1", "LONG2", "LONG3", "LONG4", "LONG5", "LONG6", "LONG7"]
[[steered]]
name = "shop.example.net"
vms = ["web-1"]
initial_site = "a"
ttl_s = 300
ttl_moving_s = 5
[[steered.at]]
site = "a"
address = ["192.0.2.80", "2001:db8:a::80"]
[[steered.at]]
site = "b"
address = ["198.51.100.80", "2001:db8:b::80"]
[[steered]]
name = "pair.example.net"
vms = ["web-1", "web-2"]
initial_site = "a"
[[steered.at]]
site = "a"
address = ["192.0.2.81"]
[[steered.at]]
site = "b"
address = ["198.51.100.81"]
"#;

/// The configuration that the tests of other files go by.
pub(crate) fn config() -> Config {
    read(&zones()).unwrap()
}

/// [`ZONES`] with a text that does not fit into a datagram.
pub(crate) fn zones() -> String {
    (0..8).fold(ZONES.to_owned(), |text, n| {
        text.replace(&format!("LONG{n}"), &format!("{n}{}", "x".repeat(240)))
    })
}

pub(crate) fn read(zones: &str) -> Result<Config, ConfigError> {
    parse(Path::new("gslb.toml"), format!("{BASICS}{zones}").as_bytes(), check)
}

#[test]
fn what_is_not_written_has_the_stated_defaults() {
    let config = config();
    let [zone] = &config.zones[..] else { panic!("{config:?}") };
    assert_eq!(zone.apex.to_string(), "example.net.");
    assert_eq!((zone.ttl_s, zone.negative_ttl_s), (3_600, 7));
    assert_eq!(zone.contact.to_ascii(), "host\\.master.example.net.");
    let [shop, pair] = &config.steered[..] else { panic!("{config:?}") };
    assert_eq!((shop.ttl_s, shop.ttl_moving_s), (300, 5));
    assert_eq!((pair.ttl_s, pair.ttl_moving_s, pair.negative_ttl_s), (300, 5, 7));
    assert_eq!(config.dns.tcp_connections_max, 512);
}

#[test]
fn nonsense_is_refused_by_name_and_line() {
    for (from, to, message) in [
        ("negative_ttl_s", "negativ_ttl_s", "gslb.toml:17:1: unknown field 'negativ_ttl_s'"),
        ("vms = [\"web-1\"]", "vms = [\"web-1\"]\nplace = \"most\"", "rule 'most' is not offered"),
        ("vms = [\"web-1\"]", "vms = []", "has 0 entries"),
        ("vms = [\"web-1\"]", "vms = [\"web-1\", \"web-1\"]", "is there twice"),
        ("initial_site = \"a\"", "initial_site = \"c\"", "has no [[steered.at]]"),
        ("\"shop.example.net\"\nvms", "\"shop.example.org\"\nvms", "is in no [[zone]]"),
        ("\"pair.example.net\"", "\"shop.example.net\"", "is steered already"),
        ("\"pair.example.net\"", "\"ns1.example.net\"", "has addresses, or an alias"),
        ("\"pair.example.net\"", "\"*.example.net\"", "is a pattern"),
        (
            "site = \"b\"\naddress = [\"198.51.100.80\"",
            "site = \"a\"\naddress = [\"198.51.100.80\"",
            "is there twice",
        ),
        ("\"192.0.2.81\"", "\"192.0.2.81\", \"192.0.2.81\"", "is there twice"),
        ("\"192.0.2.81\"", "\"0.0.0.0\"", "is no address of one host"),
        ("ttl_moving_s = 5", "ttl_moving_s = 301", "longer than ttl_s"),
        ("ttl_s = 300", "ttl_s = 700000", "is 700000; write 0 to 604800"),
        ("host.master@", "", "is no mail address"),
        ("\"A\"", "\"SRV\"", "is no type that is served"),
        ("data = [\"192.0.2.10\"]", "data = [\"ns\"]", "is no data of type A"),
        ("\"10 mail", "\"mail", "is no data of type MX"),
        ("name = \"ns1.example.net\"", "name = \"ns2.example.net\"", "has no address in its zone"),
        ("name = \"ns1.example.net\"", "name = \"ns1\"", "is not in zone 'example.net'"),
        ("\"about.example.net\"\ntype", "\"round.example.net\"\ntype", "is an alias and has other"),
        ("\"www.example.net\"", "\"example.net\"", "the zone's own name cannot be one"),
        ("\"Example.net.\"", "\"exa mple\"", "is no name"),
    ] {
        let text = zones();
        assert!(text.contains(from), "{from}");
        let wrong = read(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(wrong.contains(message), "no '{message}' in: {wrong}");
    }
    assert!(read("").unwrap_err().to_string().contains("there are 0 zones"));
    let twice = format!("{}{}", zones(), zones());
    assert!(read(&twice).unwrap_err().to_string().contains("is an earlier zone's name"));
}

#[test]
fn it_listens_where_an_answer_comes_from_the_address_that_was_asked() {
    for (place, message) in [
        ("0.0.0.0:53", "is no address of one host"),
        ("[::]:53", "is no address of one host"),
        ("192.0.2.10", "is no address with a port"),
        ("[2001:db8::10]:53", "is there twice"),
    ] {
        let text = format!("{BASICS}{}", zones()).replacen("192.0.2.10:53", place, 1);
        let wrong = parse(Path::new("gslb.toml"), text.as_bytes(), check).unwrap_err();
        assert!(wrong.to_string().contains(message), "no '{message}' in: {wrong}");
    }
}

#[test]
fn a_record_that_an_inner_zone_would_hide_is_refused() {
    let inner =
        "[[zone]]\nname = \"deep.example.net\"\nns = [\"ns1.example.net\"]\ncontact = \"a@b.c\"\n";
    let wrong = read(&format!("{}{inner}", zones())).unwrap_err().to_string();
    assert!(wrong.contains("27:8: 'zone.0.record.name': is in zone 'deep.example.net'"), "{wrong}");
    let elsewhere = inner.replace("deep", "other");
    assert_eq!(read(&format!("{}{elsewhere}", zones())).unwrap().zones.len(), 2);
}
