//! With whom the VM has spoken at this port, as it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::Mac;
use network::port::Protocol;
use orchestrator_api::agent::{Spoken, Transport, WATCHED_MAX, WatchView, WatchedPeer};

use super::{Card, PortError, Standing, blocking};

pub(super) async fn view(
    cards: &[Card],
    standing: &Standing,
    now_s: u64,
) -> Result<WatchView, PortError> {
    let mut conversations = Vec::new();
    let mut macs: BTreeMap<IpAddr, BTreeSet<Mac>> = BTreeMap::new();
    for (index, card) in cards.iter().enumerate() {
        let at = standing.cards.get(index).copied().unwrap_or_default();
        let port = card.port.clone();
        for seen in blocking(move || port.seen(at.take_over)).await?? {
            macs.entry(seen.tuple.peer).or_default().extend(seen.mac);
            let network::Tuple { vm, vm_port, peer, peer_port } = seen.tuple;
            let by = match seen.protocol {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
            };
            let at_ms = |ago: u64| now_s.saturating_sub(ago).saturating_mul(1_000);
            // What an earlier stay of the VM here left says nothing of this one. Both are to the second.
            let since_s = standing.watched_since_s.unwrap_or(0);
            let is_of_now = |ago: &u64| now_s.saturating_sub(*ago) + 1 >= since_s;
            conversations.push(Spoken {
                by,
                vm,
                vm_port,
                peer,
                peer_port,
                first_at_ms: seen.first_s_ago.filter(is_of_now).map(at_ms),
                last_at_ms: seen.last_s_ago.map(at_ms),
            });
        }
    }
    let is_whole = conversations.len() <= WATCHED_MAX && macs.len() <= WATCHED_MAX;
    conversations.truncate(WATCHED_MAX);
    let peer = |(address, macs): (IpAddr, BTreeSet<Mac>)| WatchedPeer {
        address,
        // One that was seen at two is known at neither: somebody answers for somebody else.
        mac: match (macs.first(), macs.len()) {
            (Some(mac), 1) => mac.to_string().parse().ok(),
            _ => None,
        },
    };
    let peers = macs.into_iter().take(WATCHED_MAX).map(peer).collect();
    Ok(WatchView { since_s: standing.watched_since_s, conversations, peers, is_whole })
}
