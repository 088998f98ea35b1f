//! The grants that the orchestrator gave this site, and the admission of what peers ask for.
//!
//! A grant is refused when its epoch is older than the highest seen of its VM, or equal and
//! another's; a later one ends what earlier moves of the VM still have open. The proxy tells here
//! also of claims and of moves that ended, and hands its stored marks over when it starts.

use std::collections::{BTreeMap, BTreeSet};

use placement::{Authority, Epoch, Owner, SiteName, Stale, VmName, Watermark};

use super::channel::{Exit, Grant};
use super::permits::Permits;
use super::refusal::Refusal;

/// Most grants at once.
pub const GRANTS_MAX: usize = 256;
/// Most VMs of which an epoch is remembered.
pub const VMS_MAX: usize = 4_096;

/// Why a grant is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Its move is over.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// It does not touch this site, or both its ends are here.
    #[error("a grant from {from} to {to} is none of site {here}'s; give it to its two ends")]
    NotHere {
        /// Where connections enter.
        from: SiteName,
        /// Where they leave.
        to: SiteName,
        /// This site.
        here: SiteName,
    },
    /// [`GRANTS_MAX`] or [`VMS_MAX`] are there.
    #[error(
        "{GRANTS_MAX} grants or {VMS_MAX} vms are known here, more are not taken; revoke old ones"
    )]
    Full,
}

/// What a peer asks for: a channel, and, if it says so, the address that it means. The address is
/// compared, never dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Under which grant.
    pub grant: Grant,
    /// The address that the opener means.
    pub wanted: Option<Wanted>,
    /// The bytes are worth compressing.
    pub compress: bool,
}

/// An address as an opener writes it: short printable ASCII, of any meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted(String);

impl Wanted {
    /// The text, if it is short and printable.
    #[must_use]
    pub fn new(text: String) -> Option<Wanted> {
        let printable = |b: u8| b.is_ascii_graphic();
        let fits = !text.is_empty() && text.len() <= super::bounds::WANTED_BYTES_MAX;
        (fits && text.bytes().all(printable)).then_some(Wanted(text))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The grants of one site.
#[derive(Debug)]
pub struct Grants {
    here: SiteName,
    vms: BTreeMap<VmName, OfVm>,
}

#[derive(Debug, Default)]
struct OfVm {
    mark: Watermark,
    grants: BTreeSet<Grant>,
}

impl Grants {
    /// None, at this site.
    #[must_use]
    pub fn new(here: SiteName) -> Grants {
        Grants { here, vms: BTreeMap::new() }
    }

    /// What the proxy remembers of a VM from before its own restart.
    ///
    /// # Errors
    /// [`GrantError::Full`].
    pub fn remember(&mut self, vm: &VmName, mark: Watermark) -> Result<(), GrantError> {
        self.of(vm)?.mark = mark;
        Ok(())
    }

    /// Takes a grant; a repetition changes nothing. Returns the grants of earlier moves that it
    /// ends.
    ///
    /// # Errors
    /// Every [`GrantError`]; nothing has changed then.
    pub fn add(&mut self, grant: Grant, owner: &Owner) -> Result<Vec<Grant>, GrantError> {
        if (grant.from == self.here) == (grant.to == self.here) {
            let Grant { from, to, .. } = grant;
            return Err(GrantError::NotHere { from, to, here: self.here.clone() });
        }
        let full = self.list().count() >= GRANTS_MAX;
        let of_vm = self.of(&grant.vm)?;
        let authority = Authority { epoch: grant.epoch, owner: owner.clone() };
        let mark = of_vm.mark.raised(&authority)?;
        mark.admit(&authority)?;
        if full && !of_vm.grants.contains(&grant) {
            return Err(GrantError::Full);
        }
        of_vm.mark = mark;
        let ended = of_vm.end_before(grant.epoch);
        of_vm.grants.insert(grant);
        Ok(ended)
    }

    /// A claim or placement of a VM was seen. Returns the grants that it ends.
    ///
    /// # Errors
    /// It is older than what has been seen, or equal and another's.
    pub fn seen(&mut self, vm: &VmName, authority: &Authority) -> Result<Vec<Grant>, GrantError> {
        let of_vm = self.of(vm)?;
        of_vm.mark = of_vm.mark.raised(authority)?;
        Ok(of_vm.end_before(authority.epoch))
    }

    /// A move ended: its grants go, and none of it is taken any more. Returns those that went.
    ///
    /// # Errors
    /// [`GrantError::Full`].
    pub fn ended(&mut self, vm: &VmName, epoch: Epoch) -> Result<Vec<Grant>, GrantError> {
        let of_vm = self.of(vm)?;
        of_vm.mark = of_vm.mark.ending(epoch);
        Ok(of_vm.end_before(epoch.next()))
    }

    /// Takes a grant back. False if there was none.
    pub fn revoke(&mut self, grant: &Grant) -> bool {
        self.vms.get_mut(&grant.vm).is_some_and(|of_vm| of_vm.grants.remove(grant))
    }

    /// Every grant, in order.
    pub fn list(&self) -> impl Iterator<Item = &Grant> {
        self.vms.values().flat_map(|of_vm| of_vm.grants.iter())
    }

    /// Whether this very grant stands here.
    ///
    /// # Errors
    /// [`Refusal::Stale`] and [`Refusal::NoGrant`].
    pub fn check(&self, grant: &Grant) -> Result<(), Refusal> {
        let of_vm = self.vms.get(&grant.vm).ok_or(Refusal::NoGrant)?;
        let seen = of_vm.mark.epoch();
        if grant.epoch < seen || grant.epoch <= of_vm.mark.ended() {
            return Err(Refusal::Stale { seen: seen.max(of_vm.mark.ended()) });
        }
        if of_vm.grants.contains(grant) { Ok(()) } else { Err(Refusal::NoGrant) }
    }

    /// Where to dial for a peer of site `peer`: only under a grant between the two sites, and only
    /// to what is permitted here.
    ///
    /// # Errors
    /// What is missing here.
    pub fn admit(&self, ask: &Ask, peer: &SiteName, permits: &Permits) -> Result<Exit, Refusal> {
        if ask.grant.from != *peer || ask.grant.to != self.here {
            return Err(Refusal::WrongEnds);
        }
        self.check(&ask.grant)?;
        permits.exit(ask)
    }

    fn of(&mut self, vm: &VmName) -> Result<&mut OfVm, GrantError> {
        if self.vms.len() >= VMS_MAX && !self.vms.contains_key(vm) {
            return Err(GrantError::Full);
        }
        Ok(self.vms.entry(vm.clone()).or_default())
    }
}

impl OfVm {
    fn end_before(&mut self, epoch: Epoch) -> Vec<Grant> {
        let ended: Vec<Grant> = self.grants.iter().filter(|g| g.epoch < epoch).cloned().collect();
        self.grants.retain(|grant| grant.epoch >= epoch);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::super::permits::Permit;
    use super::*;

    fn owner(incarnation: u64) -> Owner {
        Owner { name: "serve".parse().unwrap(), incarnation }
    }

    fn grant(epoch: u64, channel: &str) -> Grant {
        Grant {
            vm: "web".parse().unwrap(),
            epoch: Epoch::new(epoch),
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            channel: channel.parse().unwrap(),
        }
    }

    fn ask(grant: Grant, wanted: Option<&str>) -> Ask {
        let wanted = wanted.map(|text| Wanted::new(text.to_owned()).unwrap());
        Ask { grant, wanted, compress: false }
    }

    fn at_b() -> Grants {
        Grants::new("b".parse().unwrap())
    }

    fn permits() -> Permits {
        let target = "unix:/run/vm/{vm}/mirror.sock".parse().unwrap();
        Permits::new(vec![Permit { channel: "mirror".parse().unwrap(), vm: None, target }])
    }

    #[test]
    fn only_a_standing_grant_between_these_sites_to_a_permitted_target_is_dialled() {
        let mut grants = at_b();
        let peer = "a".parse().unwrap();
        let admit = |grants: &Grants, ask: &Ask| grants.admit(ask, &peer, &permits());
        assert_eq!(admit(&grants, &ask(grant(2, "mirror"), None)), Err(Refusal::NoGrant));
        grants.add(grant(2, "mirror"), &owner(1)).unwrap();
        grants.add(grant(2, "memory"), &owner(1)).unwrap();
        let exit = Exit::Unix("/run/vm/web/mirror.sock".into());
        assert_eq!(admit(&grants, &ask(grant(2, "mirror"), None)), Ok(exit.clone()));
        let named = ask(grant(2, "mirror"), Some("unix:/run/vm/web/mirror.sock"));
        assert_eq!(admit(&grants, &named), Ok(exit));
        let elsewhere = ask(grant(2, "mirror"), Some("tcp:127.0.0.1:22"));
        assert_eq!(admit(&grants, &elsewhere), Err(Refusal::NotPermitted));
        let unlisted = ask(grant(2, "memory"), None);
        assert_eq!(admit(&grants, &unlisted), Err(Refusal::NotPermitted));
        let none = grants.admit(&ask(grant(2, "mirror"), None), &peer, &Permits::default());
        assert_eq!(none, Err(Refusal::NotPermitted));
        let third = "c".parse().unwrap();
        let stolen = grants.admit(&ask(grant(2, "mirror"), None), &third, &permits());
        assert_eq!(stolen, Err(Refusal::WrongEnds));
        assert!(grants.revoke(&grant(2, "mirror")));
        assert_eq!(admit(&grants, &ask(grant(2, "mirror"), None)), Err(Refusal::NoGrant));
    }

    #[test]
    fn a_later_epoch_ends_what_is_older_and_an_older_one_is_refused() {
        let mut grants = at_b();
        grants.add(grant(2, "mirror"), &owner(1)).unwrap();
        assert_eq!(grants.add(grant(2, "mirror"), &owner(1)), Ok(vec![]));
        let owned = grants.add(grant(2, "memory"), &owner(9));
        assert!(matches!(owned, Err(GrantError::Stale(Stale::Owned { .. }))));
        assert_eq!(grants.add(grant(3, "mirror"), &owner(9)), Ok(vec![grant(2, "mirror")]));
        let older = grants.add(grant(2, "mirror"), &owner(1));
        assert!(matches!(older, Err(GrantError::Stale(Stale::Older { .. }))));
        assert_eq!(grants.check(&grant(2, "mirror")), Err(Refusal::Stale { seen: Epoch::new(3) }));
        let claim = Authority { epoch: Epoch::new(4), owner: owner(9) };
        assert_eq!(grants.seen(&"web".parse().unwrap(), &claim), Ok(vec![grant(3, "mirror")]));
        assert_eq!(grants.list().count(), 0);
    }

    #[test]
    fn an_ended_move_gets_no_grant_and_keeps_none() {
        let mut grants = at_b();
        grants.add(grant(2, "mirror"), &owner(1)).unwrap();
        let vm = "web".parse().unwrap();
        assert_eq!(grants.ended(&vm, Epoch::new(2)), Ok(vec![grant(2, "mirror")]));
        let again = grants.add(grant(2, "mirror"), &owner(1));
        assert!(matches!(again, Err(GrantError::Stale(Stale::Ended { .. }))));
        grants.add(grant(3, "mirror"), &owner(1)).unwrap();
    }

    #[test]
    fn a_grant_that_does_not_touch_this_site_is_refused() {
        let mut grants = Grants::new("c".parse().unwrap());
        let error = grants.add(grant(2, "mirror"), &owner(1));
        assert!(matches!(error, Err(GrantError::NotHere { .. })));
    }

    #[test]
    fn grants_are_bounded() {
        let mut grants = at_b();
        for n in 0..GRANTS_MAX {
            grants.add(grant(2, &format!("c{n}")), &owner(1)).unwrap();
        }
        assert_eq!(grants.add(grant(2, "more"), &owner(1)), Err(GrantError::Full));
        assert_eq!(grants.add(grant(2, "c0"), &owner(1)), Ok(vec![]));
    }
}
