//! The ledger held against the logs of clients and guest.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use ledger::{Event, FlowListed, Foreign, KeptBy, join};
use proxy_api::Protocol;
use support::{key, ledger_of, listed};

fn at_client(flow: &FlowListed) -> Foreign {
    Foreign { protocol: flow.protocol, opener: flow.client, taker: flow.vip }
}

fn in_guest(flow: &FlowListed) -> Foreign {
    Foreign { protocol: flow.protocol, opener: flow.source.unwrap(), taker: flow.server }
}

#[test]
fn what_both_have_is_joined_whatever_the_order() {
    let flows = [listed(1), listed(2), listed(3)];
    let ledger = ledger_of(&flows.clone().map(Event::Listed));
    let log = [at_client(&flows[2]), at_client(&flows[0]), at_client(&flows[1])];
    let joined = join(&ledger, KeptBy::Clients, &log);
    assert!(joined.is_complete());
    let pairs: Vec<_> = joined.both.iter().map(|both| (both.row, both.foreign)).collect();
    assert_eq!(pairs, [(0, 1), (1, 2), (2, 0)]);
    assert!(join(&ledger, KeptBy::Guest, &flows.map(|flow| in_guest(&flow))).is_complete());
}

#[test]
fn what_only_one_of_them_has_is_listed() {
    let flows = [listed(1), listed(2)];
    let ledger = ledger_of(&flows.clone().map(Event::Listed));
    let stranger = at_client(&listed(7));
    let joined = join(&ledger, KeptBy::Clients, &[at_client(&flows[1]), stranger]);
    assert!(!joined.is_complete());
    assert_eq!(joined.only_ledger, [key(1)]);
    assert_eq!(joined.only_log, [stranger]);
    assert_eq!(joined.both.len(), 1);
    // The right addresses under the other protocol are another flow.
    let udp = Foreign { protocol: Protocol::Udp, ..at_client(&flows[0]) };
    assert_eq!(join(&ledger, KeptBy::Clients, &[udp]).only_log, [udp]);
}

#[test]
fn addresses_that_one_of_them_has_twice_are_not_guessed_at() {
    let ledger = ledger_of(&[Event::Listed(listed(1))]);
    let entry = at_client(&listed(1));
    let joined = join(&ledger, KeptBy::Clients, &[entry, entry]);
    assert_eq!(joined.ambiguous, [entry]);
    assert!(joined.both.is_empty() && !joined.is_complete());
}

#[test]
fn a_mapped_address_is_the_same_address() {
    let ledger = ledger_of(&[Event::Listed(listed(1))]);
    let entry = at_client(&listed(1));
    let mapped = format!("[::ffff:{}]:{}", entry.opener.ip(), entry.opener.port());
    let entry = Foreign { opener: mapped.parse().unwrap(), ..entry };
    assert!(join(&ledger, KeptBy::Clients, &[entry]).is_complete());
}

#[test]
fn a_flow_that_never_reached_a_backend_is_only_in_the_ledger() {
    let dialling = FlowListed { source: None, ..listed(1) };
    let ledger = ledger_of(&[Event::Listed(dialling)]);
    assert_eq!(join(&ledger, KeptBy::Guest, &[]).only_ledger, [key(1)]);
}
