//! Flows of every kind go on over moves there and back, and nothing of them is lost.

use std::time::Duration;

use lab::snapshot::Snapshot;
use lab::world::Gateway;

use crate::rig::{A, B, Ends, Rig, guest};
use scenarios::flows::{Flows, Server};

/// Of one session. When a detour ends, what it still carries may be overtaken by what goes straight:
/// on a busy machine a processor stands still for milliseconds.
const OVERTAKEN_MAX: u64 = 3;

/// All that a VM has before it is moved: flows through the proxy, neighbours' flows to it, its own to
/// a neighbour.
struct Pinned {
    flows: Vec<Flows>,
    _server: Server,
}

impl Pinned {
    fn at_a(rig: &Rig) -> Pinned {
        Pinned::at(rig, A)
    }

    fn at(rig: &Rig, at: usize) -> Pinned {
        let neighbour = rig.site(at).neighbour(1);
        let server = Server::on(&neighbour);
        let to = rig.site(at).neighbour_station(1).ip.each();
        let flows = vec![
            rig.proxied(at),
            Flows::on(&neighbour, "from a neighbour", &guest().addresses),
            Flows::on(rig.vm.host(), "to a neighbour", &to),
        ];
        Pinned { flows, _server: server }
    }

    fn answered_again(&mut self) {
        self.flows.iter_mut().for_each(Flows::answered_again);
    }

    fn finish(self, rig: &Rig, reordered_max: u64) {
        for flows in self.flows {
            println!("longest stall {:?}", flows.finish(reordered_max));
        }
        assert_eq!(rig.vm.lost(), 0, "the VM's own card lost frames: this test's doing");
    }
}

#[test]
fn a_move_loses_nothing_and_keeps_the_order() {
    let mut rig = Rig::new(Gateway::Own);
    let mut pinned = Pinned::at_a(&rig);
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    pinned.finish(&rig, 0);
}

#[test]
fn flows_of_every_kind_lose_nothing_there_and_back_and_there_again() {
    there_and_back(Gateway::Own);
}

#[test]
fn gateways_with_the_same_address_and_mac_at_both_sites_make_no_difference() {
    there_and_back(Gateway::Same);
}

fn there_and_back(gateway: Gateway) {
    let mut rig = Rig::new(gateway);
    let mut pinned = Pinned::at_a(&rig);
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    let mut at_b = Pinned::at(&rig, B);
    // A straggler: it came to the old site after the move.
    let mut straggler = rig.proxied(A);
    at_b.answered_again();
    for (from, to) in [(B, A), (A, B)] {
        rig.go(from, to, Ends::AtTarget);
        pinned.answered_again();
        at_b.answered_again();
        straggler.answered_again();
    }
    pinned.finish(&rig, OVERTAKEN_MAX);
    at_b.finish(&rig, OVERTAKEN_MAX);
    straggler.finish(OVERTAKEN_MAX);
}

#[test]
fn a_hold_that_is_cancelled_loses_nothing_and_leaves_the_other_site_as_it_was() {
    let mut rig = Rig::new(Gateway::Own);
    let mut pinned = Pinned::at_a(&rig);
    let before = Snapshot::take(rig.site(B).place()).unwrap();
    rig.go(A, B, Ends::CancelledAfter(Duration::from_millis(100)));
    pinned.answered_again();
    let difference = before.compare(&Snapshot::take(rig.site(B).place()).unwrap(), &[]);
    assert!(difference.unexplained.is_empty(), "{difference}");
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    pinned.finish(&rig, OVERTAKEN_MAX);
}

#[test]
fn a_return_that_is_cancelled_loses_nothing_and_can_be_ordered_again() {
    let mut rig = Rig::new(Gateway::Same);
    let mut pinned = Pinned::at_a(&rig);
    rig.go(A, B, Ends::AtTarget);
    let mut at_b = Pinned::at(&rig, B);
    rig.go(B, A, Ends::CancelledAfter(Duration::from_millis(100)));
    pinned.answered_again();
    at_b.answered_again();
    rig.go(B, A, Ends::AtTarget);
    pinned.answered_again();
    at_b.answered_again();
    pinned.finish(&rig, OVERTAKEN_MAX);
    at_b.finish(&rig, OVERTAKEN_MAX);
}

#[test]
fn a_machine_at_b_with_the_address_of_one_at_a_is_served_and_so_is_the_one_at_a() {
    let mut rig = Rig::new(Gateway::Same);
    let mut pinned = Pinned::at_a(&rig);
    let twin = rig.site(A).neighbour_station(1).ip;
    rig.site(B)
        .neighbour(1)
        .ip_batch(&format!(
            "addr add {}/16 dev eth0\naddr add {}/64 dev eth0 nodad\n",
            twin.v4, twin.v6
        ))
        .unwrap();
    rig.twins = twin.each().to_vec();
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    // Of the twin's, TCP alone can be told from what A's began.
    let neighbour = rig.site(B).neighbour(1);
    let _server = Server::on(&neighbour);
    let mut to_twin = Flows::tcp_on(rig.vm.host(), "to the twin", &twin.each());
    let mut from_twin =
        Flows::tcp_on_from(&neighbour, "from the twin", &guest().addresses, &twin.each());
    for (from, to) in [(B, A), (A, B)] {
        rig.go(from, to, Ends::AtTarget);
        pinned.answered_again();
        to_twin.answered_again();
        from_twin.answered_again();
    }
    to_twin.finish(0);
    from_twin.finish(0);
    pinned.finish(&rig, OVERTAKEN_MAX);
}

#[test]
fn after_the_drain_at_home_nothing_stands_and_nobody_notices() {
    let mut rig = Rig::new(Gateway::Same);
    let mut pinned = Pinned::at_a(&rig);
    rig.go(A, B, Ends::AtTarget);
    pinned.answered_again();
    rig.go(B, A, Ends::AtTarget);
    pinned.answered_again();
    rig.drained();
    pinned.answered_again();
    let stands = rig.leg_standing(A);
    assert!(
        !stands.iter().any(|line| line.contains("web") || line.contains("10.10.2.1")),
        "{stands:#?}"
    );
    pinned.finish(&rig, OVERTAKEN_MAX);
    assert_eq!(rig.down(), Vec::<String>::new());
    rig.assert_as_before();
}

#[test]
fn down_in_the_middle_of_a_drain_leaves_nothing() {
    let mut rig = Rig::new(Gateway::Own);
    rig.go(A, B, Ends::AtTarget);
    rig.go(B, A, Ends::AtTarget);
    assert_eq!(rig.down(), Vec::<String>::new());
    rig.assert_as_before();
}
