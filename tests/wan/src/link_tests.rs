use proptest::prelude::*;

use super::*;
use crate::settings::Change;

const MS: u64 = 1_000_000;

fn settings(text: &str) -> Settings {
    Settings::default().changed(text.parse().unwrap()).unwrap()
}

fn link(text: &str) -> Link<u64> {
    Link::new(settings(text), Draws::new(1))
}

/// Everything that arrives up to a time, as (payload, due).
fn arrivals(link: &mut Link<u64>, until_ns: u64) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| link.take_due(until_ns)).map(|due| (due.payload, due.due_ns)).collect()
}

fn assert_conserved(delivery: Delivery) {
    let fates = [
        delivery.delivered,
        delivery.refused,
        delivery.lost,
        delivery.dropped,
        delivery.cut,
        delivery.overflowed,
        delivery.held,
    ];
    assert_eq!(fates.into_iter().fold(Tally::default(), |sum, part| sum + part), delivery.offered);
}

#[test]
fn a_packet_arrives_after_exactly_the_delay() {
    let mut link = link("delay_us=50000");
    link.offer(7, 1500, 1).unwrap();
    assert_eq!(link.next_due_ns(), Some(7 + 50 * MS));
    assert_eq!(link.take_due(7 + 50 * MS - 1), None);
    assert_eq!(
        link.take_due(7 + 50 * MS),
        Some(Due { due_ns: 7 + 50 * MS, bytes: 1500, payload: 1 })
    );
    assert_eq!(link.next_due_ns(), None);
}

#[test]
fn a_rate_is_exact_over_any_number_of_packets() {
    // 1500 bytes at 7 Mbit/s take 1,714,285.714… ns: no packet's time is whole, their sum is exact.
    let mut link = link("rate_bits_per_s=7000000,queue_bytes_max=100000000");
    for n in 0..7_000 {
        link.offer(0, 1500, n).unwrap();
    }
    let arrived = arrivals(&mut link, u64::MAX);
    assert_eq!(arrived.len(), 7_000);
    for (n, due_ns) in arrived {
        let bits_times_ns = (n + 1) * 1500 * 8 * NS_PER_S;
        assert_eq!(due_ns, bits_times_ns.div_ceil(7_000_000), "packet {n}");
    }
}

#[test]
fn an_idle_bottleneck_gives_no_credit() {
    let mut link = link("rate_bits_per_s=8000000,delay_us=10");
    link.offer(0, 1000, 1).unwrap();
    link.offer(5 * MS, 1000, 2).unwrap();
    link.offer(5 * MS, 1000, 3).unwrap();
    assert_eq!(
        arrivals(&mut link, 100 * MS),
        [(1, MS + 10_000), (2, 6 * MS + 10_000), (3, 7 * MS + 10_000)]
    );
}

#[test]
fn the_queue_is_full_at_the_exact_byte() {
    let mut link = link("rate_bits_per_s=8000,queue_bytes_max=3000");
    link.offer(0, 5000, 0).unwrap(); // Being sent: it does not wait.
    link.offer(0, 1500, 1).unwrap();
    link.offer(0, 1499, 2).unwrap();
    assert_eq!(link.offer(0, 2, 3), Err((Discarded::Dropped, 3)));
    link.offer(0, 1, 4).unwrap();
    assert_eq!(link.offer(0, 1, 5), Err((Discarded::Dropped, 5)));
    // The first has been sent at 5 s; then the second no longer waits, and leaves 1500 bytes.
    assert_eq!(link.offer(5_000 * MS - 1, 1, 6), Err((Discarded::Dropped, 6)));
    link.offer(5_000 * MS, 1500, 7).unwrap();
    assert_eq!(link.offer(5_000 * MS, 1, 8), Err((Discarded::Dropped, 8)));
    assert_eq!(link.delivery().dropped, Tally { packets: 4, bytes: 5 });
    let order: Vec<u64> = arrivals(&mut link, u64::MAX).into_iter().map(|(n, _)| n).collect();
    assert_eq!(order, [0, 1, 2, 4, 7]);
    assert_conserved(link.delivery());
}

#[test]
fn a_packet_larger_than_the_queue_passes_an_idle_bottleneck_only() {
    let mut link = link("rate_bits_per_s=8000,queue_bytes_max=10");
    link.offer(0, 1500, 1).unwrap();
    assert_eq!(link.offer(0, 1500, 2), Err((Discarded::Dropped, 2)));
    link.offer(1_500 * MS, 1500, 3).unwrap();
}

#[test]
fn losses_are_the_seeded_ones_and_as_many_as_asked() {
    const PACKETS: u64 = 200_000;
    let mut link = link("loss_ppm=1000");
    let mut draws = Draws::new(1);
    let mut lost = 0_u32;
    for n in 0..PACKETS {
        let expected = below(draws.next_bits(), 1_000_000) < 1000;
        draws.next_bits();
        assert_eq!(link.offer(n, 100, n).is_err(), expected, "packet {n}");
        lost += u32::from(expected);
        link.take_due(n);
    }
    // Five standard deviations of a binomial around its mean of 200.
    let deviation = (f64::from(lost) - 200.0).abs();
    assert!(deviation < 5.0 * (200.0_f64 * 0.999).sqrt(), "{lost} lost");
    assert_eq!(link.delivery().lost, Tally { packets: lost.into(), bytes: u64::from(lost) * 100 });
}

#[test]
fn all_or_nothing_can_be_lost() {
    let mut all = link("loss_ppm=1000000");
    let mut none = link("loss_ppm=0");
    for n in 0..10_000 {
        assert_eq!(all.offer(n, 1, n), Err((Discarded::Lost, n)));
        none.offer(n, 1, n).unwrap();
    }
}

#[test]
fn a_lost_packet_takes_its_time_at_the_bottleneck() {
    let mut link = link("rate_bits_per_s=8000,loss_ppm=1000000");
    assert!(link.offer(0, 1000, 1).is_err());
    link.set(0, settings("rate_bits_per_s=8000"));
    link.offer(0, 1000, 2).unwrap();
    assert_eq!(link.next_due_ns(), Some(1_000 * MS), "when to look again");
    assert_eq!(link.take_due(1_000 * MS), None);
    assert_eq!(arrivals(&mut link, 2_000 * MS), [(2, 2_000 * MS)]);
}

#[test]
fn what_one_packet_meets_does_not_change_what_the_next_one_draws() {
    let fates = |packets_cut: u64| {
        let mut link = link("loss_ppm=500000");
        link.cut(0);
        for n in 0..packets_cut {
            assert_eq!(link.offer(0, 1, n), Err((Discarded::Cut, n)));
        }
        link.heal();
        (packets_cut..500).map(|n| link.offer(1, 1, n).is_err()).collect::<Vec<_>>()
    };
    assert_eq!(fates(0)[100..], fates(100));
}

#[test]
fn a_cut_takes_what_is_under_way_and_all_until_the_heal() {
    let mut link = link("delay_us=1000,rate_bits_per_s=8000000");
    for n in 0..5 {
        link.offer(0, 1000, n).unwrap();
    }
    // Due at 2, 3, 4, 5 and 6 ms. At 3 ms the second has just arrived; the rest is on its way.
    link.cut(3 * MS);
    assert_eq!(link.offer(3 * MS, 7, 5), Err((Discarded::Cut, 5)));
    assert_eq!(link.offer(9 * MS, 7, 6), Err((Discarded::Cut, 6)));
    link.heal();
    link.offer(9 * MS, 1000, 7).unwrap();
    assert_eq!(arrivals(&mut link, u64::MAX), [(0, 2 * MS), (1, 3 * MS), (7, 11 * MS)]);
    assert_eq!(link.delivery().cut, Tally { packets: 5, bytes: 3014 });
    assert_conserved(link.delivery());
}

#[test]
fn after_a_cut_the_link_owes_nothing_to_what_was_cut() {
    let mut link = link("delay_us=5000000");
    link.offer(0, 1, 1).unwrap();
    link.cut(1);
    link.heal();
    link.set(1, settings("delay_us=10"));
    link.offer(1, 1, 2).unwrap();
    assert_eq!(arrivals(&mut link, u64::MAX), [(2, 10_001)]);
}

#[test]
fn a_second_cut_or_heal_changes_nothing() {
    let mut link = link("delay_us=0");
    link.heal();
    link.cut(1);
    link.cut(2);
    assert!(link.is_cut());
    link.heal();
    link.heal();
    link.offer(3, 1, 9).unwrap();
    assert_eq!(arrivals(&mut link, 3), [(9, 3)]);
}

#[test]
fn a_shorter_delay_overtakes_nobody() {
    let mut link = link("delay_us=1000");
    link.offer(0, 1, 1).unwrap();
    link.set(1, settings("delay_us=0"));
    link.offer(1, 1, 2).unwrap();
    assert_eq!(arrivals(&mut link, u64::MAX), [(1, MS), (2, MS)]);
}

#[test]
fn a_new_rate_holds_for_what_still_waits() {
    let mut link = link("rate_bits_per_s=8000");
    for n in 0..3 {
        link.offer(0, 1000, n).unwrap();
    }
    link.set(500 * MS, settings("rate_bits_per_s=8000000"));
    assert_eq!(arrivals(&mut link, u64::MAX), [(0, 1_000 * MS), (1, 1_001 * MS), (2, 1_002 * MS)]);
}

#[test]
fn no_rate_empties_the_queue_behind_what_is_being_sent() {
    let mut link = link("rate_bits_per_s=8000");
    for n in 0..3 {
        link.offer(0, 1000, n).unwrap();
    }
    link.set(1, settings("rate_bits_per_s=0"));
    assert_eq!(arrivals(&mut link, u64::MAX), [(0, 1_000 * MS), (1, 1_000 * MS), (2, 1_000 * MS)]);
}

#[test]
fn jitter_stays_within_its_bound_and_keeps_the_order() {
    let mut link = link("delay_us=1000,jitter_us=500");
    for n in 0..10_000 {
        link.offer(n * 2 * MS, 1, n).unwrap();
    }
    let late: Vec<u64> =
        arrivals(&mut link, u64::MAX).into_iter().map(|(n, due)| due - n * 2 * MS - MS).collect();
    assert!(late.iter().all(|late| *late <= MS / 2));
    let mean = late.iter().sum::<u64>() / 10_000;
    assert!((240_000..260_000).contains(&mean), "mean {mean} ns of an even 0 to 500,000");
}

#[test]
fn the_emulators_own_limit_is_counted_apart() {
    let mut link = link("delay_us=1");
    for n in 0..PACKETS_HELD_MAX as u64 {
        link.offer(0, 1, n).unwrap();
    }
    assert_eq!(link.offer(0, 3, 0), Err((Discarded::Overflowed, 0)));
    assert_eq!(link.delivery().overflowed, Tally { packets: 1, bytes: 3 });
    assert!(link.take_due(1000).is_some());
    link.offer(1000, 1, 0).unwrap();
}

#[test]
fn what_the_device_refuses_is_not_counted_as_delivered() {
    let mut link = link("delay_us=0");
    link.offer(0, 9, 1).unwrap();
    let due = link.take_due(0).unwrap();
    link.was_refused(due.bytes);
    assert_eq!(link.delivery().delivered, Tally::default());
    assert_eq!(link.delivery().refused, Tally { packets: 1, bytes: 9 });
    assert_conserved(link.delivery());
}

#[derive(Debug, Clone)]
enum Act {
    Offer(u32),
    Take,
    Set(Change),
    Cut,
    Heal,
}

fn act() -> impl Strategy<Value = Act> {
    let change = (0..5_000_u64, 0..2_000_u64, 0..400_000_u32, 0..50_000_000_u64, 0..20_000_u64)
        .prop_map(|(delay_us, jitter_us, loss_ppm, rate_bits_per_s, queue_bytes_max)| Change {
            delay_us: Some(delay_us),
            jitter_us: Some(jitter_us),
            loss_ppm: Some(loss_ppm),
            rate_bits_per_s: Some(rate_bits_per_s),
            queue_bytes_max: Some(queue_bytes_max),
        });
    prop_oneof![
        20 => (20..1500_u32).prop_map(Act::Offer),
        10 => Just(Act::Take),
        2 => change.prop_map(Act::Set),
        1 => Just(Act::Cut),
        2 => Just(Act::Heal),
    ]
}

/// Runs a schedule; gives every arrival and the final counters.
fn run(seed: u64, schedule: &[(u64, Act)]) -> (Vec<Due<u64>>, Delivery) {
    let mut link = Link::new(settings("delay_us=2000,rate_bits_per_s=10000000"), Draws::new(seed));
    let (mut now_ns, mut offers, mut arrived) = (0, 0, Vec::new());
    let mut cut_since_offer = None;
    for (pause_ns, act) in schedule {
        now_ns += pause_ns;
        match act {
            Act::Offer(bytes) => {
                let outcome = link.offer(now_ns, *bytes, offers);
                let is_cut = matches!(outcome, Err((Discarded::Cut, _)));
                assert_eq!(is_cut, cut_since_offer.is_some(), "cut exactly while cut");
                offers += 1;
            }
            Act::Take => arrived.extend(std::iter::from_fn(|| link.take_due(now_ns))),
            Act::Set(change) => link.set(now_ns, link.settings().changed(*change).unwrap()),
            Act::Cut => {
                link.cut(now_ns);
                cut_since_offer.get_or_insert(offers);
            }
            Act::Heal => {
                link.heal();
                cut_since_offer = None;
            }
        }
        assert_conserved(link.delivery());
        assert_eq!(link.next_due_ns().is_some(), has_entries(&link));
    }
    while let Some(next_ns) = link.next_due_ns() {
        // The contract of the driver: asked at the time that was named, the link always moves on.
        now_ns = now_ns.max(next_ns);
        arrived.extend(std::iter::from_fn(|| link.take_due(now_ns)));
    }
    assert_eq!(link.delivery().held, Tally::default());
    assert_conserved(link.delivery());
    (arrived, link.delivery())
}

fn has_entries(link: &Link<u64>) -> bool {
    !link.line.is_empty() || !link.waiting.is_empty()
}

proptest! {
    #[test]
    fn any_schedule_conserves_packets_keeps_order_and_repeats(
        seed: u64,
        schedule in prop::collection::vec((0..1_000_000_u64, act()), 1..300),
    ) {
        let (arrived, delivery) = run(seed, &schedule);
        let bytes = arrived.iter().map(|due| u64::from(due.bytes)).sum();
        prop_assert_eq!(delivery.delivered, Tally { packets: arrived.len() as u64, bytes });
        prop_assert!(arrived.is_sorted_by(|a, b| a.payload < b.payload && a.due_ns <= b.due_ns));
        prop_assert_eq!((arrived, delivery), run(seed, &schedule));
    }
}
