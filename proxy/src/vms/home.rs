//! A VM at home: every place that it left has been given back, so that nobody needs a way through the
//! tunnel any more. What stands here for it goes, and whoever tells it where others are learns so.
//!
//! Between this and the end of the take-over at its port, what it sends comes to the leg and is
//! handed on to whom it is for on the leg's own network: nobody is out of its reach meanwhile.

use std::time::Duration;

use placement::VmName;
use proxy_api::{AtHome, Home, Mac, Neighbour, Places};
use tokio::task::spawn_blocking;

use super::record::NotNow;
use super::{VmError, Vms};

/// So long nothing may have come through the tunnel for it. Whoever lets it go has stopped by then,
/// and what was under way has come.
const QUIET: Duration = Duration::from_secs(1);

impl Vms {
    /// The VM is at home; who is on its network is looked up after that.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn home(&self, vm: &VmName, home: &Home) -> Result<AtHome, VmError> {
        let not_here = || VmError::NotNow(NotNow::NotHere(home.epoch));
        if !self.all().contains_key(vm) {
            return Err(not_here());
        }
        let mut kept = self.turn(vm).await?;
        let mark = self.epochs.mark(vm);
        let claim = kept.record().claim.as_ref().map(|claim| claim.authority.epoch);
        // Others than a move's ends hear no end of it.
        if claim == Some(mark.epoch()) && mark.ended() < mark.epoch() {
            let (epoch, far, remedy) = (mark.epoch(), "stands", "let it end, or give it back");
            return Err(NotNow::UnderWay { epoch, far, remedy }.into());
        }
        let record = kept.record().clone().at_home(&self.here, home.epoch)?;
        let is_alive = !kept.record().elsewhere().is_empty()
            && self.inter_site.quiet(vm).is_some_and(|quiet| quiet < QUIET);
        if is_alive && !home.force {
            return Err(VmError::StillComes { vm: vm.clone() });
        }
        let to_find = record.to_find(&self.here, &home.peers);
        self.let_go(vm, &mut kept, record).await?;
        drop(kept);
        let Some(finder) = self.finder() else { return Ok(AtHome { neighbours: Vec::new() }) };
        let found = spawn_blocking(move || finder.find(&to_find)).await;
        let neighbour = |found: network::leg::Found| Neighbour {
            address: found.address,
            mac: Some(Mac(found.mac.0)),
            is_gateway: found.is_router || self.here.gateways.contains(&found.address),
            is_there_too: false,
        };
        let found = found.map_err(VmError::Ending)??;
        Ok(AtHome { neighbours: found.into_iter().map(neighbour).collect() })
    }

    /// Every place that a VM goes on talking to from here; none where it is not known.
    pub async fn elsewhere(&self, vm: &VmName) -> Option<Places> {
        let turn = self.all().get(vm).cloned()?;
        let kept = turn.lock().await;
        Some(Places { places: kept.record().elsewhere().to_vec() })
    }
}
