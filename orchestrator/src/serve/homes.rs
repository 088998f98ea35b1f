//! VMs come home once every place that their moves left has been given back: the last thing that a
//! reclaim sees to. What it could not, the next one does.

use orchestrator_api::Place;
use orchestrator_api::operator::VmAtHome;
use placement::Identity;
use tokio::task::spawn_blocking;

use super::clock::unix_ms;
use super::leftovers::{Left, Unreclaimed};
use super::moves::Shared;
use crate::migration::home::{Homecoming, come_home};

impl Shared {
    /// Brings a VM home whose moves these are, unless some place is not given back; and says whether
    /// it was not there before.
    pub(super) async fn come_home(
        &self,
        by: &Identity,
        all: &[Left],
        force: bool,
    ) -> Result<Option<(VmAtHome, bool)>, Unreclaimed> {
        let Some(last) = all.last() else { return Ok(None) };
        if all.iter().any(|left| self.given_back.of(&left.id).is_none()) {
            return Ok(None);
        }
        if let Some(known) = self.homes.of(&last.id) {
            return Ok(Some((known, false)));
        }
        let (vm, home) = (&last.id.vm, &last.entry.ordered.wanted.pair.to);
        let (release, epoch) = (&last.release, last.epoch);
        let coming = Homecoming { vm, home, release, epoch, force };
        let not_home = |source| {
            let (vm, at) = (vm.clone(), Place::from(home));
            Unreclaimed::NotHome { vm, at, source }
        };
        let told = come_home(self.parties(), coming).await.map_err(not_home)?;
        let (id, at) = (last.id.clone(), Place::from(home));
        let came = VmAtHome { id, at, told, at_unix_ms: unix_ms(), by: by.to_string() };
        let (shared, kept) = (self.clone(), came.clone());
        spawn_blocking(move || shared.homes.keep(&kept.id.clone(), kept)).await??;
        tracing::info!(by = came.by, %vm, at = %came.at, told, "a vm is at home");
        Ok(Some((came, true)))
    }
}
