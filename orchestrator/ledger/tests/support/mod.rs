//! Events as a proxy would tell them, for tests.

#![allow(dead_code, reason = "each test file uses its part of it")]

use ledger::{Event, FlowEnded, FlowKey, FlowListed, FlowSeen, ProxyKey};
use proxy_api::{CloseReason, FlowId, Passed, Protocol};

pub(crate) mod chance;
pub(crate) mod plausible;

/// When the pivot was, in every test.
pub(crate) const PIVOT_AT_MS: u64 = 1_790_000_100_000;

/// The proxy of the source.
pub(crate) fn proxy() -> ProxyKey {
    ProxyKey { site: "oslo".parse().unwrap(), name: "px1".parse().unwrap() }
}

/// The flow of this number there.
pub(crate) fn key(number: u64) -> FlowKey {
    FlowKey { proxy: proxy(), id: FlowId { boot_us: 0x65_0f3a, number } }
}

/// A flow listed half a second before the pivot.
pub(crate) fn listed(number: u64) -> FlowListed {
    let port = u16::try_from(20_000 + number).unwrap();
    FlowListed {
        flow: key(number),
        at_ms: PIVOT_AT_MS - 500,
        protocol: Protocol::Tcp,
        service: "shop".parse().unwrap(),
        client: format!("198.51.100.7:{port}").parse().unwrap(),
        vip: "192.0.2.10:443".parse().unwrap(),
        backend: "web-1".parse().unwrap(),
        server: "10.7.0.20:8443".parse().unwrap(),
        source: Some(format!("10.7.0.2:{port}").parse().unwrap()),
        opened_at_ms: PIVOT_AT_MS - 60_000,
        passed: Passed { up: 1_000, down: 5_000 },
    }
}

/// The same flow `after_ms` after the pivot, when so much has passed since then.
pub(crate) fn seen(number: u64, after_ms: u64, up: u64, down: u64) -> FlowSeen {
    FlowSeen {
        flow: key(number),
        at_ms: PIVOT_AT_MS + after_ms,
        passed: Passed { up: 1_100 + up, down: 5_200 + down },
        after_pivot: Some(Passed { up, down }),
        owed_bytes: 0,
        owed_since_ms: None,
        stall_us_max: 230_000 + number,
    }
}

/// Its end.
pub(crate) fn ended(
    number: u64,
    after_ms: u64,
    (up, down): (u64, u64),
    reason: CloseReason,
) -> FlowEnded {
    let seen = seen(number, after_ms, up, down);
    FlowEnded {
        flow: seen.flow,
        at_ms: seen.at_ms,
        reason,
        passed: seen.passed,
        after_pivot: seen.after_pivot,
        owed_bytes: 0,
        stall_us_max: seen.stall_us_max,
    }
}

/// The ledger of these events.
pub(crate) fn ledger_of(events: &[Event]) -> ledger::Ledger {
    let mut fold = ledger::Fold::default();
    fold.extend(events.iter().cloned()).unwrap();
    fold.ledger()
}

/// The pivot.
pub(crate) fn pivot() -> Event {
    Event::Pivot { at_ms: PIVOT_AT_MS }
}
