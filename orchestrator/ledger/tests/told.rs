//! What a proxy tells becomes the ledger's events.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use ledger::{Event, FlowSeen, Verdict};
use proxy_api::{CloseReason, Flow, FlowState, Passed, PinnedFlow, Protocol, WayBytes};
use support::{PIVOT_AT_MS, key, ledger_of, listed, pivot, proxy};

/// Flow 1, as its proxy noted it and tells it a second after the pivot.
fn pinned(state: FlowState) -> PinnedFlow {
    let listed = listed(1);
    PinnedFlow {
        flow: Flow {
            id: key(1).id,
            service: listed.service,
            protocol: Protocol::Tcp,
            client: listed.client,
            vip: listed.vip,
            backend: listed.backend,
            vm: Some("web-1".parse().unwrap()),
            server: listed.server,
            source: listed.source,
            state,
            up: WayBytes { taken: 1_300, given: 1_300, owed: 100 },
            down: WayBytes { taken: 5_600, given: 5_600, owed: 0 },
            opened_at_ms: listed.opened_at_ms,
            last_bytes_at_ms: Some(PIVOT_AT_MS + 900),
            closed_at_ms: None,
            owed_since_ms: Some(PIVOT_AT_MS + 990),
            // Of its whole life; the move's own is the other one.
            stall_us_max: 9_000_000,
        },
        listed_at_ms: listed.at_ms,
        passed_at_listing: listed.passed,
        passed_at_pivot: Some(Passed { up: 1_050, down: 5_000 }),
        stall_us_since_listing: 231_000,
    }
}

#[test]
fn a_live_flow_is_listed_and_seen_with_what_was_acknowledged_after_the_pivot() {
    let [list, seen] = Event::told(&proxy(), PIVOT_AT_MS + 1_000, &pinned(FlowState::Open));
    assert_eq!(list, Event::Listed(listed(1)));
    let expected = FlowSeen {
        flow: key(1),
        at_ms: PIVOT_AT_MS + 1_000,
        passed: Passed { up: 1_200, down: 5_600 },
        after_pivot: Some(Passed { up: 150, down: 600 }),
        owed_bytes: 100,
        owed_since_ms: Some(PIVOT_AT_MS + 990),
        stall_us_max: 231_000,
    };
    assert_eq!(seen, Event::Seen(expected));
    let ledger = ledger_of(&[pivot(), list, seen]);
    assert_eq!(ledger.flows[0].verdict, Verdict::Survived);
}

#[test]
fn an_ended_flow_is_told_with_its_reason_and_its_own_time() {
    let mut told = pinned(FlowState::Closed { reason: CloseReason::ClientRst });
    told.flow.closed_at_ms = Some(PIVOT_AT_MS - 40);
    told.passed_at_pivot = None;
    let [_, end] = Event::told(&proxy(), PIVOT_AT_MS + 1_000, &told);
    let Event::Ended(end) = end else { panic!("{end:?} is no end") };
    assert_eq!((end.at_ms, end.reason), (PIVOT_AT_MS - 40, CloseReason::ClientRst));
    assert_eq!(end.after_pivot, None);
}

#[test]
fn a_datagram_that_was_given_has_passed() {
    let mut told = pinned(FlowState::Open);
    told.flow.protocol = Protocol::Udp;
    assert_eq!(told.flow.passed(), Passed { up: 1_300, down: 5_600 });
}
