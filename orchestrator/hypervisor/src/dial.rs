//! How a driver reaches the other end: somebody else opens and secures the stream.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// Opens streams to one party, and makes sure that it is the one that is meant.
pub trait Dial: Send + Sync {
    /// What is opened.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Whom it reaches, for messages: `agent hv1 of site a (192.0.2.1:7402)`.
    fn party(&self) -> String;

    /// Opens one more. The caller bounds the wait.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}
