//! Calls to the proxy of this agent's own site, whose leg stands on the VM's network. A hold waits
//! for them, so that one connection is kept; a call whose answer is lost is made once more, over a
//! new one: each is idempotent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use daemon::identity::{self, ConnectError, Credentials};
use placement::{Identity, PartName, VmName};
use proxy_api::{
    AtPort, CallError, ChannelRevoked, Client, Diverted, GrantChannel, LeftoversTaken, Networks,
    Released, StandsIn,
};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a connection to a host of the same site may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long an answer may take. A divert of a return waits for the far proxy's.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Connections that a call is made over, one after the other.
const ATTEMPTS_MAX: u32 = 2;

/// Why the proxy did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Nobody takes a connection there.
    #[error(
        "{proxy} cannot be reached at {address}; see that it runs, and what network.proxy_address says"
    )]
    Unreachable {
        /// Who was called.
        proxy: Identity,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else answers there, or certificates do not fit.
    #[error(transparent)]
    Tls(#[from] ConnectError),
    /// It takes too long.
    #[error("{proxy} did not answer within {bound:?}; see its log, and order the same again")]
    Silent {
        /// Who was called.
        proxy: Identity,
        /// How long that was.
        bound: Duration,
    },
    /// It refused, or its answer was lost.
    #[error("{proxy} did not do it")]
    Call {
        /// Who was called.
        proxy: Identity,
        /// In its words.
        #[source]
        source: CallError,
    },
}

impl ProxyError {
    /// Whether the proxy itself said no: then nothing has changed there.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, ProxyError::Call { source: CallError::Refused { .. }, .. })
    }

    /// Whether the proxy itself said no, with this code.
    pub(crate) fn is_refusal(&self, code: &str) -> bool {
        let ProxyError::Call { source: CallError::Refused { refusal, .. }, .. } = self else {
            return false;
        };
        refusal.code == code
    }
}

/// A proxy of this site.
pub(crate) struct OwnProxy {
    identity: Identity,
    address: SocketAddr,
    credentials: Arc<Credentials>,
    line: Mutex<Option<Line>>,
}

/// A call under way.
type Asked<'c, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'c>>;

/// A connection that is kept, and what moves its bytes.
struct Line {
    client: Client,
    moving: JoinSet<()>,
}

impl OwnProxy {
    /// Nothing is connected yet.
    pub(crate) fn new(
        identity: Identity,
        address: SocketAddr,
        credentials: Arc<Credentials>,
    ) -> OwnProxy {
        OwnProxy { identity, address, credentials, line: Mutex::new(None) }
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, identity: &Identity, address: SocketAddr) -> bool {
        self.identity == *identity && self.address == address
    }

    /// The networks that it has a leg on.
    pub(crate) async fn networks(&self) -> Result<Networks, ProxyError> {
        self.call(|client| Box::pin(client.networks())).await
    }

    pub(crate) async fn divert(&self, vm: &VmName, at: &AtPort) -> Result<Diverted, ProxyError> {
        self.call(|client| {
            let (vm, at) = (vm.clone(), at.clone());
            Box::pin(async move { client.divert(&vm, &at).await })
        })
        .await
    }

    pub(crate) async fn stand_in(&self, vm: &VmName, at: &AtPort) -> Result<StandsIn, ProxyError> {
        self.call(|client| {
            let (vm, at) = (vm.clone(), at.clone());
            Box::pin(async move { client.stand_in(&vm, &at).await })
        })
        .await
    }

    pub(crate) async fn leftovers(
        &self,
        vm: &VmName,
        part: &[u8],
    ) -> Result<LeftoversTaken, ProxyError> {
        self.call(|client| {
            let (vm, part) = (vm.clone(), part.to_vec());
            Box::pin(async move { client.leftovers(&vm, part).await })
        })
        .await
    }

    pub(crate) async fn release(&self, vm: &VmName, at: &AtPort) -> Result<Released, ProxyError> {
        self.call(|client| {
            let (vm, at) = (vm.clone(), at.clone());
            Box::pin(async move { client.release(&vm, &at).await })
        })
        .await
    }

    pub(crate) async fn close_channel(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<ChannelRevoked, ProxyError> {
        self.call(|client| {
            let (vm, channel, grant) = (vm.clone(), channel.clone(), grant.clone());
            Box::pin(async move { client.revoke_channel(&vm, &channel, &grant).await })
        })
        .await
    }

    async fn call<T>(
        &self,
        asked: impl for<'c> Fn(&'c mut Client) -> Asked<'c, T>,
    ) -> Result<T, ProxyError> {
        let mut attempt = 1;
        loop {
            let mut kept = self.connected().await?;
            let Some(line) = kept.as_mut() else { continue };
            let answer = timeout(ANSWER_MAX, asked(&mut line.client)).await;
            let failed = |source| ProxyError::Call { proxy: self.identity.clone(), source };
            match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refused @ CallError::Refused { .. })) => return Err(failed(refused)),
                // The proxy was started anew since the last call, for example.
                Ok(Err(CallError::Broken(_))) if attempt < ATTEMPTS_MAX => *kept = None,
                Ok(Err(source)) => {
                    *kept = None;
                    return Err(failed(source));
                }
                Err(_) => {
                    // Its answer must not be taken for the next call's.
                    *kept = None;
                    let proxy = self.identity.clone();
                    return Err(ProxyError::Silent { proxy, bound: ANSWER_MAX });
                }
            }
            attempt += 1;
        }
    }

    async fn connected(&self) -> Result<MutexGuard<'_, Option<Line>>, ProxyError> {
        let mut kept = self.line.lock().await;
        let has_ended = kept.as_mut().is_some_and(|line| line.moving.try_join_next().is_some());
        if kept.is_none() || has_ended {
            *kept = None;
            let connecting = timeout(CONNECT_MAX, self.connect()).await;
            let silent = ProxyError::Silent { proxy: self.identity.clone(), bound: CONNECT_MAX };
            *kept = Some(connecting.map_err(|_| silent)??);
        }
        Ok(kept)
    }

    async fn connect(&self) -> Result<Line, ProxyError> {
        let OwnProxy { identity, address, credentials, .. } = self;
        let (proxy, address) = (identity.clone(), *address);
        let unreachable = |source| ProxyError::Unreachable { proxy, address, source };
        let stream = TcpStream::connect(address).await.and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let config = credentials.client_config(identity.clone());
        let stream = identity::connect(config, identity, stream.map_err(unreachable)?).await?;
        let over = Client::over(stream).await;
        let proxy = self.identity.clone();
        let (client, connection) = over.map_err(|source| ProxyError::Call { proxy, source })?;
        let mut moving = JoinSet::new();
        moving.spawn(async move {
            // How it ended, the call that is under way is told.
            let _ = connection.await;
        });
        Ok(Line { client, moving })
    }
}

impl std::fmt::Debug for OwnProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnProxy").field("identity", &self.identity).finish_non_exhaustive()
    }
}
