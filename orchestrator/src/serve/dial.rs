//! Reaches one agent or proxy over mutual TLS, and nobody else: whom it means is named beforehand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use daemon::identity::{Credentials, connect};
use hypervisor::Dial;
use placement::Identity;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// One party.
#[derive(Debug)]
pub(crate) struct TlsDial {
    pub(crate) identity: Identity,
    pub(crate) address: SocketAddr,
    pub(crate) credentials: Arc<Credentials>,
}

impl Dial for TlsDial {
    type Stream = TlsStream<TcpStream>;

    fn party(&self) -> String {
        let Identity { site, role, name } = &self.identity;
        format!("{role} {name} of site {site} ({})", self.address)
    }

    async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let config = self.credentials.client_config(self.identity.clone());
        connect(config, &self.identity, stream).await.map_err(io::Error::other)
    }
}
