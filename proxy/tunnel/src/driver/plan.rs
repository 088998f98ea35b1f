//! What a tunnel end is started with. Nothing here is read from a file: configurations and
//! identities have been checked by whoever hands them over.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use placement::{Identity, Role};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};

use super::local::EntranceError;
use super::packets::PacketPlan;
use crate::protocol::bounds::{LimitError, Limits};
use crate::protocol::permits::Permits;

/// This end's TLS, as it is at the moment: it may change when certificates are renewed, and counts
/// for connections made from then on.
pub trait Credentials: Send + Sync {
    /// For dialling `peer`: TLS 1.3, our certificate, and only what our CA has signed is accepted.
    fn client(&self, peer: &Identity) -> Arc<ClientConfig>;

    /// For being dialled: TLS 1.3, our certificate, and a certificate of our CA demanded.
    fn server(&self) -> Arc<ServerConfig>;

    /// Whom a peer's verified chain names.
    ///
    /// # Errors
    /// It names none of ours, in words for an operator.
    fn identity(&self, chain: &[CertificateDer<'_>]) -> Result<Identity, String>;
}

/// How a peer is reached. Of each pair exactly one end dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This end dials.
    Dial(SocketAddr),
    /// The peer does.
    Await,
}

/// Another proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlan {
    /// Who it must show to be.
    pub identity: Identity,
    /// How it is reached.
    pub reach: Reach,
}

/// This site's end of the tunnel.
pub struct TunnelPlan {
    /// Who this end is.
    pub own: Identity,
    /// Every proxy that it talks to; all others are turned away.
    pub peers: Vec<PeerPlan>,
    /// What peers may reach here.
    pub permits: Permits,
    /// Where the sockets are made that hypervisors connect to; made itself, 0700, if missing.
    pub entrances: PathBuf,
    /// How much of everything.
    pub limits: Limits,
    /// TLS.
    pub credentials: Arc<dyn Credentials>,
    /// What VMs' packets need; without it, none are carried.
    pub packets: Option<PacketPlan>,
}

/// Why a tunnel end does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A limit that the protocol cannot keep.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A peer that can be none: not a proxy, ourselves, or named twice.
    #[error("tunnel peer {0} is not another proxy, or is named twice; list each other proxy once")]
    Peer(Identity),
    /// The folder of the entrances.
    #[error(transparent)]
    Entrances(#[from] EntranceError),
    /// A listener that cannot be used.
    #[error("the tunnel's listening socket cannot be used; bind it to an address of the WAN side")]
    Listener(#[source] std::io::Error),
    /// A socket for datagrams.
    #[error("datagrams cannot be sent from {address}; see that UDP is free there as TCP is")]
    Datagrams {
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl TunnelPlan {
    pub(super) fn check(&self) -> Result<(), StartError> {
        self.limits.check()?;
        for (index, peer) in self.peers.iter().enumerate() {
            let again = self.peers[..index].iter().any(|other| other.identity == peer.identity);
            if again || peer.identity == self.own || peer.identity.role != Role::Proxy {
                return Err(StartError::Peer(peer.identity.clone()));
            }
        }
        Ok(())
    }
}
