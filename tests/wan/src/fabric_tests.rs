use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::settings::Settings;

const MS: u64 = 1_000_000;

fn plan(ports: &[&str]) -> WanPlan {
    WanPlan {
        seed: 5,
        ports: ports.iter().map(|text| text.parse().unwrap()).collect(),
        mtu_bytes: 1500,
        settings: Settings::default().changed("delay_us=1000".parse().unwrap()).unwrap(),
        links: Vec::new(),
    }
}

fn three_sites() -> WanPlan {
    plan(&[
        "a=-:wa:10.1.0.0/16,fd00:a::/32",
        "b=-:wb:10.2.0.0/16,10.1.9.0/24,fd00:b::/32",
        "net=-:wn:0.0.0.0/0",
    ])
}

fn v4(destination: &str, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; bytes];
    packet[0] = 0x45;
    packet[16..20].copy_from_slice(&destination.parse::<Ipv4Addr>().unwrap().octets());
    packet
}

fn v6(destination: &str, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; bytes];
    packet[0] = 0x60;
    packet[24..40].copy_from_slice(&destination.parse::<Ipv6Addr>().unwrap().octets());
    packet
}

fn fabric(plan: &WanPlan) -> (Fabric<Vec<u8>>, Vec<PortId>) {
    let fabric = Fabric::new(plan).unwrap();
    let ports = fabric.ports().collect();
    (fabric, ports)
}

#[test]
fn a_packet_goes_where_the_longest_prefix_says() {
    let (mut fabric, ports) = fabric(&three_sites());
    let mut goes = |from: usize, packet: Vec<u8>| {
        fabric.offer(0, ports[from], packet).ok()?;
        let arrival = fabric.take_due(MS).unwrap();
        assert_eq!(arrival.from, ports[from]);
        Some(arrival.to.index())
    };
    assert_eq!(goes(0, v4("10.2.3.4", 60)), Some(1));
    assert_eq!(goes(2, v4("10.1.3.4", 60)), Some(0));
    assert_eq!(goes(2, v4("10.1.9.4", 60)), Some(1), "a part of a's range that b has taken");
    assert_eq!(goes(0, v4("8.8.8.8", 60)), Some(2));
    assert_eq!(goes(0, v6("fd00:b::1", 60)), Some(1));
    assert_eq!(goes(1, v6("fd00:a::1", 60)), Some(0));
}

#[test]
fn what_has_no_way_is_counted_and_given_back() {
    let (mut fabric, ports) = fabric(&three_sites());
    let strangers =
        [v6("fd00:c::1", 60), v4("10.1.3.4", 70), vec![0; 80], v4("10.2.0.1", 40)[..19].to_vec()];
    for packet in strangers {
        assert_eq!(fabric.offer(0, ports[0], packet.clone()), Err((Fate::Unroutable, packet)));
    }
    let counters = fabric.counters();
    assert_eq!(counters.port("a").unwrap().unroutable, Tally { packets: 4, bytes: 229 });
    assert_eq!(counters.port("b").unwrap().unroutable, Tally::default());
    assert!(counters.directions.iter().all(|d| d.delivery.offered == Tally::default()));
    assert_eq!(fabric.next_due_ns(), None);
}

#[test]
fn of_all_directions_the_first_due_comes_first() {
    let mut plan = three_sites();
    plan.links = vec!["a/b:delay_us=5000".parse().unwrap(), "b/net:delay_us=3000".parse().unwrap()];
    let (mut fabric, ports) = fabric(&plan);
    fabric.offer(0, ports[0], v4("10.2.0.1", 20)).unwrap();
    fabric.offer(0, ports[1], v4("9.9.9.9", 21)).unwrap();
    fabric.offer(0, ports[2], v4("10.1.0.1", 22)).unwrap();
    let mut order = Vec::new();
    while let Some(next_ns) = fabric.next_due_ns() {
        let arrival = fabric.take_due(next_ns).unwrap();
        order.push((arrival.due.due_ns, arrival.due.bytes));
    }
    assert_eq!(order, [(MS, 22), (3 * MS, 21), (5 * MS, 20)]);
}

#[test]
fn a_cut_of_one_direction_leaves_the_others() {
    let (mut fabric, ports) = fabric(&three_sites());
    fabric.cut(0, &Pair::one_way("a", "b").unwrap()).unwrap();
    let refused = fabric.offer(0, ports[0], v4("10.2.0.1", 20)).unwrap_err();
    assert_eq!(refused.0, Fate::Discarded(Discarded::Cut));
    fabric.offer(0, ports[1], v4("10.1.0.1", 20)).unwrap();
    fabric.offer(0, ports[0], v4("9.9.9.9", 20)).unwrap();
    let counters = fabric.counters();
    assert!(counters.direction("a", "b").unwrap().is_cut);
    assert_eq!(counters.directions.iter().filter(|d| d.is_cut).count(), 1);

    fabric.cut(0, &Pair::both_ways("net", "a").unwrap()).unwrap();
    assert!(fabric.offer(0, ports[0], v4("9.9.9.9", 20)).is_err());
    assert!(fabric.offer(0, ports[2], v4("10.1.0.1", 20)).is_err());
    fabric.heal(&Pair::both_ways("a", "net").unwrap()).unwrap();
    fabric.offer(0, ports[2], v4("10.1.0.1", 20)).unwrap();
    assert!(fabric.counters().direction("a", "b").unwrap().is_cut, "that pair was not named");
}

#[test]
fn a_refused_change_changes_neither_direction() {
    let (mut fabric, _) = fabric(&three_sites());
    let before = fabric.counters();
    let both = Pair::both_ways("a", "b").unwrap();
    let change = "delay_us=1,loss_ppm=2000000".parse().unwrap();
    let refused = fabric.set(0, &both, change).unwrap_err().to_string();
    assert!(refused.contains("a/b") && refused.contains("loss_ppm"), "{refused}");
    let stranger = Pair::one_way("a", "x").unwrap();
    let refused = fabric.cut(0, &stranger).unwrap_err().to_string();
    assert!(refused.contains("'x'") && refused.contains("a, b, net"), "{refused}");
    assert!(fabric.set(0, &Pair::one_way("b", "b").unwrap(), Change::default()).is_err());
    assert_eq!(fabric.counters(), before);
}

#[test]
fn every_direction_has_losses_of_its_own() {
    let mut plan = three_sites();
    plan.settings = plan.settings.changed("loss_ppm=500000".parse().unwrap()).unwrap();
    let (mut fabric, ports) = fabric(&plan);
    let mut fates = |from: usize, to: &str| {
        let lost = |_| fabric.offer(0, ports[from], v4(to, 20)).is_err();
        (0..64).map(lost).collect::<Vec<bool>>()
    };
    let forth = fates(0, "10.2.0.1");
    assert_ne!(forth, fates(1, "10.1.0.1"));
    assert_ne!(forth, fates(0, "9.9.9.9"));
}

#[test]
fn lateness_and_refusals_belong_to_their_direction() {
    let (mut fabric, ports) = fabric(&three_sites());
    fabric.offer(0, ports[0], v4("10.2.0.1", 20)).unwrap();
    let arrival = fabric.take_due(MS).unwrap();
    fabric.was_late(arrival.from, arrival.to, 30);
    fabric.was_late(arrival.from, arrival.to, 10);
    fabric.was_refused(arrival.from, arrival.to, arrival.due.bytes);
    fabric.was_oversize(ports[1], 1501);
    let counters = fabric.counters();
    let forth = counters.direction("a", "b").unwrap();
    assert_eq!((forth.late_ns_sum, forth.late_ns_max), (40, 30));
    assert_eq!(forth.delivery.refused, Tally { packets: 1, bytes: 20 });
    assert_eq!(forth.delivery.delivered, Tally::default());
    assert_eq!(counters.direction("b", "a").unwrap().late_ns_max, 0);
    assert_eq!(counters.port("b").unwrap().oversize, Tally { packets: 1, bytes: 1501 });
}

#[test]
fn a_plan_that_leaves_a_way_unclear_is_refused() {
    let refused = |ports: &[&str]| Fabric::<Vec<u8>>::new(&plan(ports)).unwrap_err().to_string();
    assert!(refused(&["a=-:w:10.0.0.0/8"]).contains("1 ports"));
    let same_name = refused(&["a=-:w:10.0.0.0/8", "a=-:v:11.0.0.0/8"]);
    assert!(same_name.contains("'a'"), "{same_name}");
    let same_prefix = refused(&["a=-:w:10.0.0.0/8", "b=-:v:::/0,10.0.0.0/8"]);
    assert!(same_prefix.contains("10.0.0.0/8") && same_prefix.contains("'b'"), "{same_prefix}");
    assert!(refused(&["a=-:w:::/0,::/0", "b=-:v:10.0.0.0/8"]).contains("::/0"));
    let many: Vec<String> = (0..17).map(|n| format!("p{n}=-:w{n}:10.{n}.0.0/16")).collect();
    assert!(refused(&many.iter().map(String::as_str).collect::<Vec<_>>()).contains("17 ports"));
    let mut small = three_sites();
    small.mtu_bytes = 1000;
    assert!(Fabric::<Vec<u8>>::new(&small).unwrap_err().to_string().contains("1000"));
}
