//! A VM that has left from here goes on to a third place: it may speak from there before the proxy
//! has heard that it has arrived.

use placement::{Authority, VmName};
use proxy_api::{Stage, Vm};

use super::{VmError, Vms};

impl Vms {
    /// The VM, which left from here earlier, is to go on to another place. Only a claim raises the
    /// epoch, and of this move there is none here.
    pub(super) async fn goes_on(&self, vm: &VmName, stage: &Stage) -> Result<Vm, VmError> {
        let mut kept = self.turn(vm).await?;
        self.epochs.may_claim(vm, &stage.authority)?;
        let record = kept.record().clone().goes_on(stage)?;
        self.make_so(vm, &mut kept, record).await
    }

    /// It does not; none where it was not to.
    pub(super) async fn stays(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> Result<Option<Vm>, VmError> {
        if !self.all().contains_key(vm) {
            return Ok(None);
        }
        let mut kept = self.turn(vm).await?;
        let Some(record) = kept.record().stays(authority) else { return Ok(None) };
        Ok(Some(self.make_so(vm, &mut kept, record).await?))
    }
}
