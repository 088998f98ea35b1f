//! Whom a move talks to: the agents at both ends, their proxies, and all other proxies and name
//! servers.

use std::collections::BTreeMap;
use std::time::Duration;

use hypervisor::{Call, CallTrouble, Client, Dial, Hypervisor, Line, QemuAgent};
use orchestrator_api::{CallError, Connection, Place};
use placement::{Authority, End, Epoch, PartName, SiteName, VmName};
use proxy_api::{
    AtHome, Claim, Flow, FlowId, FlowPage, FlowQuery, GrantChannel, Home, Killed, Networks, OfMove,
    PinnedPage, Places, Reclaim, Reclaimed, Redirect, Services, Stage, Tunnel, Vm,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::name_servers::{DialledNameServer, NameServerPort};

/// How long a proxy may take to answer: it writes a small file, and no more.
pub const PROXY_CALL_MAX: Duration = Duration::from_secs(10);

/// How long it may look who is on its network.
pub const PROXY_LOOK_AROUND_MAX: Duration = Duration::from_secs(30);

/// Everybody that moves can talk to.
pub trait Parties: Send + Sync {
    /// A hypervisor's host.
    type Agent: Hypervisor;
    /// A proxy.
    type Proxy: ProxyPort;
    /// A name server.
    type NameServer: NameServerPort;

    /// The agent at this end; none where it is not known.
    fn agent(&self, end: &End) -> Option<&Self::Agent>;

    /// The proxy of this end.
    fn proxy(&self, end: &End) -> Option<&Self::Proxy>;

    /// Every proxy, by site and name: each may carry flows to a VM, wherever it runs.
    fn proxies(&self) -> Vec<(&(SiteName, PartName), &Self::Proxy)>;

    /// Every name server, by site and name.
    fn name_servers(&self) -> Vec<(&(SiteName, PartName), &Self::NameServer)>;
}

/// What a move asks of a proxy. Every call may be repeated.
pub trait ProxyPort: Send + Sync {
    /// Takes the VM for one move.
    fn claim(
        &self,
        vm: &VmName,
        claim: &Claim,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// The move is over: its channels end.
    fn give_back(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// Lets hypervisors use a channel.
    fn grant(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// Lets them no more.
    fn revoke(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// Tells one end where the VM is to go.
    fn stage(
        &self,
        vm: &VmName,
        stage: &Stage,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// Takes that back.
    fn unstage(
        &self,
        vm: &VmName,
        authority: &Authority,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// Tells where the VM runs from now on.
    fn redirect(
        &self,
        vm: &VmName,
        redirect: &Redirect,
    ) -> impl Future<Output = Result<(), CallTrouble>> + Send;

    /// The VM is at home: it stands in for nobody, and tells who is on its own network.
    fn home(
        &self,
        vm: &VmName,
        home: &Home,
    ) -> impl Future<Output = Result<AtHome, CallTrouble>> + Send;

    /// Every place that the VM goes on talking to from there.
    fn elsewhere(&self, vm: &VmName) -> impl Future<Output = Result<Places, CallTrouble>> + Send;

    /// The networks that it has a leg on.
    fn networks(&self) -> impl Future<Output = Result<Networks, CallTrouble>> + Send;

    /// Its services, with what its checks have found.
    fn services(&self) -> impl Future<Output = Result<Services, CallTrouble>> + Send;

    /// Its end of the tunnel.
    fn tunnel(&self) -> impl Future<Output = Result<Tunnel, CallTrouble>> + Send;

    /// What it has noted of one move's flows, from `after` on.
    fn cutover(
        &self,
        vm: &VmName,
        epoch: Epoch,
        after: Option<FlowId>,
    ) -> impl Future<Output = Result<PinnedPage, CallTrouble>> + Send;

    /// What it knows of a VM.
    fn vm(&self, vm: &VmName) -> impl Future<Output = Result<Vm, CallTrouble>> + Send;

    /// Has nothing stand any more for a VM that has left.
    fn reclaim(
        &self,
        vm: &VmName,
        wish: &Reclaim,
    ) -> impl Future<Output = Result<Reclaimed, CallTrouble>> + Send;
}

/// Parties that are dialled.
#[derive(Debug)]
pub struct Dialled<D> {
    agents: BTreeMap<Place, QemuAgent<D>>,
    proxies: BTreeMap<(SiteName, PartName), DialledProxy<D>>,
    name_servers: BTreeMap<(SiteName, PartName), DialledNameServer<D>>,
}

impl<D: Dial> Dialled<D> {
    /// Nobody yet.
    #[must_use]
    pub fn nobody() -> Dialled<D> {
        Dialled { agents: BTreeMap::new(), proxies: BTreeMap::new(), name_servers: BTreeMap::new() }
    }

    /// And this agent.
    pub fn add_agent(&mut self, at: Place, dial: D) {
        self.agents.insert(at, QemuAgent::new(dial));
    }

    /// And this proxy.
    pub fn add_proxy(&mut self, site: SiteName, name: PartName, dial: D) {
        self.proxies.insert((site, name), DialledProxy(Line::new(dial)));
    }

    /// And this name server.
    pub fn add_name_server(&mut self, site: SiteName, name: PartName, dial: D) {
        self.name_servers.insert((site, name), DialledNameServer::new(dial));
    }

    /// One agent.
    #[must_use]
    pub fn agent_at(&self, place: &Place) -> Option<&QemuAgent<D>> {
        self.agents.get(place)
    }

    /// Every agent.
    pub fn agents(&self) -> impl Iterator<Item = (&Place, &QemuAgent<D>)> {
        self.agents.iter()
    }
}

impl<D: Dial> Parties for Dialled<D> {
    type Agent = QemuAgent<D>;
    type Proxy = DialledProxy<D>;
    type NameServer = DialledNameServer<D>;

    fn agent(&self, end: &End) -> Option<&QemuAgent<D>> {
        self.agents.get(&Place::from(end))
    }

    fn proxy(&self, end: &End) -> Option<&DialledProxy<D>> {
        self.proxies.get(&(end.site.clone(), end.proxy.clone()))
    }

    fn proxies(&self) -> Vec<(&(SiteName, PartName), &DialledProxy<D>)> {
        self.proxies.iter().collect()
    }

    fn name_servers(&self) -> Vec<(&(SiteName, PartName), &DialledNameServer<D>)> {
        self.name_servers.iter().collect()
    }
}

/// A proxy that is dialled.
#[derive(Debug)]
pub struct DialledProxy<D>(Line<D, ProxyClient>);

impl<D: Dial> ProxyPort for DialledProxy<D> {
    async fn claim(&self, vm: &VmName, claim: &Claim) -> Result<(), CallTrouble> {
        self.0.call(&Asked::Claim(vm, claim)).await
    }

    async fn give_back(&self, vm: &VmName, authority: &Authority) -> Result<(), CallTrouble> {
        let of = OfMove { authority: authority.clone() };
        self.0.call(&Asked::GiveBack(vm, &of)).await
    }

    async fn grant(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<(), CallTrouble> {
        self.0.call(&Asked::Grant(vm, channel, grant)).await
    }

    async fn revoke(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<(), CallTrouble> {
        self.0.call(&Asked::Revoke(vm, channel, grant)).await
    }

    async fn stage(&self, vm: &VmName, stage: &Stage) -> Result<(), CallTrouble> {
        self.0.call(&Asked::Stage(vm, stage)).await
    }

    async fn unstage(&self, vm: &VmName, authority: &Authority) -> Result<(), CallTrouble> {
        let of = OfMove { authority: authority.clone() };
        self.0.call(&Asked::Unstage(vm, &of)).await
    }

    async fn redirect(&self, vm: &VmName, redirect: &Redirect) -> Result<(), CallTrouble> {
        self.0.call(&Asked::Redirect(vm, redirect)).await
    }

    async fn home(&self, vm: &VmName, home: &Home) -> Result<AtHome, CallTrouble> {
        self.0.call(&AskedHome(vm, home)).await
    }

    async fn elsewhere(&self, vm: &VmName) -> Result<Places, CallTrouble> {
        self.0.call(&AskedElsewhere(vm)).await
    }

    async fn networks(&self) -> Result<Networks, CallTrouble> {
        self.0.call(&AskedNetworks).await
    }

    async fn services(&self) -> Result<Services, CallTrouble> {
        self.0.call(&AskedServices).await
    }

    async fn tunnel(&self) -> Result<Tunnel, CallTrouble> {
        self.0.call(&AskedTunnel).await
    }

    async fn cutover(
        &self,
        vm: &VmName,
        epoch: Epoch,
        after: Option<FlowId>,
    ) -> Result<PinnedPage, CallTrouble> {
        self.0.call(&AskedCutover(vm, epoch, after)).await
    }

    async fn vm(&self, vm: &VmName) -> Result<Vm, CallTrouble> {
        self.0.call(&AskedVm(vm)).await
    }

    async fn reclaim(&self, vm: &VmName, wish: &Reclaim) -> Result<Reclaimed, CallTrouble> {
        self.0.call(&AskedReclaim(vm, wish)).await
    }
}

/// What operators ask of a proxy's flows, and no move does.
impl<D: Dial> DialledProxy<D> {
    /// A page of its flows.
    ///
    /// # Errors
    /// See [`CallTrouble`].
    pub async fn flows(&self, query: &FlowQuery) -> Result<FlowPage, CallTrouble> {
        self.0.call(&AskedFlows(query)).await
    }

    /// One flow.
    ///
    /// # Errors
    /// See [`CallTrouble`]; among them, that it does not know the flow.
    pub async fn flow(&self, id: FlowId) -> Result<Flow, CallTrouble> {
        self.0.call(&AskedFlow(id)).await
    }

    /// Kills one flow.
    ///
    /// # Errors
    /// See [`CallTrouble`]; among them, that no such flow lives.
    pub async fn kill(&self, id: FlowId) -> Result<Killed, CallTrouble> {
        self.0.call(&AskedKill(id)).await
    }
}

/// The proxy's client, on a line.
#[derive(Debug)]
pub struct ProxyClient(proxy_api::Client);

impl Client for ProxyClient {
    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send>(
        stream: S,
    ) -> Result<(ProxyClient, Connection<S>), CallError> {
        let (client, connection) = proxy_api::Client::over(stream).await?;
        Ok((ProxyClient(client), connection))
    }
}

/// A call whose answer says no more than that it was done.
enum Asked<'a> {
    Claim(&'a VmName, &'a Claim),
    GiveBack(&'a VmName, &'a OfMove),
    Grant(&'a VmName, &'a PartName, &'a GrantChannel),
    Revoke(&'a VmName, &'a PartName, &'a GrantChannel),
    Stage(&'a VmName, &'a Stage),
    Unstage(&'a VmName, &'a OfMove),
    Redirect(&'a VmName, &'a Redirect),
}

impl Call<ProxyClient> for Asked<'_> {
    type Answer = ();
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<(), CallError> {
        let client = &mut client.0;
        match *self {
            Asked::Claim(vm, claim) => client.claim(vm, claim).await.map(drop),
            Asked::GiveBack(vm, of) => client.give_back(vm, of).await.map(drop),
            Asked::Grant(vm, channel, grant) => {
                client.grant_channel(vm, channel, grant).await.map(drop)
            }
            Asked::Revoke(vm, channel, grant) => {
                client.revoke_channel(vm, channel, grant).await.map(drop)
            }
            Asked::Stage(vm, stage) => client.stage(vm, stage).await.map(drop),
            Asked::Unstage(vm, of) => client.unstage(vm, of).await.map(drop),
            Asked::Redirect(vm, redirect) => client.redirect(vm, redirect).await.map(drop),
        }
    }
}

struct AskedHome<'a>(&'a VmName, &'a Home);

impl Call<ProxyClient> for AskedHome<'_> {
    type Answer = AtHome;
    const BOUND: Duration = PROXY_LOOK_AROUND_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<AtHome, CallError> {
        client.0.home(self.0, self.1).await
    }
}

struct AskedElsewhere<'a>(&'a VmName);

impl Call<ProxyClient> for AskedElsewhere<'_> {
    type Answer = Places;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Places, CallError> {
        client.0.elsewhere(self.0).await
    }
}

struct AskedServices;

impl Call<ProxyClient> for AskedServices {
    type Answer = Services;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Services, CallError> {
        client.0.services().await
    }
}

struct AskedTunnel;

impl Call<ProxyClient> for AskedTunnel {
    type Answer = Tunnel;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Tunnel, CallError> {
        client.0.tunnel().await
    }
}

struct AskedCutover<'a>(&'a VmName, Epoch, Option<FlowId>);

impl Call<ProxyClient> for AskedCutover<'_> {
    type Answer = PinnedPage;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<PinnedPage, CallError> {
        let AskedCutover(vm, epoch, after) = *self;
        client.0.cutover(vm, epoch, after).await
    }
}

struct AskedVm<'a>(&'a VmName);

impl Call<ProxyClient> for AskedVm<'_> {
    type Answer = Vm;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Vm, CallError> {
        client.0.vm(self.0).await
    }
}

struct AskedReclaim<'a>(&'a VmName, &'a Reclaim);

impl Call<ProxyClient> for AskedReclaim<'_> {
    type Answer = Reclaimed;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Reclaimed, CallError> {
        client.0.reclaim(self.0, self.1).await
    }
}

struct AskedFlows<'a>(&'a FlowQuery);

impl Call<ProxyClient> for AskedFlows<'_> {
    type Answer = FlowPage;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<FlowPage, CallError> {
        client.0.flows(self.0).await
    }
}

struct AskedFlow(FlowId);

impl Call<ProxyClient> for AskedFlow {
    type Answer = Flow;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Flow, CallError> {
        client.0.flow(self.0).await
    }
}

struct AskedKill(FlowId);

impl Call<ProxyClient> for AskedKill {
    type Answer = Killed;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Killed, CallError> {
        client.0.kill(self.0).await
    }
}

struct AskedNetworks;

impl Call<ProxyClient> for AskedNetworks {
    type Answer = Networks;
    const BOUND: Duration = PROXY_CALL_MAX;

    async fn make(&self, client: &mut ProxyClient) -> Result<Networks, CallError> {
        client.0.networks().await
    }
}
