//! A witness sees who speaks as a VM, at which port and when, also from a port that comes later.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use lab::host::Host;
use lab::witness::{Witness, overlap, stays};
use lab::world::{APPLICATION_BITS, World, WorldPlan, addresses};

const BOUND: Duration = Duration::from_secs(5);

/// Plugs a machine with the VM's MAC and address into a site's bridge and lets it speak.
fn speak_as_vm(hypervisor: &Host, speaker: &Host, port: &str) {
    let vm = addresses::vm(1);
    let netns = speaker.netns().unwrap();
    hypervisor
        .ip_batch(&format!(
            "link add {port} type veth peer name vm address {} netns {netns}\n\
             link set {port} master br0 up\n",
            vm.mac
        ))
        .unwrap();
    speaker
        .ip_batch(&format!("link set vm up\naddr add {}/{} dev vm\n", vm.ip.v4, APPLICATION_BITS.0))
        .unwrap();
    // A frame sent before both ends carry is lost without a word.
    hypervisor.wait_for_carrier().unwrap();
    speaker.wait_for_carrier().unwrap();
    let socket = speaker.inside(|| UdpSocket::bind((vm.ip.v4, 0))).unwrap().unwrap();
    let gateway = addresses::gateway(lab::world::Gateway::Same, 1).ip.v4;
    for _ in 0..10 {
        socket.send_to(b"x", (gateway, 9)).unwrap();
    }
}

fn wait_until_seen(witness: &Witness) {
    let deadline = Instant::now() + BOUND;
    while witness.so_far().sightings.is_empty() {
        assert!(Instant::now() < deadline, "nothing seen within {BOUND:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_vm_seen_at_one_site_after_the_other_has_two_stays_and_no_overlap() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let mac = addresses::vm(1).mac;
    let watch = |name: &str| Witness::start(name, &world.site(name).hypervisor(), mac).unwrap();
    let (at_a, at_b) = (watch("a"), watch("b"));
    for (site, witness) in world.sites().iter().zip([&at_a, &at_b]) {
        site.place().add_hosts(&["vm"]).unwrap();
        let vm = site.place().host(Some("vm"));
        speak_as_vm(&site.hypervisor(), &vm, "tap0");
        wait_until_seen(witness);
        vm.succeed(&["ip", "link", "del", "vm"]).unwrap();
    }
    let seen = [at_a.stop().unwrap(), at_b.stop().unwrap()];
    assert!(seen.iter().all(|testimony| testimony.frames_missed == 0));
    let stays = stays(&seen);
    for stay in &stays {
        println!("{stay}");
    }
    let places: Vec<_> = stays.iter().map(|stay| stay.place.as_str()).collect();
    assert_eq!(places, ["a", "b"]);
    assert_eq!(overlap(&seen), None);
    let ports =
        seen.iter().flat_map(|testimony| &testimony.sightings).map(|seen| seen.port.as_str());
    assert!(ports.into_iter().all(|port| port == "tap0"), "{seen:?}");
}

#[test]
fn other_machines_are_not_taken_for_the_vm() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let site = world.site("a");
    let vm = Witness::start("a", &site.hypervisor(), addresses::vm(1).mac).unwrap();
    let neighbour = Witness::start("a", &site.hypervisor(), site.neighbour_station(1).mac).unwrap();
    let socket = site.neighbour(1).inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.send_to(b"x", (site.leg().ip.v4, 9)).unwrap();
    wait_until_seen(&neighbour);
    assert_eq!(neighbour.stop().unwrap().sightings[0].port, "to-neighbour1");
    assert!(vm.stop().unwrap().sightings.is_empty());
}

#[test]
fn a_vm_that_speaks_at_two_sites_is_caught() {
    let world = World::build(&WorldPlan::default()).unwrap();
    let mac = addresses::vm(1).mac;
    let witnesses: Vec<_> = world
        .sites()
        .iter()
        .map(|site| {
            site.place().add_hosts(&["vm"]).unwrap();
            let witness = Witness::start(site.name(), &site.hypervisor(), mac).unwrap();
            speak_as_vm(&site.hypervisor(), &site.place().host(Some("vm")), "tap0");
            witness
        })
        .collect();
    let gateway = addresses::gateway(lab::world::Gateway::Same, 1).ip.v4;
    let sockets: Vec<_> = world
        .sites()
        .iter()
        .map(|site| {
            let vm = site.place().host(Some("vm"));
            vm.inside(|| UdpSocket::bind((addresses::vm(1).ip.v4, 0))).unwrap().unwrap()
        })
        .collect();
    for _ in 0..50 {
        for socket in &sockets {
            socket.send_to(b"x", (gateway, 9)).unwrap();
        }
    }
    let seen: Vec<_> = witnesses.into_iter().map(|witness| witness.stop().unwrap()).collect();
    assert!(overlap(&seen).is_some(), "{:?}", stays(&seen));
}
