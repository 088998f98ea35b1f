//! Clients of a VM that moves, and its neighbours: nothing of theirs is lost, through real proxies
//! and the tunnel between them.

use std::time::Duration;

use lab::world::Gateway;
use scenarios::flows::{Flows, Server};

use crate::rig::{A, B, Ends, Rig, guest};

/// Of one session, a datagram each 10 ms. When a detour ends, what it still carries may be overtaken
/// by what goes straight: on a busy machine a proxy waits for its processor.
const OVERTAKEN_MAX: u64 = 16;

/// All that a VM has at a site: clients' flows through the proxy, neighbours' flows to it, its own to
/// a neighbour.
struct Pinned {
    flows: Vec<Flows>,
    _server: Server,
}

impl Pinned {
    fn at(rig: &Rig, at: usize) -> Pinned {
        let neighbour = rig.site(at).neighbour(1);
        let server = Server::on(&neighbour);
        let to = rig.site(at).neighbour_station(1).ip.each();
        let flows = vec![
            through_vip(rig, at),
            Flows::without_bulk_on(&neighbour, "from a neighbour", &guest().addresses),
            Flows::without_bulk_on(rig.vm.host(), "to a neighbour", &to),
        ];
        Pinned { flows, _server: server }
    }

    fn answered_again(&mut self) {
        self.flows.iter_mut().for_each(Flows::answered_again);
    }

    fn finish(self, rig: &Rig) {
        for flows in self.flows {
            println!("longest stall {:?}", flows.finish(OVERTAKEN_MAX));
        }
        assert_eq!(rig.vm.lost(), 0, "the VM's own card lost frames: this test's doing");
    }
}

fn through_vip(rig: &Rig, at: usize) -> Flows {
    Flows::without_bulk_on(&rig.world.client(1), "through a VIP", &rig.site(at).vip(1).each())
}

/// What was dropped, but for what is nobody's: a kernel's own words into its TUN.
fn dropped(rig: &Rig, at: usize) -> Vec<(String, u64)> {
    let all = rig.tunnel(at).dropped.into_iter().map(|one| (one.cause, one.packets));
    all.filter(|(cause, packets)| *packets > 0 && cause != "no_way").collect()
}

/// The WAN lost nothing, so that what is lost is the proxies' doing.
fn assert_carried(rig: &Rig) {
    let counters = rig.world.wan().counters().unwrap();
    for (from, to) in [("a", "b"), ("b", "a")] {
        let delivery = counters.direction(from, to).unwrap().delivery;
        let lost = [delivery.lost, delivery.dropped, delivery.cut, delivery.overflowed];
        let port = counters.port(to).unwrap().device.unwrap();
        let lost = lost.map(|tally| tally.packets);
        println!("{from} to {to}: {lost:?} lost, {} refused by {to}", port.rx_dropped_packets);
        assert_eq!(lost.iter().sum::<u64>() + port.rx_dropped_packets, 0, "{from} to {to}");
    }
}

/// Nothing that had to do with the VM was dropped at a site.
fn assert_none_dropped(rig: &Rig) {
    for at in [A, B] {
        let packets = rig.packets(at);
        let dropped_of_vm =
            packets.dropped_overflow + packets.dropped_refused + packets.dropped_other;
        assert_eq!((dropped(rig, at), dropped_of_vm), (vec![], 0), "{packets:?}");
    }
}

#[test]
fn clients_and_neighbours_go_on_there_and_back() {
    there_and_back(Gateway::Own);
}

#[test]
fn equal_gateways_at_both_sites_make_no_difference_to_them() {
    there_and_back(Gateway::Same);
}

fn there_and_back(gateway: Gateway) {
    let mut rig = Rig::new(gateway);
    let mut pinned = Pinned::at(&rig, A);
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    let packets = rig.packets(B);
    assert!(packets.held > 0 && packets.released == packets.held, "{packets:?}");
    assert_none_dropped(&rig);
    let mut at_b = Pinned::at(&rig, B);
    // It came to the old site after the move.
    let mut straggler = through_vip(&rig, A);
    at_b.answered_again();
    rig.go(B, A, Ends::AtTarget);
    for flows in [&mut pinned, &mut at_b] {
        flows.answered_again();
    }
    straggler.answered_again();
    assert_none_dropped(&rig);
    assert_carried(&rig);
    pinned.finish(&rig);
    at_b.finish(&rig);
    straggler.finish(OVERTAKEN_MAX);
    assert_none_dropped(&rig);
}

#[test]
fn a_hold_that_is_called_off_loses_nothing_and_the_next_one_goes() {
    let mut rig = Rig::new(Gateway::Own);
    let mut pinned = Pinned::at(&rig, A);
    rig.go(A, B, Ends::CancelledAfter(Duration::from_millis(100)));
    pinned.answered_again();
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    pinned.finish(&rig);
}

#[test]
fn a_target_proxy_that_dies_during_a_hold_is_sent_everything_again() {
    let mut rig = Rig::new(Gateway::Own);
    let mut pinned = Pinned::at(&rig, A);
    rig.stage(A, B);
    rig.hold_and_stop(A);
    rig.proxy(B).kill();
    rig.proxy(B).start();
    scenarios::site::eventually(|| {
        let packets = rig.packets(B);
        if packets.held > 0 { Ok(()) } else { Err(format!("{packets:?}")) }
    });
    rig.start(B);
    rig.leave(A, B);
    pinned.answered_again();
    pinned.finish(&rig);
}
