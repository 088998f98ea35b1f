//! What a peer may send, and what it may not, by datagram and over the stream alike. Each rule has
//! a case that fails when the rule is taken out.

use placement::Epoch;
use tunnel::protocol::packets::message::{PacketMessage, Told};
use tunnel::protocol::packets::{Dropped, Stand};

use crate::packet::{TCP, UDP, ip, packet};
use crate::world::{DELAY_MS, World, leg, proxy, talks, vm, vm_ip};

const VIP_B: (u8, u8) = (100, 1);

fn hosting() -> World {
    let mut world = World::new(3, 1);
    world.runs_at = Some(1);
    world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
    world
}

fn dropped(world: &World, site: usize, cause: Dropped) -> u64 {
    world.ways[site].dropped()[cause as usize].1
}

fn seen(world: &World) -> usize {
    world.seen.values().map(Vec::len).sum()
}

#[test]
fn towards_a_vm_only_from_where_it_was_and_in_no_other_name() {
    let mut world = hosting();
    world.datagram(0, 1, &packet(TCP, leg(0), vm_ip(), 1, 1));
    world.datagram(0, 1, &packet(TCP, ip(3, 0), vm_ip(), 1, 2));
    world.datagram(0, 1, &packet(TCP, ip(77, 7), vm_ip(), 1, 3));
    assert_eq!(seen(&world), 3, "leg, neighbour, outside");
    let cases = [
        (2, leg(0), Dropped::NotItsPeer),
        (0, vm_ip(), Dropped::FromItself),
        (0, ip(VIP_B.0, VIP_B.1), Dropped::FromProxy),
        (0, leg(1), Dropped::FromProxy),
        (0, ip(0, 1), Dropped::FromMachineHere),
    ];
    for (number, (from, source, cause)) in cases.into_iter().enumerate() {
        let before = dropped(&world, 1, cause);
        world.datagram(from, 1, &packet(TCP, source, vm_ip(), 9, u32::try_from(number).unwrap()));
        assert_eq!(dropped(&world, 1, cause), before + 1, "{source} by {from}");
    }
    assert_eq!(seen(&world), 3);
    assert_eq!(world.counts(1).dropped_refused, 5);
}

#[test]
fn in_the_name_of_a_twin_only_what_its_twins_conversations_were() {
    let mut world = hosting();
    // 10.9.0.1 is a machine of b too; the VM talked to a's by UDP from port 7.
    world.datagram(0, 1, &packet(UDP, ip(0, 1), vm_ip(), 7, 1));
    assert_eq!(seen(&world), 1);
    world.datagram(0, 1, &packet(UDP, ip(0, 1), vm_ip(), 8, 2));
    world.datagram(0, 1, &packet(TCP, ip(0, 1), vm_ip(), 7, 3));
    assert_eq!((seen(&world), dropped(&world, 1, Dropped::FromMachineHere)), (1, 2));
}

#[test]
fn not_in_the_name_of_a_third_places_machines() {
    let mut world = World::new(3, 1);
    world.runs_at = Some(1);
    world.set(1, 2, Some(Stand::Here { talks: talks(&[0, 2]) }));
    world.datagram(0, 1, &packet(TCP, leg(2), vm_ip(), 1, 1));
    assert_eq!((seen(&world), dropped(&world, 1, Dropped::FromThirdPlace)), (0, 1));
    world.datagram(2, 1, &packet(TCP, leg(2), vm_ip(), 1, 1));
    assert_eq!(seen(&world), 1);
}

#[test]
fn nothing_but_the_vms_own_and_only_from_where_it_is() {
    let mut world = World::new(3, 1);
    world.runs_at = None;
    world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
    let own = packet(TCP, vm_ip(), leg(0), 1, 1);
    world.datagram(1, 0, &own);
    assert_eq!(world.answered[0].len(), 1);
    world.datagram(2, 0, &own);
    assert_eq!(dropped(&world, 0, Dropped::NotItsPeer), 1);
    for source in [ip(0, 1), ip(100, 0), ip(77, 7)] {
        world.datagram(1, 0, &packet(TCP, source, leg(0), 2, 1));
    }
    assert_eq!((world.answered[0].len(), dropped(&world, 0, Dropped::NoWay)), (1, 3));

    // An error about one of the VM's packets is let in, one about another's is not.
    let error_about = |quoted: &[u8]| {
        let mut error = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 1, 2, 10, 9, 1, 1];
        error.extend([3, 4, 0, 0, 0, 0, 0, 0]);
        error.extend(quoted);
        error
    };
    world.datagram(1, 0, &error_about(&packet(TCP, leg(0), vm_ip(), 5, 1)));
    assert_eq!(world.answered[0].len(), 2);
    world.datagram(1, 0, &error_about(&packet(TCP, leg(0), ip(77, 7), 5, 1)));
    assert_eq!((world.answered[0].len(), dropped(&world, 0, Dropped::NoWay)), (2, 4));
}

#[test]
fn before_a_hold_nothing_comes_in_a_vms_name() {
    let mut world = World::new(2, 1);
    world.set(0, 1, Some(Stand::Here { talks: vec![] }));
    world.datagram(1, 0, &packet(TCP, vm_ip(), leg(0), 1, 1));
    assert!(world.answered[0].is_empty());
    world.set(0, 2, Some(Stand::Holding { to: proxy(1), talks: vec![] }));
    world.datagram(1, 0, &packet(TCP, vm_ip(), leg(0), 1, 1));
    assert_eq!(world.answered[0].len(), 1);
}

#[test]
fn what_a_vm_sends_before_its_release_here_goes_its_way() {
    let mut world = World::new(2, 1);
    world.set(0, 2, Some(Stand::Holding { to: proxy(1), talks: vec![] }));
    world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
    world.kernel_sends(1, &packet(TCP, vm_ip(), leg(0), 1, 1));
    world.pass_ms(DELAY_MS);
    assert_eq!(world.answered[0].len(), 1);
}

#[test]
fn what_a_vm_sent_before_it_came_here_is_taken_for_a_while() {
    let mut world = World::new(2, 1);
    world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
    let away = Some(proxy(1));
    world.set(0, 3, Some(Stand::Staged { from: proxy(1), away, talks: talks(&[1]) }));
    world.set(0, 3, Some(Stand::Here { talks: talks(&[1]) }));
    world.datagram(1, 0, &packet(TCP, vm_ip(), leg(0), 1, 1));
    assert_eq!(world.answered[0].len(), 1);
    world.pass_ms(5_001);
    world.datagram(1, 0, &packet(TCP, vm_ip(), leg(0), 2, 1));
    assert_eq!((world.answered[0].len(), dropped(&world, 0, Dropped::NotItsPeer)), (1, 1));
}

#[test]
fn the_stream_is_judged_as_datagrams_are() {
    let mut world = World::new(3, 1);
    world.runs_at = None;
    world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
    let told = |epoch, told| PacketMessage { vm: vm(), epoch: Epoch::new(epoch), told };
    let held = |first, source| Told::Held {
        first,
        packets: vec![packet(TCP, source, vm_ip(), 1, 1).into()],
    };
    world.tell(0, 1, told(2, held(0, leg(0))));
    world.tell(0, 1, told(2, Told::Begin { queue: 1 }));
    world.tell(2, 1, told(2, Told::Begin { queue: 1 }));
    world.tell(2, 1, told(2, held(0, leg(2))));
    world.tell(0, 1, told(1, held(0, leg(0))));
    world.tell(0, 1, told(2, held(0, ip(100, 1))));
    let elsewhere =
        Told::Held { first: 1, packets: vec![packet(TCP, leg(0), ip(2, 9), 1, 1).into()] };
    world.tell(0, 1, told(2, elsewhere));
    world.tell(0, 1, told(2, held(2, leg(0))));
    world.tell(0, 1, told(2, held(2, leg(0))));
    assert_eq!(world.counts(1).held, 1, "one of its peer, of its move, in its own name, once");
    world.tell(2, 1, told(2, Told::CalledOff));
    world.tell(0, 1, told(1, Told::CalledOff));
    world.runs_at = Some(1);
    world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
    world.tell(2, 1, told(2, Told::Stopped));
    assert_eq!(seen(&world), 0, "what was left in the port goes first");
    world.tell(0, 1, told(2, Told::Stopped));
    assert_eq!(seen(&world), 1);
}

#[test]
fn what_this_site_had_sent_comes_back_only_with_a_vm_that_comes_back() {
    for away in [None, Some(proxy(0))] {
        let mut world = World::new(2, 1);
        world.runs_at = None;
        let is_return = away.is_some();
        world.set(1, 2, Some(Stand::Staged { from: proxy(0), away, talks: talks(&[0]) }));
        let told = |told| PacketMessage { vm: vm(), epoch: Epoch::new(2), told };
        world.tell(0, 1, told(Told::Begin { queue: 1 }));
        let packets = vec![packet(TCP, leg(1), vm_ip(), 1, 1).into()];
        world.tell(0, 1, told(Told::Held { first: 0, packets }));
        assert_eq!(world.counts(1).held, u64::from(is_return));
    }
}
