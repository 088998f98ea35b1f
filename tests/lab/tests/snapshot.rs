//! The clean-up check finds whatever is left behind, exactly that, and nothing where nothing was.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use lab::host::Host;
use lab::sandbox::{Launch, Place, PlacePlan};
use lab::snapshot::{Allowance, Change, Difference, Kind, Snapshot};
use lab::world::{World, WorldPlan, addresses};

/// A place with one host that has an interface and a bridge.
fn place(name: &str) -> (Place, Host) {
    let place = Place::make(&PlacePlan::named(name)).unwrap();
    place.add_hosts(&["proxy"]).unwrap();
    let host = place.host(Some("proxy"));
    host.ip_batch(
        "link add leg type veth peer name far\nlink add br0 type bridge forward_delay 0\n\
         link set leg addrgenmode none\nlink set far addrgenmode none\n\
         link set br0 addrgenmode none\nlink set leg up\nlink set far master br0 up\n\
         addr add 10.9.0.1/24 dev leg\naddr add fd09::1/64 dev leg nodad\n\
         link set br0 up\n",
    )
    .unwrap();
    host.wait_for_carrier().unwrap();
    (place, host)
}

fn difference_of(place: &Place, plant: impl FnOnce()) -> Difference {
    let before = Snapshot::take(place).unwrap();
    plant();
    before.compare(&Snapshot::take(place).unwrap(), &[])
}

/// Exactly one thing came, of this kind and with this in its line.
#[track_caller]
fn assert_one_came(difference: &Difference, kind: Kind, piece: &str) {
    print!("{difference}");
    let [Change::Came(item)] = &difference.unexplained[..] else {
        panic!("not exactly one: {difference}");
    };
    assert!(item.kind == kind && item.text.contains(piece), "{item}");
}

#[test]
fn an_untouched_place_shows_no_difference() {
    let (place, _) = place("untouched");
    let difference = difference_of(&place, || {});
    assert!(difference.unexplained.is_empty(), "{difference}");
}

#[test]
fn each_planted_thing_is_seen_and_nothing_else() {
    let (place, host) = place("planted");
    let planted = |kind, command: &[&str], piece: &str| {
        let difference = difference_of(&place, || drop(host.succeed(command).unwrap()));
        assert_one_came(&difference, kind, piece);
    };
    let ip = |kind, line: &str, piece: &str| {
        let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
        planted(kind, &words, piece);
    };
    ip(Kind::Route, "route add 10.77.0.0/16 dev leg table 120", "table=120");
    ip(Kind::Route, "route add fd77::/64 dev leg table 121", "table=121");
    ip(Kind::Route, "route add 10.9.0.200/32 dev leg", "dst=10.9.0.200");
    ip(Kind::Rule, "rule add iif leg lookup 120 pref 1000", "priority=1000");
    ip(Kind::Rule, "-6 rule add fwmark 2 lookup 120 pref 1090", "priority=1090");
    ip(
        Kind::Neighbour,
        "neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev leg nud permanent",
        "10.9.0.7",
    );
    ip(
        Kind::Neighbour,
        "neigh add fd09::7 lladdr 02:00:00:00:00:07 dev leg nud permanent",
        "fd09::7",
    );
    ip(Kind::ProxyNeighbour, "neigh add proxy 10.9.0.8 dev leg", "10.9.0.8");
    ip(Kind::ProxyNeighbour, "neigh add proxy fd09::8 dev leg", "fd09::8");
    ip(Kind::Link, "link add rest0 type bridge", "rest0 ");
    let add = ["ip", "addr", "add", "10.9.0.9/32", "dev", "rest0"];
    let difference = difference_of(&place, || drop(host.succeed(&add).unwrap()));
    let kinds: Vec<_> = difference.unexplained.iter().map(|change| change.item().kind).collect();
    assert_eq!(
        kinds,
        [Kind::Address, Kind::Route],
        "an address brings a local route: {difference}"
    );
    planted(
        Kind::BridgeEntry,
        &["bridge", "fdb", "replace", "02:00:00:00:00:07", "dev", "far", "master", "static"],
        "mac=02:00:00:00:00:07",
    );
    planted(Kind::Nft, &["nft", "add", "table", "netdev", "causeway_vm1"], "name=causeway_vm1");
    planted(
        Kind::Nft,
        &["nft", "add", "set", "netdev", "causeway_vm1", "seen", "{ type ipv4_addr; }"],
        "name=seen",
    );
    planted(
        Kind::Nft,
        &["nft", "add", "element", "netdev", "causeway_vm1", "seen", "{ 10.9.0.7 }"],
        "10.9.0.7",
    );
}

#[test]
fn each_planted_setting_process_listener_and_file_is_seen() {
    let (place, host) = place("planted-too");
    let write = "echo 1 > /proc/sys/net/ipv6/conf/leg/proxy_ndp";
    let difference = difference_of(&place, || drop(host.succeed(&["sh", "-c", write]).unwrap()));
    let texts: Vec<_> =
        difference.unexplained.iter().map(|change| change.item().text.as_str()).collect();
    let setting = "ipv6/conf/leg/proxy_ndp";
    assert_eq!(texts, [format!("{setting} = 0"), format!("{setting} = 1")], "{difference}");

    let mut process = None;
    let launch = Launch::new("sleep").arg("2001");
    let difference = difference_of(&place, || process = Some(host.spawn(&launch).unwrap()));
    assert_one_came(&difference, Kind::Process, "sleep 2001");
    assert_eq!(difference.unexplained[0].item().host, "planted-too/proxy");

    let (mut tcp, mut udp) = (None, None);
    let difference = difference_of(&place, || {
        tcp = Some(host.inside(|| TcpListener::bind("10.9.0.1:80")).unwrap().unwrap());
    });
    assert_one_came(&difference, Kind::Listener, "tcp LISTEN 10.9.0.1:80");
    let difference = difference_of(&place, || {
        udp = Some(host.inside(|| UdpSocket::bind("[fd09::1]:53")).unwrap().unwrap());
    });
    assert_one_came(&difference, Kind::Listener, "udp UNCONN [fd09::1]:53");

    for path in [
        "/var/lib/causeway/epochs",
        "/run/causeway.pid",
        "/tmp/left",
        "/etc/left.conf",
        "/dev/shm/left",
    ] {
        let difference = difference_of(&place, || place.write_file(Path::new(path), "1").unwrap());
        assert_one_came(&difference, Kind::File, path);
    }
    let rewrite = || place.write_file(Path::new("/var/lib/causeway/epochs"), "2").unwrap();
    let difference = difference_of(&place, rewrite);
    assert_eq!(difference.unexplained.len(), 2, "the old content went, the new came: {difference}");
}

#[test]
fn a_unix_listener_shows_as_a_socket_and_as_its_file() {
    let (place, host) = place("unix");
    let path = place.path(Path::new("/run/left.sock"));
    let mut listener = None;
    let difference = difference_of(&place, || {
        // Bound through the place's root, so the kernel's name of it is the machine's path.
        listener = Some(host.inside(|| UnixListener::bind(&path)).unwrap().unwrap());
    });
    let kinds: Vec<_> = difference.unexplained.iter().map(|change| change.item().kind).collect();
    assert_eq!(kinds, [Kind::File, Kind::Listener], "{difference}");
}

#[test]
fn a_mount_and_a_namespace_are_seen() {
    let (place, host) = place("mounts");
    // mount(8) keeps a folder of its own, which is a leftover too, but not the one looked for.
    host.succeed(&["mkdir", "-p", "/run/mount"]).unwrap();
    let mount = ["mount", "-t", "tmpfs", "left", "/var/lib/causeway"];
    let difference = difference_of(&place, || drop(host.succeed(&mount).unwrap()));
    assert_one_came(&difference, Kind::Mount, "/var/lib/causeway tmpfs");
    let difference = difference_of(&place, || place.add_hosts(&["left"]).unwrap());
    let file = difference.unexplained.iter().find(|change| change.item().kind == Kind::File);
    assert!(file.unwrap().item().text.starts_with("/run/netns/left "), "{difference}");
}

#[test]
fn what_is_removed_shows_as_gone() {
    let (place, host) = place("removed");
    host.succeed(&["nft", "add", "table", "ip", "kept"]).unwrap();
    let difference = difference_of(&place, || {
        host.succeed(&["nft", "delete", "table", "ip", "kept"]).unwrap();
    });
    let [Change::Went(item)] = &difference.unexplained[..] else {
        panic!("{difference}");
    };
    assert!(item.kind == Kind::Nft && item.text.contains("name=kept"), "{item}");
}

#[test]
fn counters_that_grow_are_no_difference_and_allowed_lines_are_named() {
    let (place, host) = place("allowed");
    let rules =
        b"table ip count { chain out { type filter hook output priority 0; counter\n }\n }\n";
    host.succeed_with(&["nft", "-f", "-"], rules).unwrap();
    let before = Snapshot::take(&place).unwrap();
    let socket = host.inside(|| UdpSocket::bind("10.9.0.1:0")).unwrap().unwrap();
    socket.send_to(b"x", "10.9.0.1:9").unwrap();
    drop(socket);
    place.write_file(Path::new("/var/log/causeway/proxy.log"), "x").unwrap();
    let log = Allowance::new("the proxy's log", Kind::File, "/var/log/causeway/");
    let difference = before.compare(&Snapshot::take(&place).unwrap(), &[log]);
    assert!(difference.unexplained.is_empty(), "{difference}");
    assert_eq!(difference.allowed.len(), 1);
    assert!(difference.to_string().contains("(the proxy's log)"), "{difference}");
}

#[test]
fn a_world_that_carried_traffic_shows_no_difference() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let take =
        || -> Vec<_> { world.places().map(|place| Snapshot::take(place).unwrap()).collect() };
    let before = take();
    for site in world.sites() {
        for (from, to, addresses) in [
            (world.client(1), site.proxy(), site.vip(1)),
            (site.proxy(), site.neighbour(1), site.neighbour_station(1).ip),
            (site.neighbour(1), site.router(), site.gateway().ip),
            (site.hypervisor(), world.desk(), addresses::desk()),
            (world.site("a").proxy(), world.site("b").proxy(), world.site("b").proxy_address()),
        ] {
            for address in addresses.each() {
                let listener = to.inside(|| TcpListener::bind((address, 0))).unwrap().unwrap();
                let there = listener.local_addr().unwrap();
                let connect = || TcpStream::connect_timeout(&there, Duration::from_secs(10));
                drop(from.inside(connect).unwrap().unwrap());
            }
        }
    }
    for (before, after) in before.iter().zip(take()) {
        let difference = before.compare(&after, &[]);
        assert!(difference.unexplained.is_empty(), "{difference}");
    }
}
