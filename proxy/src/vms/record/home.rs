//! A VM at home: nobody that it talks to is elsewhere any more, and of whom it may believe so.

use std::collections::BTreeSet;
use std::net::IpAddr;

use placement::Epoch;
use proxy_api::Elsewhere;

use super::{Here, Moving, NotNow, Record, fit};

impl Record {
    /// Nobody that the VM talks to is elsewhere any more.
    ///
    /// # Errors
    /// [`NotNow::UnderWay`] and [`NotNow::NotHere`].
    pub fn at_home(mut self, here: &Here, came_by: Epoch) -> Result<Record, NotNow> {
        if let Some(Moving { stage, .. }) = &self.moving {
            let (epoch, far) = (stage.authority.epoch, "is staged");
            return Err(NotNow::UnderWay { epoch, far, remedy: "let it end, or unstage it" });
        }
        let is_here = self.placement.as_ref().is_some_and(|place| here.is(place));
        if !is_here || self.away.is_some() || self.came_by != Some(came_by) {
            return Err(NotNow::NotHere(came_by));
        }
        let left = std::mem::take(&mut self.elsewhere);
        let mut known: BTreeSet<IpAddr> = self.behind.iter().copied().collect();
        let named = left.iter().flat_map(|place| {
            let neighbours = place.neighbours.iter().map(|neighbour| neighbour.address);
            place.leg.iter().chain(&place.gateways).copied().chain(neighbours)
        });
        self.behind.extend(named.filter(|ip| known.insert(*ip)));
        Ok(Record { is_home: false, ..self })
    }

    /// Those that the VM may believe something else of, now that it is at home: the gateways, whom it
    /// spoke with elsewhere, and of `peers` whoever can be on the leg's network.
    #[must_use]
    pub fn to_find(&self, here: &Here, peers: &[IpAddr]) -> BTreeSet<IpAddr> {
        let own = self.card.as_ref().map(|card| &card.addresses[..]).unwrap_or_default();
        let all = here.gateways.iter().chain(&self.behind).chain(peers).copied();
        let fits = |ip: &IpAddr| {
            let is_near = here.is_on_subnet(*ip) || here.gateways.contains(ip);
            is_near && fit::is_of_a_machine(*ip) && !here.has(*ip) && !own.contains(ip)
        };
        all.filter(fits).collect()
    }

    /// Every place that it goes on talking to, the one that it came from last first.
    #[must_use]
    pub fn elsewhere(&self) -> &[Elsewhere] {
        &self.elsewhere
    }
}
