//! What can be staged here, and what would do harm.

use std::net::IpAddr;

use proxy_api::{
    Place, Stage, VM_ADDRESSES_MAX, VM_CONVERSATIONS_MAX, VM_PEERS_MAX, VM_PLACES_MAX,
};

use super::{Here, NotNow};

/// Whether this is an address of one machine, as far as addresses tell.
pub(super) fn is_of_a_machine(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast)
}

/// Whether this is an address on a link, and nowhere else.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl Here {
    /// Whether the leg has this address.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.leg.iter().any(|(own, _)| *own == ip)
    }

    /// Whether this address is on the leg's subnet.
    pub(super) fn is_on_subnet(&self, ip: IpAddr) -> bool {
        self.leg.iter().any(|(own, bits)| match (own, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let host = 32_u32.saturating_sub(u32::from(*bits));
                (own.to_bits() ^ ip.to_bits()).checked_shr(host).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let host = 128_u32.saturating_sub(u32::from(*bits));
                (own.to_bits() ^ ip.to_bits()).checked_shr(host).unwrap_or(0) == 0
            }
            _ => false,
        })
    }
}

/// The move has nothing to do with this proxy.
pub(super) fn not_an_end(stage: &Stage) -> NotNow {
    let named = |place: &Place| format!("{}/{}", place.site, place.proxy);
    NotNow::NotAnEnd { from: named(&stage.from), to: named(&stage.to) }
}

/// Refuses what cannot be staged here.
pub(super) fn check(here: &Here, stage: &Stage) -> Result<(), NotNow> {
    let Stage { from, to, card, elsewhere, .. } = stage;
    if from.site == to.site && from.proxy == to.proxy {
        return Err(NotNow::SameProxy);
    }
    let own = [from, to].into_iter().find(|place| here.is(place));
    let Some(own) = own else { return Err(not_an_end(stage)) };
    if here.network.as_ref() != Some(&own.network) {
        return Err(NotNow::NoNetwork(own.network.clone()));
    }
    let unfit = |why: String| Err(NotNow::Unfit(why));
    if !elsewhere.iter().any(|one| one.place == *from) {
        return unfit("'elsewhere' lacks the place that the vm leaves".to_owned());
    }
    let neighbours: usize =
        elsewhere.iter().map(|one| one.neighbours.len() + one.leg.len() + one.gateways.len()).sum();
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
    for ip in &card.addresses {
        if !is_of_a_machine(*ip) || is_link_local(*ip) {
            return unfit(format!("{ip} is no address that can follow a vm"));
        }
        // It would answer for itself as for another.
        if here.has(*ip) {
            return unfit(format!("{ip} is this proxy's own leg"));
        }
    }
    Ok(())
}
