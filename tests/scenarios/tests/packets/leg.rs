//! The leg is taken into a namespace of ours, clients' flows go by it, and it comes back as it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use lab::snapshot::{Allowance, Kind, Snapshot};
use lab::world::{World, WorldPlan};

use crate::proxies::{NETWORK, PORT, Papers, Proxy, SOON};

#[test]
fn backends_are_reached_over_the_leg_through_a_crash_and_down_leaves_nothing() {
    let (world, papers) = (World::build(&WorldPlan::with_sites(&["a"])).unwrap(), Papers::new());
    let site = world.site("a");
    let backends = site.neighbour_station(1).ip.each().map(|ip| SocketAddr::new(ip, PORT));
    let mut proxy = Proxy::prepare(&world, "a", &papers, &backends);
    let _answers = backends.map(|address| {
        let listener = site.neighbour(1).inside(|| TcpListener::bind(address)).unwrap().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut client = client;
                let from = client.peer_addr().unwrap().ip().to_string();
                client.write_all(from.as_bytes()).unwrap();
            }
        })
    });
    let before = Snapshot::take(site.place()).unwrap();
    proxy.start();
    for _ in 0..2 {
        // A client meets the VIP in the host's network, its backend the leg.
        for (vip, leg) in site.vip(1).each().into_iter().zip(site.leg().ip.each()) {
            let to = SocketAddr::new(vip, PORT);
            let client = world.client(1).inside(|| TcpStream::connect_timeout(&to, SOON));
            let mut client = client.unwrap().unwrap();
            client.set_read_timeout(Some(SOON)).unwrap();
            let mut from = String::new();
            client.read_to_string(&mut from).unwrap();
            assert_eq!(from, leg.to_string());
        }
        proxy.kill();
        proxy.start();
    }
    let agent = papers.credentials("a", "agent", "hv1");
    let networks = proxy.call(&agent, async |client| client.networks().await).unwrap();
    let [leg] = &networks.legs[..] else { panic!("{networks:?}") };
    assert_eq!((leg.network.as_str(), leg.mac.0), (NETWORK, site.leg().mac.0));
    assert_eq!(leg.addresses, site.leg().ip.each());
    assert_eq!(leg.gateways, site.gateway().ip.each());

    let (done, said) = proxy.down();
    assert!(!done && said.contains("another process uses this state folder"), "{said}");
    proxy.stop();
    assert_eq!(proxy.down(), (true, String::new()));
    assert_eq!(proxy.down(), (true, String::new()));
    let after = Snapshot::take(site.place()).unwrap();
    let kept = |what: &str, begins: &str| Allowance::new(what, Kind::File, begins);
    let kept = [
        kept("the state folder", "/var/lib/causeway/proxy"),
        kept("the folder of entrances", "/run/causeway-entrances"),
    ];
    let difference = before.compare(&after, &kept);
    assert!(difference.unexplained.is_empty(), "{difference}");
}
