//! The ledger held against somebody else's log, by address and port.
//!
//! A ledger that only its own proxies can confirm proves little. Clients and the guest keep logs of
//! their own; a flow that only one side has is a fault of one of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proxy_api::Protocol;
use serde::{Deserialize, Serialize};

use crate::event::FlowKey;
use crate::rows::{FlowRow, Ledger};

/// Where the foreign log was kept, and so which addresses it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// At the clients: their address, and the VIP.
    Clients,
    /// In the guest: the proxy's address, and the backend's.
    Guest,
}

/// A flow in a foreign log. Give those that were alive at the cutover by that log's own times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Foreign {
    /// What it speaks.
    pub protocol: Protocol,
    /// The end that opened it: a client, or the proxy.
    pub opener: SocketAddr,
    /// The end that took it: a VIP, or the backend.
    pub taker: SocketAddr,
}

/// A flow that both have: which one of the ledger, and which of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its place in [`Ledger::flows`].
    pub row: usize,
    /// Its place among the foreign flows.
    pub foreign: usize,
}

/// What a join found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// What both have, once each.
    pub both: Vec<Joined>,
    /// What only the ledger has.
    pub only_ledger: Vec<FlowKey>,
    /// What only the log has.
    pub only_log: Vec<Foreign>,
    /// Addresses that one of them has more than once, so that nobody can say which is which. None
    /// of their flows counts as joined.
    pub ambiguous: Vec<Foreign>,
}

impl Join {
    /// Whether each flow of either is exactly one of the other.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.only_ledger.is_empty() && self.only_log.is_empty() && self.ambiguous.is_empty()
    }
}

/// Joins the ledger with a log that was `kept_by` somebody else. Addresses are compared in their canonical
/// form: an IPv4 address is the same one where a socket shows it mapped.
#[must_use]
pub fn join(ledger: &Ledger, kept_by: KeptBy, log: &[Foreign]) -> Join {
    let mut join = Join::default();
    let mut pairs: BTreeMap<Foreign, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (at, row) in ledger.flows.iter().enumerate() {
        match as_seen_from(kept_by, row) {
            Some(seen) => pairs.entry(seen).or_default().0.push(at),
            None => join.only_ledger.push(row.flow.clone()),
        }
    }
    for (at, foreign) in log.iter().enumerate() {
        pairs.entry(canonical(*foreign)).or_default().1.push(at);
    }
    for (addresses, (rows, entries)) in pairs {
        match (rows.as_slice(), entries.as_slice()) {
            ([row], [foreign]) => join.both.push(Joined { row: *row, foreign: *foreign }),
            ([row], []) => join.only_ledger.extend(ledger.flows.get(*row).map(|r| r.flow.clone())),
            ([], [_]) => join.only_log.push(addresses),
            _ => join.ambiguous.push(addresses),
        }
    }
    join
}

/// A flow that never had a connection to its backend is nothing that a guest can know.
fn as_seen_from(kept_by: KeptBy, row: &FlowRow) -> Option<Foreign> {
    let (opener, taker) = match kept_by {
        KeptBy::Clients => (row.client, row.vip),
        KeptBy::Guest => (row.source?, row.server),
    };
    Some(canonical(Foreign { protocol: row.protocol, opener, taker }))
}

fn canonical(flow: Foreign) -> Foreign {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Foreign { opener: plain(flow.opener), taker: plain(flow.taker), ..flow }
}
