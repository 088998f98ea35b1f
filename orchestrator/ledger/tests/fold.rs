//! The fold: any order gives the same ledger, each flow has one row, each verdict is earned, and
//! what does not fit together is named.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use ledger::{
    Broken, Closer, Event, FlowEnded, FlowListed, FlowSeen, Fold, Ledger, OddityKind, SideFlowSeen,
    StragglerSeen, Subject, Tuple, Verdict, VmEnd,
};
use proptest::prelude::*;
use proxy_api::{CloseReason, Passed, Protocol};
use support::{PIVOT_AT_MS, ended, key, ledger_of, listed, pivot, proxy, seen};

/// The verdict on flow 1, of which this is told after it was listed.
fn verdict_on(told: impl IntoIterator<Item = Event>) -> Verdict {
    let mut events = vec![pivot(), Event::Listed(listed(1))];
    events.extend(told);
    let ledger = ledger_of(&events);
    assert_eq!(ledger.flows.len(), 1);
    ledger.flows[0].verdict
}

fn kinds(ledger: &Ledger) -> Vec<(OddityKind, u64)> {
    ledger.oddities.iter().map(|oddity| (oddity.is, oddity.times)).collect()
}

#[test]
fn bytes_both_ways_after_the_pivot_mean_survived() {
    assert_eq!(verdict_on([Event::Seen(seen(1, 900, 1, 1))]), Verdict::Survived);
    let killed = ended(1, 900, (1, 1), CloseReason::Killed);
    assert_eq!(verdict_on([Event::Ended(killed)]), Verdict::Survived);
}

#[test]
fn an_open_flow_that_is_owed_nothing_is_idle_and_one_that_waits_is_broken() {
    let idle = seen(1, 900, 0, 0);
    assert_eq!(verdict_on([Event::Seen(idle.clone())]), Verdict::Idle);
    let stuck = FlowSeen { owed_bytes: 40, owed_since_ms: Some(PIVOT_AT_MS - 100), ..idle };
    assert_eq!(verdict_on([Event::Seen(stuck)]), Verdict::Broken(Broken::Stuck));
}

#[test]
fn a_peer_that_ends_it_before_is_named() {
    let by = |reason| {
        let ledger = ledger_of(&[
            pivot(),
            Event::Listed(listed(1)),
            Event::Ended(ended(1, 10, (0, 0), reason)),
        ]);
        (ledger.flows[0].verdict, ledger.flows[0].closed_by)
    };
    let client = (Verdict::ClosedByClient, Some(Closer::Client));
    let server = (Verdict::ClosedByServer, Some(Closer::Server));
    assert_eq!(by(CloseReason::ClientFin), client);
    assert_eq!(by(CloseReason::ClientRst), client);
    assert_eq!(by(CloseReason::ServerFin), server);
    assert_eq!(by(CloseReason::ServerRst), server);
    let killed = (Verdict::Broken(Broken::Killed), Some(Closer::Operator));
    assert_eq!(by(CloseReason::Killed), killed);
    let lost = (Verdict::Broken(Broken::ServerLost), Some(Closer::Proxy));
    assert_eq!(by(CloseReason::ServerLost), lost);
}

#[test]
fn an_end_during_the_hold_needs_no_word_from_after_the_pivot() {
    let mut end = ended(1, 0, (0, 0), CloseReason::ClientRst);
    (end.at_ms, end.after_pivot) = (PIVOT_AT_MS - 80, None);
    assert_eq!(verdict_on([Event::Ended(end)]), Verdict::ClosedByClient);
}

#[test]
fn a_listed_flow_that_nobody_tells_of_again_is_unaccounted() {
    let unaccounted = Verdict::Broken(Broken::Unaccounted);
    assert_eq!(verdict_on([]), unaccounted);
    // Seen, but before the pivot.
    let before = FlowSeen { after_pivot: None, ..seen(1, 0, 0, 0) };
    assert_eq!(verdict_on([Event::Seen(before)]), unaccounted);
}

#[test]
fn a_flow_that_its_proxy_no_longer_tells_of_is_unaccounted_from_then_on() {
    let idle = Event::Seen(seen(1, 900, 0, 0));
    let collected = |after_ms| Event::Collected { proxy: proxy(), at_ms: PIVOT_AT_MS + after_ms };
    assert_eq!(verdict_on([idle.clone(), collected(900)]), Verdict::Idle);
    assert_eq!(
        verdict_on([idle, collected(901)]),
        Verdict::Broken(Broken::Unaccounted),
        "the proxy told all, and not this one"
    );
    let survived = Event::Seen(seen(1, 900, 5, 5));
    assert_eq!(verdict_on([survived, collected(901)]), Verdict::Survived);
}

#[test]
fn a_move_that_was_undone_counts_from_the_listing() {
    let told = FlowSeen { after_pivot: None, ..seen(1, 900, 0, 0) };
    let ledger = ledger_of(&[Event::Listed(listed(1)), Event::Seen(told)]);
    assert_eq!(ledger.pivot_at_ms, None);
    assert_eq!(ledger.flows[0].after_pivot, Passed { up: 100, down: 200 });
    assert_eq!(ledger.flows[0].verdict, Verdict::Survived);
}

#[test]
fn one_way_traffic_is_told_from_silence() {
    let events = [
        pivot(),
        Event::Listed(listed(1)),
        Event::Listed(listed(2)),
        Event::Seen(seen(1, 900, 4_000, 0)),
        Event::Seen(seen(2, 900, 0, 0)),
    ];
    let totals = ledger_of(&events).totals;
    assert_eq!((totals.flows, totals.idle, totals.idle_one_way), (2, 2, 1));
}

#[test]
fn the_stall_is_the_longest_that_was_ever_told_and_idle_flows_do_not_dilute_it() {
    let stalled = FlowSeen { stall_us_max: 400_000, ..seen(1, 100, 0, 0) };
    let quiet = FlowSeen { stall_us_max: 0, ..seen(2, 100, 0, 0) };
    let events = [
        pivot(),
        Event::Listed(listed(1)),
        Event::Listed(listed(2)),
        Event::Seen(stalled),
        Event::Seen(seen(1, 900, 9, 9)),
        Event::Seen(quiet),
    ];
    let ledger = ledger_of(&events);
    assert_eq!(ledger.flows[0].stall_us_max, Some(400_000));
    assert_eq!(
        (ledger.stalls.flows, ledger.stalls.max_us, ledger.stalls.p50_us),
        (1, 400_000, 400_000)
    );
}

#[test]
fn what_is_told_twice_counts_once_and_is_named() {
    let events = vec![pivot(), Event::Listed(listed(1)), Event::Seen(seen(1, 900, 1, 1))];
    let once = ledger_of(&events);
    let twice = ledger_of(&[events.clone(), events].concat());
    assert_eq!(twice.flows, once.flows);
    assert_eq!(twice.totals, once.totals);
    assert!(once.oddities.is_empty());
    let told = |oddity: &ledger::Oddity| (oddity.subject.clone(), oddity.is, oddity.times);
    let expected = [
        (Subject::Move, OddityKind::Repeated, 1),
        // Its listing and its sighting.
        (Subject::Flow(key(1)), OddityKind::Repeated, 2),
    ];
    assert_eq!(twice.oddities.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn contradictions_are_named_and_the_rules_say_what_stands() {
    let other = FlowListed {
        at_ms: listed(1).at_ms + 1,
        client: "203.0.113.9:4".parse().unwrap(),
        ..listed(1)
    };
    let again = FlowListed { at_ms: listed(1).at_ms + 2, ..listed(1) };
    let events = [
        pivot(),
        Event::Pivot { at_ms: PIVOT_AT_MS + 3 },
        Event::Listed(listed(1)),
        Event::Listed(other),
        Event::Listed(again),
        Event::Ended(ended(1, 50, (0, 0), CloseReason::ClientFin)),
        Event::Ended(ended(1, 60, (0, 0), CloseReason::Killed)),
        Event::Seen(seen(1, 70, 0, 0)),
        Event::Seen(seen(9, 70, 0, 0)),
    ];
    let ledger = ledger_of(&events);
    let expected = [
        (OddityKind::PivotApart, 1),
        (OddityKind::ListedApart, 1),
        (OddityKind::ListedAgain, 1),
        (OddityKind::EndedApart, 1),
        (OddityKind::SeenAfterEnd, 1),
        (OddityKind::NeverListed, 1),
    ];
    assert_eq!(kinds(&ledger), expected);
    assert_eq!(ledger.oddities[5].subject, Subject::Flow(key(9)));
    assert_eq!(ledger.pivot_at_ms, Some(PIVOT_AT_MS));
    assert_eq!(ledger.flows.len(), 1);
    assert_eq!(ledger.flows[0].client, listed(1).client);
    assert_eq!(ledger.flows[0].verdict, Verdict::ClosedByClient);
}

#[test]
fn counters_that_fall_or_disagree_are_named() {
    let less = FlowSeen { passed: Passed { up: 0, down: 0 }, ..seen(1, 900, 2, 2) };
    let events =
        [pivot(), Event::Listed(listed(1)), Event::Seen(seen(1, 800, 1, 1)), Event::Seen(less)];
    let expected = [(OddityKind::BytesFell, 1), (OddityKind::MoreAfterPivotThanInAll, 1)];
    assert_eq!(kinds(&ledger_of(&events)), expected);
}

#[test]
fn a_side_flow_has_its_times_at_both_ports_and_no_verdict() {
    let tuple = Tuple {
        protocol: Protocol::Tcp,
        vm: "10.7.0.20:40001".parse().unwrap(),
        peer: "10.7.0.31:5432".parse().unwrap(),
    };
    let saw = |end, first, last| {
        Event::SideFlow(SideFlowSeen {
            tuple,
            end,
            first_at_ms: Some(PIVOT_AT_MS + first),
            last_at_ms: Some(PIVOT_AT_MS + last),
        })
    };
    let ledger = ledger_of(&[
        saw(VmEnd::Target, 1_030, 1_900),
        saw(VmEnd::Source, 0, 500),
        saw(VmEnd::Source, 0, 810),
    ]);
    let [row] = ledger.side_flows.as_slice() else { panic!("one row for one tuple") };
    assert_eq!(row.last_at_source_ms, Some(PIVOT_AT_MS + 810));
    assert_eq!(row.first_at_target_ms, Some(PIVOT_AT_MS + 1_030));
    assert_eq!(row.gap_ms(), Some(220));
    assert!(ledger.oddities.is_empty());

    let rounded = ledger_of(&[saw(VmEnd::Source, 0, 810), saw(VmEnd::Target, 800, 900)]);
    assert_eq!(rounded.side_flows[0].gap_ms(), Some(-10));
    assert!(rounded.oddities.is_empty(), "watches tell to the second");
    let early = ledger_of(&[saw(VmEnd::Source, 0, 3_800), saw(VmEnd::Target, 1_200, 9_000)]);
    assert_eq!(early.side_flows[0].gap_ms(), Some(-2_600));
    assert_eq!(kinds(&early), [(OddityKind::AtBothEnds, 1)]);

    let timeless = SideFlowSeen { tuple, end: VmEnd::Source, first_at_ms: None, last_at_ms: None };
    let ledger = ledger_of(&[Event::SideFlow(timeless)]);
    let row = &ledger.side_flows[0];
    assert_eq!((row.at_source, row.at_target, row.last_at_source_ms), (true, false, None));
}

#[test]
fn stragglers_are_counted_by_their_address() {
    let came = |number, client: &str, after_ms| {
        Event::Straggler(StragglerSeen {
            flow: key(number),
            at_ms: PIVOT_AT_MS + after_ms,
            client: client.parse().unwrap(),
            vip: "192.0.2.10:443".parse().unwrap(),
            service: "shop".parse().unwrap(),
        })
    };
    let ledger = ledger_of(&[
        Event::Listed(listed(3)),
        came(1, "198.51.100.7:1", 10),
        came(2, "[::ffff:198.51.100.7]:2", 5),
        came(3, "[2001:db8::5]:9", 7),
    ]);
    let counts: Vec<_> =
        ledger.stragglers.iter().map(|row| (row.client.to_string(), row.connections)).collect();
    assert_eq!(counts, [("198.51.100.7".to_owned(), 2), ("2001:db8::5".to_owned(), 1)]);
    assert_eq!(ledger.stragglers[0].first_at_ms, PIVOT_AT_MS + 5);
    assert_eq!(kinds(&ledger), [(OddityKind::PinnedStraggler, 1)]);
}

/// Any event about any of a few flows, with figures that often collide and contradict.
fn any_event() -> impl Strategy<Value = Event> {
    let number = 1..6_u64;
    let after_ms = 0..4_u64;
    let bytes = 0..3_u64;
    let reason = prop::sample::select(CloseReason::ALL.to_vec());
    prop_oneof![
        1 => after_ms.clone().prop_map(|ms| Event::Pivot { at_ms: PIVOT_AT_MS + ms }),
        1 => after_ms.clone()
            .prop_map(|ms| Event::Collected { proxy: proxy(), at_ms: PIVOT_AT_MS + ms }),
        4 => (number.clone(), after_ms.clone()).prop_map(|(number, ms)| {
            let listed = listed(number);
            Event::Listed(FlowListed { at_ms: listed.at_ms + ms, ..listed })
        }),
        6 => (number.clone(), after_ms.clone(), bytes.clone(), bytes.clone(), any::<bool>())
            .prop_map(|(number, ms, up, down, is_after)| {
                let seen = seen(number, ms, up, down);
                let after_pivot = seen.after_pivot.filter(|_| is_after);
                Event::Seen(FlowSeen { after_pivot, owed_bytes: up, ..seen })
            }),
        3 => (number, after_ms, bytes.clone(), bytes, reason).prop_map(
            |(number, ms, up, down, reason)| {
                Event::Ended(FlowEnded { owed_bytes: up, ..ended(number, ms, (up, down), reason) })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn the_order_of_the_events_does_not_matter(
        events in prop::collection::vec(any_event(), 0..60),
        seed in any::<u64>(),
    ) {
        let mut other = events.clone();
        support::chance::Chance::new(seed).shuffle(&mut other);
        prop_assert_eq!(ledger_of(&events), ledger_of(&other), "seed {}", seed);
    }

    #[test]
    fn two_halves_make_the_same_ledger_as_the_whole(
        events in prop::collection::vec(any_event(), 0..60),
        at in 0..60_usize,
    ) {
        let (one, other) = events.split_at(at.min(events.len()));
        let mut fold = Fold::default();
        fold.extend(other.iter().cloned()).unwrap();
        let _ = fold.ledger();
        fold.extend(one.iter().cloned()).unwrap();
        prop_assert_eq!(fold.ledger(), ledger_of(&events));
    }

    #[test]
    fn each_listed_flow_has_exactly_one_row_and_one_verdict(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let ledger = ledger_of(&events);
        let listed: std::collections::BTreeSet<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Listed(listed) => Some(&listed.flow),
                _ => None,
            })
            .collect();
        let rows: Vec<_> = ledger.flows.iter().map(|row| &row.flow).collect();
        prop_assert_eq!(rows, listed.into_iter().collect::<Vec<_>>());
        let totals = &ledger.totals;
        let verdicts = totals.survived + totals.idle + totals.closed_by_client
            + totals.closed_by_server + totals.broken;
        prop_assert_eq!(verdicts, totals.flows);
        prop_assert_eq!(totals.flows, ledger.flows.len() as u64);
        prop_assert_eq!(totals.broken_by.values().sum::<u64>(), totals.broken);
        let json = serde_json::to_string(&ledger).unwrap();
        prop_assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
    }

    #[test]
    fn more_words_of_the_same_never_change_a_row(
        events in prop::collection::vec(any_event(), 0..40),
    ) {
        let twice = [events.clone(), events.clone()].concat();
        prop_assert_eq!(ledger_of(&twice).flows, ledger_of(&events).flows);
    }
}
