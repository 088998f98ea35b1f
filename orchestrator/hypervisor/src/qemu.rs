//! QEMU by its agent: the agent's API over a line.

use std::time::Duration;

use orchestrator_api::agent::{PortChanged, PortRequest, WatchView};
use orchestrator_api::{
    AgentClient, CallError, Connection, CopyRequest, HostView, OrderRequest, Progress, VmList,
    VmView,
};
use placement::{Answer, VmName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::dial::Dial;
use crate::line::{Call, Client, Line};
use crate::port::{Hypervisor, Promise};
use crate::trouble::{CallTrouble, Code};

/// How long a look may take: the agent answers from what it last saw.
pub const LOOK_MAX: Duration = Duration::from_secs(10);
/// How long an order may take: a little more than the agent itself waits for its effects.
pub const ORDER_MAX: Duration = Duration::from_secs(100);

/// The agent of one host.
#[derive(Debug)]
pub struct QemuAgent<D>(Line<D, AgentClient>);

impl<D: Dial> QemuAgent<D> {
    /// The agent that `dial` reaches. Nothing is opened before the first call.
    pub const fn new(dial: D) -> QemuAgent<D> {
        QemuAgent(Line::new(dial))
    }
}

impl<D: Dial> Hypervisor for QemuAgent<D> {
    fn promise(&self) -> Promise {
        Promise::Gated
    }

    async fn host(&self) -> Result<HostView, CallTrouble> {
        self.0.call(&Host).await
    }

    async fn vms(&self) -> Result<Vec<VmView>, CallTrouble> {
        Ok(self.0.call(&Vms).await?.vms)
    }

    async fn vm(&self, vm: &VmName) -> Result<Option<VmView>, CallTrouble> {
        match self.0.call(&Vm(vm)).await {
            Ok(view) => Ok(Some(view)),
            Err(trouble) if trouble.code() == Some(Code::UnknownVm) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn watched(&self, vm: &VmName) -> Result<WatchView, CallTrouble> {
        self.0.call(&Watched(vm)).await
    }

    async fn change_port(&self, vm: &VmName, asked: &PortRequest) -> Result<(), CallTrouble> {
        self.0.call(&ChangePort(vm, asked)).await.map(drop)
    }

    async fn order(&self, order: &OrderRequest) -> Result<Answer, CallTrouble> {
        self.0.call(&Order(order)).await
    }

    async fn copy(&self, copy: &CopyRequest) -> Result<Progress, CallTrouble> {
        self.0.call(&Copy(copy)).await
    }
}

impl Client for AgentClient {
    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send>(
        stream: S,
    ) -> Result<(AgentClient, Connection<S>), CallError> {
        AgentClient::over(stream).await
    }
}

struct Host;
struct Vms;
struct Vm<'a>(&'a VmName);
struct Watched<'a>(&'a VmName);
struct ChangePort<'a>(&'a VmName, &'a PortRequest);
struct Order<'a>(&'a OrderRequest);
struct Copy<'a>(&'a CopyRequest);

impl Call<AgentClient> for Host {
    type Answer = HostView;
    const BOUND: Duration = LOOK_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<HostView, CallError> {
        client.host().await
    }
}

impl Call<AgentClient> for Vms {
    type Answer = VmList;
    const BOUND: Duration = LOOK_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<VmList, CallError> {
        client.vms().await
    }
}

impl Call<AgentClient> for Vm<'_> {
    type Answer = VmView;
    const BOUND: Duration = LOOK_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<VmView, CallError> {
        client.vm(self.0).await
    }
}

impl Call<AgentClient> for Watched<'_> {
    type Answer = WatchView;
    const BOUND: Duration = LOOK_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<WatchView, CallError> {
        client.watch(self.0).await
    }
}

impl Call<AgentClient> for ChangePort<'_> {
    type Answer = PortChanged;
    const BOUND: Duration = ORDER_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<PortChanged, CallError> {
        client.change_port(self.0, self.1).await
    }
}

impl Call<AgentClient> for Order<'_> {
    type Answer = Answer;
    const BOUND: Duration = ORDER_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<Answer, CallError> {
        client.order(self.0).await
    }
}

impl Call<AgentClient> for Copy<'_> {
    type Answer = Progress;
    const BOUND: Duration = ORDER_MAX;
    async fn make(&self, client: &mut AgentClient) -> Result<Progress, CallError> {
        client.copy(self.0).await
    }
}
