//! What a hypervisor is to a move.

use orchestrator_api::agent::{PortRequest, WatchView};
use orchestrator_api::{CopyRequest, HostView, OrderRequest, Progress, VmView};
use placement::{Answer, VmName};

use crate::trouble::CallTrouble;

/// What a driver can promise about the instant at which a VM changes places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// We decide it: the VM is stopped by our order, and started by our order.
    Gated,
    /// The hypervisor decides it, and both sides are asked afterwards.
    Opaque,
}

/// One hypervisor's host, as a move sees it.
///
/// Every call is bounded in time. Orders and copy commands may be repeated with the same key: what
/// was done is not done again, and answers as it did.
pub trait Hypervisor: Send + Sync {
    /// What it can promise.
    fn promise(&self) -> Promise;

    /// The machine: what it has, and what it has room for.
    fn host(&self) -> impl Future<Output = Result<HostView, CallTrouble>> + Send;

    /// Every VM that it has a record of.
    fn vms(&self) -> impl Future<Output = Result<Vec<VmView>, CallTrouble>> + Send;

    /// One VM; none where it has no record of it.
    fn vm(&self, vm: &VmName) -> impl Future<Output = Result<Option<VmView>, CallTrouble>> + Send;

    /// With whom a VM has spoken at its port.
    fn watched(&self, vm: &VmName) -> impl Future<Output = Result<WatchView, CallTrouble>> + Send;

    /// Changes what stands at the port of a VM that runs there, once the move is over that it came by.
    fn change_port(
        &self,
        vm: &VmName,
        asked: &PortRequest,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// A command of *Fencing*.
    fn order(
        &self,
        order: &OrderRequest,
    ) -> impl Future<Output = Result<Answer, CallTrouble>> + Send;

    /// A command about the copy, at its source.
    fn copy(
        &self,
        copy: &CopyRequest,
    ) -> impl Future<Output = Result<Progress, CallTrouble>> + Send;
}
