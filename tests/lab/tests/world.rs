//! Worlds stand quickly, and nothing in them passes but by the ways that a world is said to have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lab::host::Host;
use lab::world::{Gateway, World, WorldPlan, addresses};

/// Longer than any exchange between namespaces takes.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Long enough to believe that nothing comes.
const SILENCE: Duration = Duration::from_millis(300);
/// A segment lost on the way is sent again after a second.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// One TCP exchange from a host to an address of another.
fn exchange(from: &Host, to: &Host, address: IpAddr) -> std::io::Result<SocketAddr> {
    let listener = to.inside(|| TcpListener::bind((address, 0))).unwrap()?;
    let there = listener.local_addr()?;
    let mut near = from.inside(|| TcpStream::connect_timeout(&there, HANDSHAKE_MAX)).unwrap()?;
    let (mut far, peer) = listener.accept()?;
    near.set_read_timeout(Some(EXCHANGE))?;
    far.set_read_timeout(Some(EXCHANGE))?;
    let mut heard = [0; 4];
    near.write_all(b"ping")?;
    far.read_exact(&mut heard)?;
    far.write_all(&heard)?;
    near.read_exact(&mut heard)?;
    assert_eq!(&heard, b"ping");
    Ok(peer)
}

/// Whether a datagram arrives within this time.
fn arrives_within(time: Duration, from: &Host, to: &Host, address: IpAddr) -> bool {
    let far = to.inside(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    let there = far.local_addr().unwrap();
    let any = if there.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let near = from.inside(|| UdpSocket::bind(any)).unwrap().unwrap();
    far.set_read_timeout(Some(time)).unwrap();
    // A host without a route says so at once.
    near.send_to(b"x", there).is_ok() && far.recv(&mut [0; 1]).is_ok()
}

/// A datagram gets there, however busy the machine is.
fn arrives(from: &Host, to: &Host, address: IpAddr) -> bool {
    arrives_within(EXCHANGE, from, to, address)
}

fn stays_away(from: &Host, to: &Host, address: IpAddr) -> bool {
    !arrives_within(SILENCE, from, to, address)
}

fn delivered(world: &World, from: &str, to: &str) -> u64 {
    let counters = world.wan().counters().unwrap();
    counters.direction(from, to).unwrap().delivery.delivered.packets
}

#[test]
fn a_world_of_two_sites_stands_within_seconds_and_clients_reach_both() {
    let begun = Instant::now();
    let world = World::build(&WorldPlan::default()).unwrap();
    println!("stands after {:?}", begun.elapsed());
    for site in world.sites() {
        for vip in site.vip(1).each() {
            let peer = exchange(&world.client(1), &site.proxy(), vip).unwrap();
            assert!(addresses::client(1).each().contains(&peer.ip()), "{peer}");
        }
    }
}

#[test]
fn on_a_site_everything_reaches_the_gateway_and_the_proxys_leg() {
    let world = World::build(&WorldPlan::default()).unwrap();
    for site in world.sites() {
        let neighbour = site.neighbour(1);
        for address in site.leg().ip.each() {
            exchange(&neighbour, &site.proxy(), address).unwrap();
        }
        for address in site.gateway().ip.each() {
            exchange(&neighbour, &site.router(), address).unwrap();
        }
        for address in site.neighbour_station(1).ip.each() {
            exchange(&site.proxy(), &neighbour, address).unwrap();
        }
        for address in site.proxy_address().each() {
            exchange(&site.hypervisor(), &site.proxy(), address).unwrap();
        }
        for address in addresses::client(1).each() {
            if site.number() == 1 {
                exchange(&neighbour, &world.client(1), address).unwrap();
            }
        }
    }
}

#[test]
fn what_passes_between_sites_passes_the_wan_and_is_counted_there() {
    let world = World::build(&WorldPlan::with_sites(&["a", "b", "c"])).unwrap();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let (near, far) = (world.site(from), world.site(to));
        for address in far.proxy_address().each() {
            let before = delivered(&world, from, to);
            exchange(&near.proxy(), &far.proxy(), address).unwrap();
            assert!(delivered(&world, from, to) >= before + 3, "{from} to {to}: {address}");
        }
    }
    world.wan().cut("a", "b").unwrap();
    for address in world.site("b").proxy_address().each() {
        assert!(stays_away(&world.site("a").proxy(), &world.site("b").proxy(), address));
        assert!(arrives(&world.site("c").proxy(), &world.site("b").proxy(), address));
    }
    world.wan().heal("a", "b").unwrap();
    let address = world.site("b").proxy_address().v4.into();
    exchange(&world.site("a").proxy(), &world.site("b").proxy(), address).unwrap();
}

#[test]
fn the_application_subnets_of_two_sites_are_not_joined() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let (a, b) = (world.site("a"), world.site("b"));
    for address in b.neighbour_station(1).ip.each() {
        assert!(stays_away(&a.neighbour(1), &b.neighbour(1), address));
        assert!(stays_away(&a.proxy(), &b.neighbour(1), address));
    }
    for address in b.leg().ip.each() {
        assert!(stays_away(&a.neighbour(1), &b.proxy(), address));
    }
}

#[test]
fn management_reaches_every_site_and_can_be_cut_from_one_alone() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let (a, b) = (world.site("a"), world.site("b"));
    for site in [a, b] {
        for address in site.hypervisor_address().each() {
            exchange(&world.desk(), &site.hypervisor(), address).unwrap();
        }
        for address in addresses::desk().each() {
            exchange(&site.proxy(), &world.desk(), address).unwrap();
        }
    }
    let before = delivered(&world, "a", "b");
    world.cut_management("a").unwrap();
    let proxy = |site: &lab::world::Site| IpAddr::from(site.proxy_address().v4);
    assert!(stays_away(&world.desk(), &a.proxy(), proxy(a)));
    assert!(arrives(&world.desk(), &b.proxy(), proxy(b)));
    assert!(arrives(&a.proxy(), &b.proxy(), proxy(b)), "the WAN is another way");
    assert_eq!(delivered(&world, "a", "b"), before + 1, "nothing of management's passes there");
    world.heal_management("a").unwrap();
    exchange(&world.desk(), &a.proxy(), proxy(a)).unwrap();
}

#[test]
fn management_is_no_way_from_site_to_site() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let (a, b) = (world.site("a"), world.site("b"));
    let there = b.proxy_address().v4;
    let route = [&there.to_string(), "dev", "management"].map(ToOwned::to_owned);
    let route: Vec<&str> =
        ["ip", "route", "add"].into_iter().chain(route.iter().map(String::as_str)).collect();
    a.router().succeed(&route).unwrap();
    assert!(stays_away(&a.proxy(), &b.proxy(), there.into()));
}

#[test]
fn gateways_are_the_same_at_each_site_or_each_its_own_as_the_plan_says() {
    for gateway in [Gateway::Same, Gateway::Own] {
        let plan = WorldPlan { gateway, ..WorldPlan::default() };
        let world = World::build(&plan).unwrap();
        let seen: Vec<_> = world
            .sites()
            .iter()
            .map(|site| {
                let neighbour = site.neighbour(1);
                for address in site.gateway().ip.each() {
                    exchange(&neighbour, &site.router(), address).unwrap();
                }
                let text = neighbour.succeed(&["ip", "neigh", "show", "nud", "all"]).unwrap();
                let mac = site.gateway().mac.to_string();
                assert!(
                    text.contains(&format!("{} dev eth0 lladdr {mac}", site.gateway().ip.v4)),
                    "{text}"
                );
                site.router().succeed(&["ip", "-br", "addr", "show", "inside"]).unwrap()
            })
            .collect();
        assert_eq!(seen[0] == seen[1], gateway == Gateway::Same, "{seen:?}");
    }
}

#[test]
fn links_are_as_slow_as_the_plan_says() {
    let delay_us = 10_000;
    let wan = wan::Change { delay_us: Some(delay_us), ..wan::Change::default() };
    let world = World::build(&WorldPlan { wan, ..WorldPlan::default() }).unwrap();
    let (a, b) = (world.site("a"), world.site("b"));
    let begun = Instant::now();
    exchange(&a.proxy(), &b.proxy(), b.proxy_address().v4.into()).unwrap();
    assert!(begun.elapsed() >= Duration::from_micros(4 * delay_us), "handshake and exchange");
}

#[test]
fn a_single_site_is_a_world_too() {
    let world = World::build(&WorldPlan::with_sites(&["only"])).unwrap();
    let site = world.site("only");
    exchange(&world.client(1), &site.proxy(), site.vip(2).v6.into()).unwrap();
    exchange(&world.desk(), &site.proxy(), site.proxy_address().v4.into()).unwrap();
}

#[test]
fn neither_images_nor_processes_nor_names_of_a_site_show_at_another() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let image = std::path::Path::new("/var/lib/causeway/vm1.img");
    world.site("a").place().write_file(image, "A").unwrap();
    for place in world.places().filter(|place| place.name() != "a") {
        assert!(!place.path(image).exists(), "{}", place.name());
    }
    for site in world.sites() {
        assert_eq!(site.proxy().succeed(&["uname", "-n"]).unwrap().trim(), site.name());
    }
}
