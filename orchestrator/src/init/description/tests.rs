//! What a description means, and every way in which it can be nonsense.

use std::path::Path;

use daemon::config::parse;

use super::*;

const SOUND: &str = include_str!("../../../../examples/three-sites/causeway.toml");

fn checked(text: &str) -> Result<Description, String> {
    parse(Path::new("causeway.toml"), text.as_bytes(), check).map_err(|error| error.to_string())
}

/// The line that holds this text, from 1.
fn line_of(text: &str, part: &str) -> usize {
    text[..text.find(part).unwrap()].matches('\n').count() + 1
}

#[test]
fn three_sites_are_understood() {
    let described = checked(SOUND).unwrap();
    let names: Vec<&str> = described.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let [tcp, udp] = &described.services[..] else { panic!("{:?}", described.services) };
    assert_eq!((tcp.protocol, udp.protocol), (Protocol::Tcp, Protocol::Udp));
    let [backend] = &tcp.at[2].backends[..] else { panic!("{:?}", tcp.at) };
    let wanted = ["10.10.2.1:7000".parse().unwrap(), "[fd10:10::2:1]:7000".parse().unwrap()];
    assert_eq!((&backend.address[..], backend.vm.as_ref().unwrap().as_str()), (&wanted[..], "web"));

    let [steered] = &described.steered[..] else { panic!("{:?}", described.steered) };
    assert_eq!((steered.initial_site.as_str(), steered.at.len()), ("a", 3));
    let wanted: [IpAddr; 2] = ["198.18.2.1".parse().unwrap(), "2001:db8:2::1".parse().unwrap()];
    assert_eq!(steered.at[1].1, wanted, "both services have the same VIPs, told once");
    let records = &described.zones[0].records;
    assert_eq!(records.len(), 6, "an A and an AAAA for each name server: {records:?}");
}

#[test]
fn each_mistake_is_named_with_its_line() {
    for (from, to, named) in [
        ("name = \"hv1\"", "name = \"hv1\"\nrack = 4", "unknown field 'rack'"),
        ("name = \"p1\"", "name = \"P1\"", "'site.proxy.name': name 'P1' has a character"),
        ("[[site]]\nname = \"b\"", "[[site]]\nname = \"a\"", "'site.name': stands twice"),
        ("10.102.0.2:7401", "10.102.0.2", "'site.proxy.control': is no address"),
        ("10.102.0.2:7401", "0.0.0.0:7401", "'site.proxy.control': is no address"),
        ("10.102.0.2:7401", "10.101.0.2:7401", "'site.proxy.control': is another one's"),
        ("leg = \"leg\"", "leg = \"l/../eg\"", "'site.proxy.leg': is no interface's name"),
        ("\"fe80::1\"", "\"fd10:10::2\"", "'site.proxy.gateway': is a second one of its kind"),
        ("user = \"nobody\"", "user = \"root\"", "'site.host.user': cannot run QEMU"),
        ("accelerator = \"tcg\"", "accelerator = \"xen\"", "'site.host.accelerator'"),
        ("bridge = \"br0\"", "bridge = \"br0\"\nproxy = \"p9\"", "'site.host.proxy': is no proxy"),
        (
            "bridge = \"br0\"",
            "bridge = \"br0\"\ndisks = \"d\"",
            "'site.host.disks': is no absolute",
        ),
        ("image = \"guest\"", "image = \"none\"", "boots 'none', which is no [[image]]"),
        ("network = \"app\"\naddresses", "network = \"dmz\"\naddresses", "has a card on 'dmz'"),
        ("[[vm]]\nsite = \"a\"", "[[vm]]\nsite = \"z\"", "'vm.site': is no site"),
        ("vms = [\"web\"]", "vms = [\"db\"]", "'service.vms': is no VM"),
        ("vms = [\"web\"]\nport = 7000", "vms = [\"web\"]", "'port' is missing"),
        ("protocol = \"tcp\"", "protocol = \"sctp\"", "'service.protocol': is no protocol"),
        (
            "protocol = \"udp\"",
            "protocol = \"udp\"\nidle_timeout_ms = 99",
            "'service.idle_timeout_ms': is 99; write 100",
        ),
        (", \"[2001:db8:3::1]:7000\"]", "]", "no VIP here is IPv6, and a backend is"),
        ("\"web-tcp\", \"web-udp\"", "\"web\"", "'steered.services': is no service"),
        ("\"web.example.net\"", "\"web.example.org\"", "'steered.name': is in no [[zone]]"),
        ("\"hostmaster@", "\"hostmaster.", "'zone.contact': is no mail address"),
    ] {
        assert!(SOUND.contains(from), "{from}");
        let text = SOUND.replacen(from, to, 1);
        let error = checked(&text).unwrap_err();
        let line = error.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
        assert!(error.contains(named) && line.is_some_and(|line| line > 1), "{to}: {error}");
    }
    let text = SOUND.replacen("leg = \"leg\"", "leg = \"\"", 1);
    let line = line_of(&text, "leg = \"\"");
    assert!(checked(&text).unwrap_err().starts_with(&format!("causeway.toml:{line}:7: ")));
}

#[test]
fn of_two_proxies_one_must_be_there_to_be_dialled() {
    let line = |site: u8| format!("tunnel = \"10.10{site}.0.2:7403\"");
    let hidden = |text: &str, site| text.replacen(&line(site), "#", 1);
    let one = hidden(SOUND, 1);
    assert_eq!(checked(&one).unwrap().sites[0].proxies[0].tunnel, None);
    let error = checked(&hidden(&one, 3)).unwrap_err();
    assert!(error.contains("neither has a proxy of site a"), "{error}");
}

#[test]
fn hosts_that_would_share_a_proxy_are_refused() {
    let second =
        "[[site.host]]\nname = \"hv2\"\naddress = \"10.101.0.4:7402\"\nbridge = \"br0\"\n\n";
    let text = SOUND.replacen("[[site.name_server]]", &format!("{second}[[site.name_server]]"), 1);
    let error = checked(&text).unwrap_err();
    assert!(error.contains("would share proxy p1 with host hv1"), "{error}");
}

#[test]
fn a_site_of_several_proxies_is_told_apart_and_zones_need_servers() {
    let second = "[[site.proxy]]\nname = \"p2\"\ncontrol = \"10.101.0.4:7401\"\n\
                  tunnel = \"10.101.0.4:7403\"\nnetwork = \"app\"\nleg = \"leg\"\n\n";
    let text = SOUND.replacen("[[site.host]]", &format!("{second}[[site.host]]"), 1);
    let error = checked(&text).unwrap_err();
    assert!(error.contains("site a has 2 proxies"), "{error}");

    let mut rest = SOUND.split("[[site.name_server]]");
    let begin = rest.next().unwrap().to_owned();
    let without = rest.fold(begin, |text, part| text + part.split_once("\n\n").unwrap().1);
    let error = checked(&without).unwrap_err();
    assert!(error.contains("'zone.name': has nobody to serve it"), "{error}");
}
