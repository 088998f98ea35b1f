//! Packets, one by one: where they go, when, and which of them.

use std::time::{Duration, Instant};

use wan::{Change, Fabric, Pair, Settings, Tally, WanPlan};

use crate::world::{PATIENCE, World, eventually, socket, v4, v6};

/// A round trip of one datagram.
fn round_trip(world: &World, from: &str, to: &str) -> Duration {
    let (near, far) = (socket(&world.sites[0], from), socket(&world.sites[1], to));
    let mut buffer = [0; 64];
    let begin = Instant::now();
    near.send_to(b"there", far.local_addr().unwrap()).unwrap();
    let (length, sender) = far.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"there");
    far.send_to(b"and back", sender).unwrap();
    let length = near.recv(&mut buffer).unwrap();
    let took = begin.elapsed();
    assert_eq!(&buffer[..length], b"and back");
    took
}

#[test]
fn a_round_trip_takes_the_delay_both_ways_and_never_less() {
    let world = World::new(2, "delay_us=20000");
    for (from, to) in [(v4(0), v4(1)), (v6(0), v6(1))] {
        let took = round_trip(&world, &from, &to);
        assert!(took >= Duration::from_millis(40), "{took:?} over {to}");
        assert!(took < Duration::from_millis(40) + PATIENCE, "{took:?} over {to}");
    }
    let slower = Change { delay_us: Some(70_000), ..Change::default() };
    world.client().set(&Pair::one_way("a", "b").unwrap(), slower).unwrap();
    assert!(round_trip(&world, &v4(0), &v4(1)) >= Duration::from_millis(90));
    let counters = world.audited();
    let there = counters.direction("a", "b").unwrap().delivery;
    assert_eq!(there.delivered, Tally { packets: 3, bytes: 33 + 53 + 33 });
    let back = counters.direction("b", "a").unwrap().delivery;
    assert_eq!(back.delivered, Tally { packets: 3, bytes: 36 + 56 + 36 });
}

#[test]
fn the_seed_decides_which_packets_are_lost() {
    const PACKETS: u32 = 1000;
    // What has arrived waits in the receiver's socket; so few of them fit into any.
    const BATCH: u32 = 50;
    let settings = "loss_ppm=200000";
    let expected = survivors(settings, PACKETS);
    let world = World::new(2, settings);
    let (near, far) = (socket(&world.sites[0], &v4(0)), socket(&world.sites[1], &v4(1)));
    let mut arrived = Vec::new();
    let mut buffer = [0; 4];
    for first in (0..PACKETS).step_by(BATCH as usize) {
        for number in first..first + BATCH {
            near.send_to(&number.to_be_bytes(), far.local_addr().unwrap()).unwrap();
        }
        let mut delivered = 0;
        eventually("all of the batch have met their fate", || {
            let delivery = world.counters().direction("a", "b").unwrap().delivery;
            delivered = delivery.delivered.packets;
            delivered + delivery.lost.packets == u64::from(first + BATCH)
        });
        while (arrived.len() as u64) < delivered {
            assert_eq!(far.recv(&mut buffer).unwrap(), 4);
            arrived.push(u32::from_be_bytes(buffer));
        }
    }
    assert_eq!(arrived, expected);
    let delivery = world.audited().direction("a", "b").unwrap().delivery;
    let lost = u64::from(PACKETS) - arrived.len() as u64;
    assert_eq!(delivery.lost, Tally { packets: lost, bytes: lost * 32 });
}

/// Which of a number of packets from a to b survive, by the pure fabric alone.
fn survivors(settings: &str, packets: u32) -> Vec<u32> {
    let plan = WanPlan {
        seed: 11,
        ports: vec!["a=-:w:10.255.1.0/24".parse().unwrap(), "b=-:w:10.255.2.0/24".parse().unwrap()],
        mtu_bytes: 1500,
        settings: Settings::default().changed(settings.parse().unwrap()).unwrap(),
        links: Vec::new(),
    };
    let mut fabric = Fabric::new(&plan).unwrap();
    let from = fabric.ports().next().unwrap();
    let mut packet = vec![0_u8; 32];
    packet[0] = 0x45;
    packet[16..20].copy_from_slice(&[10, 255, 2, 1]);
    let mut survives = |number: &u32| fabric.offer((*number).into(), from, packet.clone()).is_ok();
    (0..packets).filter(|number| survives(number)).collect()
}

#[test]
fn three_sites_each_reach_each_other() {
    let world = World::new(3, "delay_us=100");
    for address in [v4, v6] {
        let sockets: Vec<_> =
            (0..3).map(|index| socket(&world.sites[index], &address(index))).collect();
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                let target = sockets[to].local_addr().unwrap();
                let text = format!("from {from} to {to}");
                sockets[from].send_to(text.as_bytes(), target).unwrap();
                let mut buffer = [0; 64];
                let (length, sender) = sockets[to].recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], text.as_bytes());
                assert_eq!(sender, sockets[from].local_addr().unwrap());
            }
        }
    }
    let counters = world.audited();
    assert_eq!(counters.directions.len(), 6);
    for direction in &counters.directions {
        assert_eq!(direction.delivery.delivered.packets, 2, "{direction:?}");
    }
}

#[test]
fn a_stranger_is_counted_and_goes_nowhere() {
    let world = World::new(2, "delay_us=100");
    let before = world.audited().port("a").unwrap().unroutable;
    let near = socket(&world.sites[0], &v4(0));
    near.send_to(b"hello?", "10.255.77.1:9").unwrap();
    eventually("the stranger is counted", || {
        let unroutable = world.counters().port("a").unwrap().unroutable;
        unroutable.bytes >= before.bytes + 34
    });
    let counters = world.audited();
    assert_eq!(counters.direction("a", "b").unwrap().delivery.offered, Tally::default());
}

#[test]
fn what_a_device_does_not_take_is_counted_as_refused() {
    let world = World::new(2, "delay_us=100");
    world.sites[1].ip(&["link", "set", "wan0", "down"]).unwrap();
    let near = socket(&world.sites[0], &v4(0));
    near.send_to(b"anybody?", format!("{}:9", v4(1))).unwrap();
    let refused = Tally { packets: 1, bytes: 36 };
    eventually("it is refused", || {
        world.counters().direction("a", "b").unwrap().delivery.refused == refused
    });
    assert_eq!(world.audited().direction("a", "b").unwrap().delivery.delivered, Tally::default());
}

#[test]
fn a_packet_longer_than_the_mtu_is_counted_not_cut_short() {
    let world = World::new(2, "delay_us=100");
    world.sites[0].ip(&["link", "set", "wan0", "mtu", "3000"]).unwrap();
    let (near, far) = (socket(&world.sites[0], &v4(0)), socket(&world.sites[1], &v4(1)));
    near.send_to(&[1; 2000], far.local_addr().unwrap()).unwrap();
    near.send_to(&[2; 1472], far.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 3000];
    assert_eq!(far.recv(&mut buffer).unwrap(), 1472, "the longest that fits, and it alone");
    let counters = world.counters();
    assert_eq!(counters.port("a").unwrap().oversize, Tally { packets: 1, bytes: 1501 });
    assert_eq!(counters.direction("a", "b").unwrap().delivery.offered.packets, 1);
}
