//! What orchestrators have said of VMs, and what follows from it for the names that depend on them.
//!
//! Pure: an order, the names of the configuration and the time go in, the next state or a denial
//! comes out. The state is what is on the disk.
//!
//! A name is where all of its VMs run. While they are apart (one of two has moved) it stays where it
//! was, so that its place is a matter of history and is kept as well. A VM of which nothing was said
//! is at the name's initial site.
//!
//! Within one epoch a VM's TTL only goes from shortened to restored, and its place is said once:
//! orders that come late or twice change nothing.

use std::collections::BTreeMap;

use gslb_api::Taken;
use placement::{Authority, Epoch, SiteName, Stale, VmName, Watermark};
use serde::{Deserialize, Serialize};

use crate::config::{SteeredName, plain};
use crate::view::ANSWER_MS_MAX;

/// Most VMs of which something is remembered.
pub const VMS_MAX: usize = 1_024;
/// Most names of which something is remembered, those included that the configuration had once.
pub const NAMES_MAX: usize = 1_536;

/// An order about one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Answers live shortly.
    Shorten,
    /// It runs there.
    Steer(SiteName),
    /// Answers live as long as ever.
    Restore,
}

/// Why an order, or a configuration, cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SteeringError {
    /// The epoch is over, or somebody else's.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The epoch's own TTL was restored already.
    #[error("in epoch {epoch} the TTL of vm {vm}'s names was restored already; claim a later one")]
    Restored {
        /// The VM.
        vm: VmName,
        /// The epoch.
        epoch: Epoch,
    },
    /// In the same epoch another place was said.
    #[error("in epoch {epoch} vm {vm} was steered to site {site} already; claim a later one")]
    Contradicts {
        /// The VM.
        vm: VmName,
        /// The epoch.
        epoch: Epoch,
        /// Where it was steered.
        site: SiteName,
    },
    /// A name has no address there.
    #[error(
        "name '{name}' is to be at site {site}, where it has no [[steered.at]]; give its addresses there"
    )]
    NoAddress {
        /// The name.
        name: String,
        /// The site.
        site: SiteName,
    },
    /// There is no room for more.
    #[error("{VMS_MAX} vms or {NAMES_MAX} names are remembered here, more are not")]
    Full,
}

/// All that was said, and what followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steering {
    serial: u32,
    vms: BTreeMap<VmName, VmSteering>,
    names: BTreeMap<String, NameSteering>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VmSteering {
    mark: Watermark,
    place: Option<Place>,
    lifetime: Lifetime,
}

/// Where a VM runs, and in which epoch that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    site: SiteName,
    epoch: Epoch,
}

/// How long answers for the names of a VM live, and which epoch said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Lifetime {
    #[default]
    Usual,
    Shortened,
    Restored(Epoch),
}

/// How a name was answered last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NameSteering {
    site: SiteName,
    ttl_s: u32,
    serial: u32,
    outdated_until_s: Option<u64>,
}

impl Steering {
    /// The serial that zones have in this state.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Where a name points, and how long an answer lives.
    #[must_use]
    pub fn points(&self, steered: &SteeredName) -> (SiteName, u32) {
        match self.names.get(&plain(&steered.name)) {
            Some(name) => (name.site.clone(), name.ttl_s),
            None => (steered.initial_site.clone(), steered.ttl_s),
        }
    }

    /// The state under a configuration that has just been read: at the start, and with each reload.
    /// The serial grows, for what the configuration itself says may have changed.
    ///
    /// # Errors
    /// A name would be where the configuration has no address for it, or there are too many names.
    pub fn under(&self, names: &[SteeredName], now_s: u64) -> Result<Steering, SteeringError> {
        let mut next = self.clone();
        next.serial = self.next_serial(now_s);
        next.follow(names, now_s)?;
        Ok(next)
    }

    /// The state after an order; the same one if the order came before.
    ///
    /// # Errors
    /// Every [`SteeringError`]: it changes nothing then, the epoch included.
    pub fn after(
        &self,
        vm: &VmName,
        authority: &Authority,
        order: &Order,
        names: &[SteeredName],
        now_s: u64,
    ) -> Result<Steering, SteeringError> {
        let before = self.vms.get(vm).cloned().unwrap_or_default();
        let ordered = before.after(vm, authority, order)?;
        if let Order::Steer(site) = order {
            has_addresses(names, vm, site)?;
        }
        if ordered == before {
            return Ok(self.clone());
        }
        if self.vms.len() >= VMS_MAX && !self.vms.contains_key(vm) {
            return Err(SteeringError::Full);
        }
        let mut next = self.clone();
        next.vms.insert(vm.clone(), ordered);
        next.serial = self.next_serial(now_s);
        if !next.follow(names, now_s)? {
            next.serial = self.serial;
        }
        Ok(next)
    }

    /// What is answered to an order that led here, the first time and each time it is repeated.
    #[must_use]
    pub fn taken(&self, vm: &VmName, names: &[SteeredName]) -> Taken {
        let depend = names.iter().filter(|steered| steered.vms.contains(vm));
        let names: Vec<gslb_api::Name> = depend.map(|steered| self.told(steered)).collect();
        Taken {
            vm: vm.clone(),
            epoch: self.vms.get(vm).map_or(Epoch::NONE, |known| known.mark.epoch()),
            serial: self.serial,
            outdated_until_s: names.iter().filter_map(|name| name.outdated_until_s).max(),
            names,
        }
    }

    /// All that is known.
    #[must_use]
    pub fn all(&self, names: &[SteeredName]) -> gslb_api::Names {
        let vm = |(vm, known): (&VmName, &VmSteering)| gslb_api::Vm {
            vm: vm.clone(),
            epoch: known.mark.epoch(),
            place: known.place.as_ref().map(|place| place.site.clone()),
            is_shortened: known.lifetime == Lifetime::Shortened,
        };
        gslb_api::Names {
            serial: self.serial,
            names: names.iter().map(|steered| self.told(steered)).collect(),
            vms: self.vms.iter().map(vm).collect(),
        }
    }

    fn told(&self, steered: &SteeredName) -> gslb_api::Name {
        let (site, ttl_s) = self.points(steered);
        let kept = self.names.get(&plain(&steered.name));
        let elsewhere = steered.vms.iter().filter(|vm| *self.place_of(vm, steered) != site);
        gslb_api::Name {
            name: plain(&steered.name),
            sites: steered.sites.keys().cloned().collect(),
            vms: steered.vms.clone(),
            elsewhere: elsewhere.cloned().collect(),
            ttl_s,
            is_shortened: self.is_shortened(steered),
            serial: kept.map_or(self.serial, |kept| kept.serial),
            outdated_until_s: kept.and_then(|kept| kept.outdated_until_s),
            site,
        }
    }

    /// Brings the names in line with their VMs; whether any changed.
    fn follow(&mut self, names: &[SteeredName], now_s: u64) -> Result<bool, SteeringError> {
        let mut changed = false;
        for steered in names {
            let key = plain(&steered.name);
            let before = self.names.get(&key);
            let site = self.place(steered, before.map(|before| &before.site));
            if !steered.sites.contains_key(&site) {
                return Err(SteeringError::NoAddress { name: key, site });
            }
            let ttl_s = match self.is_shortened(steered) {
                true => steered.ttl_moving_s,
                false => steered.ttl_s,
            };
            if before.is_some_and(|before| before.site == site && before.ttl_s == ttl_s) {
                continue;
            }
            let outdated_until_s =
                before.and_then(|before| before.outdated(steered, &site, ttl_s, now_s));
            let serial = self.serial;
            self.names.insert(key, NameSteering { site, ttl_s, serial, outdated_until_s });
            changed = true;
        }
        if self.names.len() > NAMES_MAX {
            return Err(SteeringError::Full);
        }
        Ok(changed)
    }

    /// Where all VMs of a name are; where they are apart, where the name was.
    fn place(&self, steered: &SteeredName, before: Option<&SiteName>) -> SiteName {
        let mut places = steered.vms.iter().map(|vm| self.place_of(vm, steered));
        let first = places.next().unwrap_or(&steered.initial_site);
        match places.all(|place| place == first) {
            true => first.clone(),
            false => before.unwrap_or(&steered.initial_site).clone(),
        }
    }

    fn place_of<'s>(&'s self, vm: &VmName, steered: &'s SteeredName) -> &'s SiteName {
        let place = self.vms.get(vm).and_then(|vm| vm.place.as_ref());
        place.map_or(&steered.initial_site, |place| &place.site)
    }

    fn is_shortened(&self, steered: &SteeredName) -> bool {
        let vms = steered.vms.iter().filter_map(|vm| self.vms.get(vm));
        vms.into_iter().any(|vm| vm.lifetime == Lifetime::Shortened)
    }

    /// Seconds since 1970 where that is more: a server whose state was lost still goes up.
    fn next_serial(&self, now_s: u64) -> u32 {
        self.serial.wrapping_add(1).max(u32::try_from(now_s).unwrap_or(0))
    }
}

impl VmSteering {
    fn after(
        &self,
        vm: &VmName,
        authority: &Authority,
        order: &Order,
    ) -> Result<VmSteering, SteeringError> {
        let (mark, epoch) = (self.mark.raised(authority)?, authority.epoch);
        let mut next = VmSteering { mark, ..self.clone() };
        match (order, &self.place, self.lifetime) {
            (Order::Shorten, _, Lifetime::Restored(restored)) if restored == epoch => {
                return Err(SteeringError::Restored { vm: vm.clone(), epoch });
            }
            (Order::Shorten, ..) => next.lifetime = Lifetime::Shortened,
            (Order::Restore, ..) => next.lifetime = Lifetime::Restored(epoch),
            (Order::Steer(to), Some(Place { site, epoch: said }), _)
                if *said == epoch && site != to =>
            {
                let (vm, site) = (vm.clone(), site.clone());
                return Err(SteeringError::Contradicts { vm, epoch, site });
            }
            (Order::Steer(to), ..) => next.place = Some(Place { site: to.clone(), epoch }),
        }
        Ok(next)
    }
}

impl NameSteering {
    /// Until when caches may hold what is answered now, once it is answered with `site` and `ttl_s`.
    fn outdated(
        &self,
        steered: &SteeredName,
        site: &SiteName,
        ttl_s: u32,
        now_s: u64,
    ) -> Option<u64> {
        if self.site == *site && self.ttl_s <= ttl_s {
            return self.outdated_until_s;
        }
        // Where one family is missing, that is believed for a while as well.
        let at = steered.sites.get(&self.site);
        let denies = at.is_none_or(|at| at.v4.is_empty() || at.v6.is_empty());
        let lives_s = if denies { self.ttl_s.max(steered.negative_ttl_s) } else { self.ttl_s };
        let until_s = now_s + u64::from(lives_s) + ANSWER_MS_MAX.div_ceil(1_000) + PARTIAL_S;
        self.outdated_until_s.max(Some(until_s))
    }
}

/// The second of `now_s` that has begun.
const PARTIAL_S: u64 = 1;

/// An order to go where a name could not be answered is refused before it is needed.
fn has_addresses(names: &[SteeredName], vm: &VmName, site: &SiteName) -> Result<(), SteeringError> {
    let mut depend = names.iter().filter(|steered| steered.vms.contains(vm));
    match depend.find(|steered| !steered.sites.contains_key(site)) {
        None => Ok(()),
        Some(steered) => {
            Err(SteeringError::NoAddress { name: plain(&steered.name), site: site.clone() })
        }
    }
}

#[cfg(test)]
mod tests;
