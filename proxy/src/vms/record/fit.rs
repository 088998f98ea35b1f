//! What can be staged here, and what would do harm.

use std::net::IpAddr;

use proxy_api::{
    Place, Stage, VM_ADDRESSES_MAX, VM_CONVERSATIONS_MAX, VM_PEERS_MAX, VM_PLACES_MAX,
};

use super::{Here, NotNow};

/// Refuses what cannot be staged here.
pub(super) fn check(here: &Here, stage: &Stage) -> Result<(), NotNow> {
    let Stage { from, to, card, elsewhere, .. } = stage;
    if from.site == to.site && from.proxy == to.proxy {
        return Err(NotNow::SameProxy);
    }
    let own = [from, to].into_iter().find(|place| here.is(place));
    let Some(own) = own else {
        let named = |place: &Place| format!("{}/{}", place.site, place.proxy);
        return Err(NotNow::NotAnEnd { from: named(from), to: named(to) });
    };
    if here.network.as_ref() != Some(&own.network) {
        return Err(NotNow::NoNetwork(own.network.clone()));
    }
    let unfit = |why: String| Err(NotNow::Unfit(why));
    if !elsewhere.iter().any(|one| one.place == *from) {
        return unfit("'elsewhere' lacks the place that the vm leaves".to_owned());
    }
    let neighbours: usize = elsewhere.iter().map(|one| one.neighbours.len() + one.leg.len()).sum();
    let conversations: usize = elsewhere.iter().map(|one| one.conversations.len()).sum();
    for (count, what, most) in [
        (card.addresses.len(), "addresses of the vm", VM_ADDRESSES_MAX),
        (elsewhere.len(), "places", VM_PLACES_MAX),
        (neighbours, "neighbours", VM_PEERS_MAX),
        (conversations, "conversations", VM_CONVERSATIONS_MAX),
    ] {
        if count > most {
            return unfit(format!("{count} {what}, at most {most}"));
        }
    }
    if card.addresses.is_empty() {
        return unfit("the vm has no address that could follow it".to_owned());
    }
    let theirs = elsewhere.iter().filter(|one| !here.is(&one.place)).flat_map(|one| {
        one.leg.iter().copied().chain(one.neighbours.iter().map(|neighbour| neighbour.address))
    });
    let all: Vec<IpAddr> = card.addresses.iter().copied().chain(theirs).collect();
    if let Some(wrong) = all.iter().find(|ip| !is_of_a_machine(ip)) {
        return unfit(format!("{wrong} is no address of one machine"));
    }
    // It would answer for itself as for another.
    if let Some(own) = all.iter().find(|ip| here.leg.contains(ip)) {
        return unfit(format!("{own} is this proxy's own leg"));
    }
    Ok(())
}

fn is_of_a_machine(ip: &IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast)
}
