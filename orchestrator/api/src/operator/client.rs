//! Asks the service over one stream: one call at a time, in order. Spawns nothing: the caller polls
//! the connection beside the call, and decides how long to wait.

use exchange::{CallError, Connection, Exchange, filled};
use placement::{SiteName, VmName};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    AbortMove, AbortPromised, BeginMove, DrainList, FlowKilled, FlowsPart, MoveBegun, MoveId,
    MoveList, MoveView, PlanMove, ReclaimVm, ReportPart, ServiceStatus, StartVm, VmPlaces,
    VmReclaimed, VmStarted, path,
};
use crate::migration::Plan;

/// Asks the service over one stream.
#[derive(Debug)]
pub struct OperatorClient(Exchange);

impl OperatorClient {
    /// A client over `stream`, which must be secured and lead to the service that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(OperatorClient, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (exchange, connection) = Exchange::over(stream).await?;
        Ok((OperatorClient(exchange), connection))
    }

    /// How the service is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn status(&mut self) -> Result<ServiceStatus, CallError> {
        self.0.get(path::STATUS).await
    }

    /// The service's metrics, as text for Prometheus.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn metrics(&mut self) -> Result<String, CallError> {
        self.0.get_text(path::METRICS).await
    }

    /// Every VM, and where it runs.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn vms(&mut self) -> Result<VmPlaces, CallError> {
        self.0.get(path::VMS).await
    }

    /// Starts a VM for the first time.
    ///
    /// # Errors
    /// See [`CallError`]. Where the connection broke, say it again with the same key.
    pub async fn start(&mut self, start: &StartVm) -> Result<VmStarted, CallError> {
        self.0.say(&filled(path::VM_START, &[&start.definition.name]), start).await
    }

    /// What a move would be like.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn plan(&mut self, vm: &VmName, plan: &PlanMove) -> Result<Plan, CallError> {
        self.0.say(&filled(path::VM_PLAN, &[vm]), plan).await
    }

    /// Orders a move.
    ///
    /// # Errors
    /// See [`CallError`]. Where the connection broke, say it again with the same key.
    pub async fn begin(&mut self, begin: &BeginMove) -> Result<MoveBegun, CallError> {
        self.0.say(path::MOVES, begin).await
    }

    /// All moves.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn moves(&mut self) -> Result<MoveList, CallError> {
        self.0.get(path::MOVES).await
    }

    /// One move. With `after`, the answer waits until it is of another version, or
    /// [`FOLLOW_MS_MAX`](super::FOLLOW_MS_MAX) have passed.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn one_move(
        &mut self,
        id: &MoveId,
        after: Option<u64>,
    ) -> Result<MoveView, CallError> {
        let mut path = filled(path::MOVE, &[id]);
        if let Some(after) = after {
            path.push_str(&format!("?after={after}"));
        }
        self.0.get(&path).await
    }

    /// A part of a move's report: the first one of a new report, or a later one, by when that report
    /// was made and from which byte on.
    ///
    /// # Errors
    /// See [`CallError`]; among them [`REPORT_GONE`](super::REPORT_GONE).
    pub async fn report(
        &mut self,
        id: &MoveId,
        later: Option<(u64, u64)>,
    ) -> Result<ReportPart, CallError> {
        let mut path = filled(path::MOVE_REPORT, &[id]);
        if let Some((made, from)) = later {
            path.push_str(&format!("?made={made}&from={from}"));
        }
        self.0.get(&path).await
    }

    /// Gives back what moves of a VM left.
    ///
    /// # Errors
    /// See [`CallError`]; among them [`FLOWS_LIVE`](super::FLOWS_LIVE). Where the connection broke,
    /// say it again with the same key.
    pub async fn reclaim(
        &mut self,
        vm: &VmName,
        wish: &ReclaimVm,
    ) -> Result<VmReclaimed, CallError> {
        self.0.say(&filled(path::VM_RECLAIM, &[vm]), wish).await
    }

    /// How far the places that VMs have left, or that one VM has, are drained.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drains(&mut self, vm: Option<&VmName>) -> Result<DrainList, CallError> {
        let vm = vm.map(|vm| format!("?vm={vm}")).unwrap_or_default();
        self.0.get(&(path::DRAINS.to_owned() + &vm)).await
    }

    /// A part of the live flows: of one VM, of one site, or all; from where the last part ended.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn flows(
        &mut self,
        vm: Option<&VmName>,
        site: Option<&SiteName>,
        from: Option<&str>,
    ) -> Result<FlowsPart, CallError> {
        let vm = vm.map(|vm| format!("vm={vm}"));
        let site = site.map(|site| format!("site={site}"));
        let from = from.map(|from| format!("from={from}"));
        let asked: Vec<String> = [vm, site, from].into_iter().flatten().collect();
        let mark = if asked.is_empty() { "" } else { "?" };
        self.0.get(&format!("{}{mark}{}", path::FLOWS, asked.join("&"))).await
    }

    /// Kills a flow, whichever proxy carries it.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that no such flow lives.
    pub async fn kill(&mut self, flow: &str) -> Result<FlowKilled, CallError> {
        self.0.post(&filled(path::FLOW_KILL, &[&flow])).await
    }

    /// Asks that a move be called off.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that it is too late.
    pub async fn abort(
        &mut self,
        id: &MoveId,
        abort: &AbortMove,
    ) -> Result<AbortPromised, CallError> {
        self.0.say(&filled(path::MOVE_ABORT, &[id]), abort).await
    }
}
