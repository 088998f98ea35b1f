//! The leg goes into a network of ours and comes back as it was.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use lab::snapshot::Snapshot;
use lab::world::{Site, World, WorldPlan, addresses};
use network::leg::{self, Away, Hosting, Leg, LegPlan, Otherwise, Peer, VmWanted};
use network::{NetworkError, Tuple};
use scenarios::site::eventually;
use scenarios::vm_port::{guest, web};
use tempfile::TempDir;

use crate::hand::Hand;

fn plan(site: &Site, folder: &TempDir) -> LegPlan {
    LegPlan {
        namespace: "causeway-app".to_owned(),
        interface: "leg".to_owned(),
        gateways: site.gateway().ip.each().to_vec(),
        record: PathBuf::from(folder.path()).join("leg.json"),
    }
}

fn peer(address: IpAddr) -> Peer {
    Peer { address, is_router: false, is_here_too: false }
}

fn away() -> VmWanted {
    VmWanted { guest: guest(), away: Some(Away { diverts: true, stands_in: true }), hosting: None }
}

fn hosting(peers: Vec<Peer>) -> VmWanted {
    let hosting = Hosting { peers, otherwise: Otherwise::There };
    VmWanted { guest: guest(), away: None, hosting: Some(hosting) }
}

#[test]
fn a_leg_that_was_taken_comes_back_as_it_was_also_by_another_process_and_twice() {
    let world = World::build(&WorldPlan::with_sites(&["a"])).unwrap();
    let (site, folder) = (world.site("a"), tempfile::tempdir().unwrap());
    let before = Snapshot::take(site.place()).unwrap();
    let (hand, plan) = (Hand::on(&site.proxy()), plan(site, &folder));
    let up = plan.clone();
    let addresses = hand.call(move || {
        let (leg, _tun) = Leg::up(&up).unwrap();
        leg.addresses()
    });
    assert_eq!(addresses, site.leg().ip.each());
    // The first is gone, as after a crash.
    hand.call(move || {
        let (mut again, _tun) = eventually(|| match Leg::up(&plan) {
            // A child that another test is just making holds every descriptor for a moment.
            Err(error @ NetworkError::TunInUse { .. }) => Err(error.to_string()),
            up => Ok(up.unwrap()),
        });
        assert!(matches!(Leg::up(&plan), Err(NetworkError::TunInUse { .. })));
        again.set_all(BTreeMap::new()).unwrap();
        let alone = again.standing().unwrap();
        again.set(&web(), Some(away())).unwrap();
        let with_vm = again.standing().unwrap();
        assert!(with_vm.len() > alone.len(), "{with_vm:#?}");
        again.set(&web(), Some(away())).unwrap();
        assert_eq!(again.standing().unwrap(), with_vm);
        again.set(&web(), None).unwrap();
        assert_eq!(again.standing().unwrap(), alone);
        leg::down(&plan).unwrap();
        leg::down(&plan).unwrap();
    });
    drop(hand);
    // It carries a moment after it has come back, and has its link-local address then.
    eventually(|| {
        let difference = before.compare(&Snapshot::take(site.place()).unwrap(), &[]);
        if difference.unexplained.is_empty() { Ok(()) } else { Err(difference.to_string()) }
    });
}

#[test]
fn what_stands_for_a_hosted_vm_is_what_its_peers_need_and_goes_with_it() {
    let world = World::build(&WorldPlan::with_sites(&["a"])).unwrap();
    let (site, folder) = (world.site("a"), tempfile::tempdir().unwrap());
    let (hand, plan) = (Hand::on(&site.proxy()), plan(site, &folder));
    let router = addresses::gateway_link_local(world.plan().gateway, 1).into();
    let peers: Vec<_> = addresses::neighbour(2, 1).ip.each().map(peer).into();
    hand.call(move || {
        let (mut leg, _tun) = Leg::up(&plan).unwrap();
        let mut more = peers.clone();
        more.push(Peer { address: router, is_router: true, is_here_too: true });
        leg.set(&web(), Some(hosting(more))).unwrap();
        let stands = leg.standing().unwrap();
        let has = |text: &str| stands.iter().any(|line| line.contains(text));
        for text in [
            "answers for 10.10.22.1 ",
            "answers for fd10:10::22:1 ",
            "answers for router fe80::1 ",
            "neighbour 10.10.2.1 with MAC 02:10:10:00:02:01",
            "route to 10.10.22.1/32 by",
            "rule 1100 for IPv6 in by leg from fd10:10::2:1",
            "nft inet causeway_web",
        ] {
            assert!(has(text), "no {text} in {stands:#?}");
        }
        assert!(!has("fe80::1/128"), "{stands:#?}");

        let [vm, peer] = [guest().addresses[0], peers[0].address];
        let began = Tuple { vm, vm_port: 5000, peer, peer_port: 80 };
        leg.add_began_there(&web(), &[began, began]).unwrap();
        leg.add_began_there(&web(), &[began]).unwrap();
        assert_eq!(leg.began_here(&web()).unwrap(), []);

        // Another process: it is told the same and finds all of it; one peer less, and that one goes.
        drop((leg, _tun));
        let (mut leg, _tun) = Leg::up(&plan).unwrap();
        let fewer = BTreeMap::from([(web(), hosting(peers[..1].to_vec()))]);
        leg.set_all(fewer).unwrap();
        let stands = leg.standing().unwrap();
        assert!(!stands.iter().any(|line| line.contains("fd10:10::22:1")), "{stands:#?}");
        leg.set_all(BTreeMap::new()).unwrap();
        let alone = leg.standing().unwrap();
        assert!(!alone.iter().any(|line| line.contains("web") || line.contains("10.10.2.1")));
        leg::down(&plan).unwrap();
    });
}
