//! A VM is moved by an operator who types, through the service, the agents, the proxies and the
//! tunnel between them, over a WAN that loses packets.

use std::fs;
use std::net::IpAddr;

use lab::snapshot::Snapshot;
use lab::witness::{Witness, overlap, stays};
use lab::world::addresses;
use orchestrator_api::Plan;
use orchestrator_api::operator::{MoveState, MoveView, VmPlaces};

use crate::ground::{Ground, two_sites_lossy};
use crate::lookout::Lookout;
use crate::names::{NAME, NameServer, TTL_S, Visitors};
use crate::placed::{arrived, disk, nothing_left, start, synced_records};
use crate::service::Service;
use crate::users::{Users, ledger_agrees};

#[test]
fn a_vm_goes_there_and_back_as_it_is_told_and_its_records_are_whole() {
    let ground = Ground::of(&two_sites_lossy());
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let crews = [a, b].map(|site| ground.crew(site));
    let servers = [a, b].map(|site| NameServer::start(world, site, papers));
    let service = Service::start_with_names(world, papers);
    let mac = addresses::vm(1).mac;
    let witnesses = [a, b].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());
    let untouched = Snapshot::take(b.place()).unwrap();
    let lookout = Lookout::begin(world);

    service.says(&["move", "web", "--to", "b"], 2);
    start(&service, a);
    refused(&service);
    planned(&service);
    servers.iter().for_each(|server| server.answers(a, false));
    let mut visitors = Visitors::of(&servers[0]);
    assert_eq!(visitors.go_to(0), [IpAddr::from(a.vip(1).v4); 2]);
    // Nothing was touched for it.
    nothing_left(b, &untouched, false);

    let mut users = Users::start(world, a);
    // A neighbour's connection, which no proxy carries.
    synced_records(a);
    service.close_gate("web.release.done");
    service.says(&["move", "web", "--to", "b", "--no-wait"], 0);
    service.waits_at("web.1", "web.release.done");
    let again = service.says(&["move", "web", "--to", "b"], 2);
    assert!(again.contains("web.1"), "{again}");
    servers.iter().for_each(|server| server.answers(a, true));
    let disks = [a, b].map(disk).map(|disk| fs::read(disk).unwrap());
    assert!(disks[0] == disks[1], "the disks differ while the VM stands still");
    assert!(disks[0].iter().any(|byte| *byte != 0), "the disk is empty");
    service.open_gate("web.release.done");
    let ended = service.end_of("web.1");
    assert_eq!(ended.state, MoveState::Completed);
    servers.iter().for_each(|server| server.answers(b, false));
    // Who honours the TTL comes to the new place once it has run out; who does not never does.
    assert_eq!(visitors.go_to(TTL_S - 1), [IpAddr::from(a.vip(1).v4); 2]);
    assert_eq!(visitors.go_to(TTL_S), [b, a].map(|site| IpAddr::from(site.vip(1).v4)));
    names_confirmed(&service, ended);
    arrived(b);
    ledger_agrees(&service, "web.1", &crews[0], &mut users);
    users.all_go_on();
    let late = service.says(&["abort", "web.1"], 2);
    assert!(late.contains("has ended"), "{late}");
    let early = service.says(&["reclaim", "web"], 2);
    assert!(early.contains("16 flows"), "{early}");
    users.all_go_on();

    let told = service.says(&["move", "web", "--to", "a"], 0);
    assert!(told.contains("completed") && told.contains("start"), "{told}");
    servers.iter().for_each(|server| server.answers(a, false));
    arrived(a);
    users.all_go_on();
    // What stands at b for the VM stays until it is given back.
    let given = service.says(&["reclaim", "web"], 0);
    println!("{given}");
    nothing_left(b, &untouched, false);

    let ran = lookout.end();
    assert!(ran.iter().filter(|watched| !watched.runs.is_empty()).count() >= 3, "{ran:?}");
    let testimonies = witnesses.map(|witness| witness.stop().unwrap());
    assert_eq!(overlap(&testimonies), None);
    let places: Vec<_> = stays(&testimonies).into_iter().map(|stay| stay.place).collect();
    assert_eq!(places, ["a", "b", "a"]);
}

/// Where it runs is known, and a move of it is a go that says what it would take and change.
fn planned(service: &Service) {
    let told = service.says(&["vm", "list", "--json"], 0);
    let places: VmPlaces = serde_json::from_str(&told).unwrap();
    assert_eq!(places.vms[0].runs_at.as_ref().unwrap().to_string(), "a/hv1");
    let told = service.says(&["plan", "web", "--to", "b", "--json"], 0);
    let plan: Plan = serde_json::from_str(&told).unwrap();
    assert!(plan.is_go() && plan.estimate.is_some(), "{plan:?}");
    let named: Vec<_> = plan.names.iter().map(|name| (&name.name[..], name.follows)).collect();
    assert_eq!(named, [(NAME, true)], "{plan:?}");
}

/// Both name servers have taken what the first move told them, and it says until when older answers
/// may be believed.
fn names_confirmed(service: &Service, ended: MoveView) {
    let names = ended.names.expect("name servers were told");
    assert_eq!((names.confirmed, &names.unconfirmed[..]), (2, &[][..]));
    let until_s = names.outdated_until_unix_s.expect("old answers run out");
    assert!(until_s * 1_000 > ended.began_at_unix_ms, "{until_s}");
    let told = service.says(&["status", "web.1"], 0);
    assert!(told.contains("older answers run out at"), "{told}");
}

/// What cannot be is refused by name, and nothing changes.
fn refused(service: &Service) {
    for (words, named) in [
        (&["move", "web", "--to", "c"][..], "site c"),
        (&["move", "nobody", "--to", "b"], "nobody"),
        (&["move", "web", "--to", "a"], "already"),
        (&["move", "web", "--to", "b", "--agent", "hv9"], "hv9"),
        (&["abort", "web.7"], "web.7"),
        (&["status", "web.7"], "web.7"),
    ] {
        let said = service.says(words, 2);
        assert!(said.contains(named), "{words:?}: {said}");
    }
}
