//! A client over one stream: one call at a time, in order.

use exchange::{CallError, Connection, Exchange, filled};
use placement::{Epoch, PartName, VmName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    AtHome, AtPort, ChannelGranted, ChannelRevoked, Claim, Claimed, Diverted, Drained, Flow,
    FlowId, FlowPage, FlowQuery, GrantChannel, Home, Killed, LeftoversTaken, Networks, OfMove,
    PinnedPage, Places, Reclaim, Reclaimed, Redirect, Released, Reloaded, Services, Stage,
    StandsIn, Status, Tunnel, Vm, Vms, path,
};

/// Asks one proxy over one stream.
#[derive(Debug)]
pub struct Client(Exchange);

impl Client {
    /// A client over `stream`, which must be secured and lead to the proxy that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(Client, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (exchange, connection) = Exchange::over(stream).await?;
        Ok((Client(exchange), connection))
    }

    /// How the proxy is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn status(&mut self) -> Result<Status, CallError> {
        self.0.get(path::STATUS).await
    }

    /// Has the proxy read its configuration and certificates again.
    ///
    /// # Errors
    /// See [`CallError`]; where the proxy refused, it runs on unchanged.
    pub async fn reload(&mut self) -> Result<Reloaded, CallError> {
        self.0.post(path::RELOAD).await
    }

    /// The proxy's metrics, as text for Prometheus.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn metrics(&mut self) -> Result<String, CallError> {
        self.0.get_text(path::METRICS).await
    }

    /// All services, and how they are.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn services(&mut self) -> Result<Services, CallError> {
        self.0.get(path::SERVICES).await
    }

    /// One page of the flows that `query` asks for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn flows(&mut self, query: &FlowQuery) -> Result<FlowPage, CallError> {
        self.0.get(&flows_path(query)).await
    }

    /// One flow.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the proxy does not know it (any more).
    pub async fn flow(&mut self, id: FlowId) -> Result<Flow, CallError> {
        self.0.get(&filled(path::FLOW, &[&id])).await
    }

    /// Kills one flow.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that no such flow lives.
    pub async fn kill(&mut self, id: FlowId) -> Result<Killed, CallError> {
        self.0.post(&filled(path::FLOW_KILL, &[&id])).await
    }

    /// Begins or ends the drain of a service.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drain_service(
        &mut self,
        service: &PartName,
        draining: bool,
    ) -> Result<Drained, CallError> {
        let path = if draining { path::SERVICE_DRAIN } else { path::SERVICE_RESUME };
        self.0.post(&filled(path, &[service])).await
    }

    /// Begins or ends the drain of a backend.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drain_backend(
        &mut self,
        service: &PartName,
        backend: &PartName,
        draining: bool,
    ) -> Result<Drained, CallError> {
        let path = if draining { path::BACKEND_DRAIN } else { path::BACKEND_RESUME };
        self.0.post(&filled(path, &[service, backend])).await
    }

    /// Claims a VM for one move.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the epoch is over or somebody else's.
    pub async fn claim(&mut self, vm: &VmName, claim: &Claim) -> Result<Claimed, CallError> {
        self.0.say(&filled(path::VM_CLAIM, &[vm]), claim).await
    }

    /// Says that a move is over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn give_back(&mut self, vm: &VmName, of: &OfMove) -> Result<Claimed, CallError> {
        self.0.say(&filled(path::VM_GIVE_BACK, &[vm]), of).await
    }

    /// Tells one end of a move where the VM is to go.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stage(&mut self, vm: &VmName, stage: &Stage) -> Result<Vm, CallError> {
        self.0.say(&filled(path::VM_STAGE, &[vm]), stage).await
    }

    /// Undoes a stage.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unstage(&mut self, vm: &VmName, of: &OfMove) -> Result<Vm, CallError> {
        self.0.say(&filled(path::VM_UNSTAGE, &[vm]), of).await
    }

    /// Tells where the VM runs from now on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn redirect(&mut self, vm: &VmName, redirect: &Redirect) -> Result<Vm, CallError> {
        self.0.say(&filled(path::VM_REDIRECT, &[vm]), redirect).await
    }

    /// Takes away what stands for a VM that has left.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that flows live.
    pub async fn reclaim(&mut self, vm: &VmName, wish: &Reclaim) -> Result<Reclaimed, CallError> {
        self.0.say(&filled(path::VM_RECLAIM, &[vm]), wish).await
    }

    /// The VM is at home: the proxy stands in for nobody, and tells who is on its own network.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn home(&mut self, vm: &VmName, home: &Home) -> Result<AtHome, CallError> {
        self.0.say(&filled(path::VM_HOME, &[vm]), home).await
    }

    /// Every place that the VM goes on talking to from there.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the proxy knows nothing of it.
    pub async fn elsewhere(&mut self, vm: &VmName) -> Result<Places, CallError> {
        self.0.get(&filled(path::VM_ELSEWHERE, &[vm])).await
    }

    /// Every VM that the proxy remembers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn vms(&mut self) -> Result<Vms, CallError> {
        self.0.get(path::VMS).await
    }

    /// What the proxy knows of one VM.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that it knows nothing of it.
    pub async fn vm(&mut self, vm: &VmName) -> Result<Vm, CallError> {
        self.0.get(&filled(path::VM, &[vm])).await
    }

    /// What the proxy has noted for the ledger of one move, from `after` on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn cutover(
        &mut self,
        vm: &VmName,
        epoch: Epoch,
        after: Option<FlowId>,
    ) -> Result<PinnedPage, CallError> {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        self.0.get(&(filled(path::VM_CUTOVER, &[vm, &epoch]) + &after)).await
    }

    /// Grants a channel of a move.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the move is not the one that is claimed.
    pub async fn grant_channel(
        &mut self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<ChannelGranted, CallError> {
        self.0.say(&filled(path::CHANNEL_GRANT, &[vm, channel]), grant).await
    }

    /// Takes a channel's grant back; its streams are reset at both ends.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revoke_channel(
        &mut self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<ChannelRevoked, CallError> {
        self.0.say(&filled(path::CHANNEL_REVOKE, &[vm, channel]), grant).await
    }

    /// What the proxy has for the VM is kept back from here on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn divert(&mut self, vm: &VmName, at: &AtPort) -> Result<Diverted, CallError> {
        self.0.say(&filled(path::VM_DIVERT, &[vm]), at).await
    }

    /// The VM's port was turned round: the proxy answers for it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stand_in(&mut self, vm: &VmName, at: &AtPort) -> Result<StandsIn, CallError> {
        self.0.say(&filled(path::VM_STAND_IN, &[vm]), at).await
    }

    /// Ships a part of what was left at the VM's port, as [`Leftovers::encode`](crate::Leftovers)
    /// gives it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn leftovers(
        &mut self,
        vm: &VmName,
        part: Vec<u8>,
    ) -> Result<LeftoversTaken, CallError> {
        self.0.ship(&filled(path::VM_LEFTOVERS, &[vm]), part.into()).await
    }

    /// The VM runs here: what was kept back for it follows.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn release(&mut self, vm: &VmName, at: &AtPort) -> Result<Released, CallError> {
        self.0.say(&filled(path::VM_RELEASE, &[vm]), at).await
    }

    /// The networks that the proxy has a leg on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn networks(&mut self) -> Result<Networks, CallError> {
        self.0.get(path::NETWORKS).await
    }

    /// The tunnel's end there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn tunnel(&mut self) -> Result<Tunnel, CallError> {
        self.0.get(path::TUNNEL).await
    }
}

fn flows_path(query: &FlowQuery) -> String {
    let FlowQuery { service, state, after, limit } = query;
    let mut path = format!("{}?state={}", path::FLOWS, state.as_str());
    let parts = [
        service.as_ref().map(|service| format!("&service={service}")),
        after.map(|after| format!("&after={after}")),
        limit.map(|limit| format!("&limit={limit}")),
    ];
    path.extend(parts.into_iter().flatten());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_table() {
        let (service, backend): (PartName, PartName) =
            ("web".parse().unwrap(), "b1".parse().unwrap());
        assert_eq!(
            filled(path::BACKEND_DRAIN, &[&service, &backend]),
            "/v1/services/web/backends/b1/drain"
        );
        let query = FlowQuery { service: Some(service), limit: Some(9), ..FlowQuery::default() };
        assert_eq!(flows_path(&query), "/v1/flows?state=live&service=web&limit=9");
    }
}
