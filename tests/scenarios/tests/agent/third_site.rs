//! Three sites: a VM that has come to a from b goes on to c, and from there to b, which it came from;
//! flows that are pinned at each of them go on.

use std::net::IpAddr;

use lab::snapshot::Snapshot;
use lab::witness::{Witness, overlap, stays};
use lab::world::{Site, World, WorldPlan, addresses};
use ledger::report::Report;
use orchestrator_api::operator::VmReclaimed;

use crate::crew::{Crew, until};
use crate::ground::{Ground, two_sites_lossy};
use crate::lookout::Lookout;
use crate::placed::{arrived, nothing_left, start};
use crate::service::Service;
use crate::users::Users;

#[test]
fn a_vm_goes_on_to_a_third_site_and_flows_that_are_pinned_at_each_go_on() {
    let line = two_sites_lossy().wan;
    let ground = Ground::of(&WorldPlan { wan: line, ..WorldPlan::with_sites(&["a", "b", "c"]) });
    let (world, papers) = (&ground.world, &ground.papers);
    let [a, b, c] = ["a", "b", "c"].map(|name| world.site(name));
    let crews = [a, b, c].map(|site| ground.crew(site));
    all_meet(&crews);
    let service = Service::start(world, papers);
    let mac = addresses::vm(1).mac;
    let witnesses = [a, b, c].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());
    let untouched = [a, c].map(|site| Snapshot::take(site.place()).unwrap());
    let lookout = Lookout::begin(world);
    start(&service, b);

    let mut at_b = Users::start(world, b);
    moved(&service, a);
    at_b.all_go_on();
    // One that still finds it by the old address, another as it is told to.
    at_b.opens_another(b);
    named_as_straggler(&service, "web.1", b, world);
    let mut at_a = Users::start(world, a);

    moved(&service, c);
    for users in [&mut at_a, &mut at_b] {
        users.all_go_on();
    }
    let mut at_c = Users::start(world, c);
    let told = service.says(&["status"], 0);
    assert!(told.contains("web.1 left b/hv1") && told.contains("web.2 left a/hv1"), "{told}");

    moved(&service, b);
    for users in [&mut at_a, &mut at_b, &mut at_c] {
        users.all_go_on();
    }
    for id in ["web.1", "web.2", "web.3"] {
        println!("{}", service.says(&["report", id, "--strict"], 0));
    }
    let early = service.says(&["reclaim", "web"], 2);
    assert!(early.contains("flows of VM web still live"), "{early}");

    for users in [at_a, at_c] {
        users.stop();
    }
    comes_home(&service, b);
    at_b.all_go_on();
    for (site, untouched) in [a, c].into_iter().zip(&untouched) {
        nothing_left(site, untouched, false);
    }

    lookout.end();
    let testimonies = witnesses.map(|witness| witness.stop().unwrap());
    assert_eq!(overlap(&testimonies), None);
    let places: Vec<_> = stays(&testimonies).into_iter().map(|stay| stay.place).collect();
    assert_eq!(places, ["b", "a", "c", "b"]);
}

/// Each tunnel between two of them stands, and carries packets.
fn all_meet(crews: &[Crew<'_>]) {
    until("every tunnel carries packets", || {
        let carries = |crew: &Crew<'_>| {
            let peers = crew.proxy.tunnel().peers;
            peers.len() + 1 == crews.len() && peers.iter().all(|peer| peer.carries_packets)
        };
        crews.iter().all(carries).then_some(())
    });
}

fn moved(service: &Service, to: &Site) {
    let told = service.says(&["move", "web", "--to", to.name()], 0);
    assert!(told.contains("completed"), "{told}");
    arrived(to);
}

/// Whoever came to the site that the VM had left is named, by its address, in the report's file and in
/// words.
fn named_as_straggler(service: &Service, id: &str, at: &Site, world: &World) {
    let file = "/tmp/stragglers.json";
    let text = service.says(&["report", id, "--json", file], 0);
    let report = Report::from_json(&service.written(file)).unwrap();
    let [row] = &report.ledger.stragglers[..] else { panic!("{:#?}", report.ledger.stragglers) };
    assert_eq!(row.connections, 1, "{row:?}");
    let own = world.client(1).succeed(&["ip", "-o", "addr", "show"]).unwrap();
    let is_own = |ip: IpAddr| own.contains(&format!(" {ip}/"));
    assert!(is_own(row.client), "{row:?} is none of {own}");
    assert!(text.contains(&row.client.to_string()), "{text}");
    assert_eq!(report.migration.from.site.as_str(), at.name());
}

/// What its moves left is given back; so it is at home, and was told of at least a gateway of each
/// family.
fn comes_home(service: &Service, at: &Site) {
    let told = until("all is given back", || {
        let output = service.types(&["reclaim", "web", "--json"]);
        output.status.success().then_some(output.stdout)
    });
    let reclaimed: VmReclaimed = serde_json::from_slice(&told).unwrap();
    let home = reclaimed.home.as_ref().unwrap_or_else(|| panic!("{reclaimed:?}"));
    assert_eq!(home.at.site.as_str(), at.name());
    assert!(home.told >= 2, "{home:?}");
    let again = service.says(&["reclaim", "web"], 2);
    assert!(again.contains("nothing that VM web left waits"), "{again}");
    let rules = at.hypervisor().succeed(&["nft", "list", "ruleset"]).unwrap();
    assert!(!rules.contains("fwd to") && !rules.contains("nd-router-solicit"), "{rules}");
}
