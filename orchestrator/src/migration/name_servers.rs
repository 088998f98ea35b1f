//! What a move asks of a name server, and one that is dialled.

use std::time::Duration;

use gslb_api::{Names, Restore, Shorten, Steer, Taken};
use hypervisor::{Call, CallTrouble, Client, Dial, Line};
use orchestrator_api::{CallError, Connection};
use placement::{Authority, SiteName, VmName};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a name server may take to answer: it writes a small file, and waits until no older
/// answer is under way.
pub const NAME_CALL_MAX: Duration = Duration::from_secs(5);

/// What a move tells a name server of its VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameOrder {
    /// Answers live shortly from now on.
    Shorten,
    /// It runs there.
    Steer(SiteName),
    /// Answers live as long as ever.
    Restore,
}

/// What a move asks of a name server. Every call may be repeated.
pub trait NameServerPort: Send + Sync {
    /// All names that follow VMs, and what it has heard of those.
    fn names(&self) -> impl Future<Output = Result<Names, CallTrouble>> + Send;

    /// Tells it of a VM.
    fn order(
        &self,
        vm: &VmName,
        authority: &Authority,
        order: &NameOrder,
    ) -> impl Future<Output = Result<Taken, CallTrouble>> + Send;
}

/// A name server that is dialled.
#[derive(Debug)]
pub struct DialledNameServer<D>(Line<D, NameClient>);

impl<D: Dial> DialledNameServer<D> {
    /// Nothing is opened before the first call.
    pub const fn new(dial: D) -> DialledNameServer<D> {
        DialledNameServer(Line::new(dial))
    }
}

impl<D: Dial> NameServerPort for DialledNameServer<D> {
    async fn names(&self) -> Result<Names, CallTrouble> {
        self.0.call(&AskedNames).await
    }

    async fn order(
        &self,
        vm: &VmName,
        authority: &Authority,
        order: &NameOrder,
    ) -> Result<Taken, CallTrouble> {
        self.0.call(&Ordered { vm, authority, order }).await
    }
}

/// The name server's client, on a line.
#[derive(Debug)]
pub struct NameClient(gslb_api::Client);

impl Client for NameClient {
    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send>(
        stream: S,
    ) -> Result<(NameClient, Connection<S>), CallError> {
        let (client, connection) = gslb_api::Client::over(stream).await?;
        Ok((NameClient(client), connection))
    }
}

struct AskedNames;

impl Call<NameClient> for AskedNames {
    type Answer = Names;
    const BOUND: Duration = NAME_CALL_MAX;

    async fn make(&self, client: &mut NameClient) -> Result<Names, CallError> {
        client.0.names().await
    }
}

struct Ordered<'a> {
    vm: &'a VmName,
    authority: &'a Authority,
    order: &'a NameOrder,
}

impl Call<NameClient> for Ordered<'_> {
    type Answer = Taken;
    const BOUND: Duration = NAME_CALL_MAX;

    async fn make(&self, client: &mut NameClient) -> Result<Taken, CallError> {
        let (vm, authority) = (self.vm, self.authority.clone());
        match self.order {
            NameOrder::Shorten => client.0.shorten(vm, &Shorten { authority }).await,
            NameOrder::Steer(to) => client.0.steer(vm, &Steer { authority, to: to.clone() }).await,
            NameOrder::Restore => client.0.restore(vm, &Restore { authority }).await,
        }
    }
}
