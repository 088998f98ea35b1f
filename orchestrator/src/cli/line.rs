//! Calls to the service over one connection after another: one that broke is dialled anew, for what
//! is asked carries a key and is not done twice.

use std::io;
use std::time::Duration;

use daemon::identity::{ConnectError, connect};
use orchestrator_api::CallError;
use orchestrator_api::operator::OperatorClient;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::operator_file::OperatorFile;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take: more than the service itself waits for an agent.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// How often a call is made whose connection breaks.
const TRIES_MAX: u32 = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// Nobody takes a connection.
    #[error("the service cannot be reached at {address}; see that it runs, and what [server] says")]
    Unreached {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else answers there, or certificates do not fit.
    #[error(transparent)]
    Tls(#[from] ConnectError),
    /// It takes too long.
    #[error("the service has not answered within {ANSWER_MAX:?}; ask `causeway status`")]
    Silent,
    /// It said no, or broke off.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The line to the service.
pub(super) struct Line {
    file: OperatorFile,
    open: Option<(OperatorClient, JoinHandle<()>)>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

impl Line {
    pub(super) fn new(file: OperatorFile) -> Line {
        Line { file, open: None }
    }

    /// Makes a call, and makes it again while connections break under it.
    pub(super) async fn call<T>(
        &mut self,
        mut make: impl AsyncFnMut(&mut OperatorClient) -> Result<T, CallError>,
    ) -> Result<T, LineError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let result = match self.client().await {
                Ok(client) => match timeout(ANSWER_MAX, make(client)).await {
                    Ok(answer) => answer.map_err(LineError::from),
                    Err(_) => Err(LineError::Silent),
                },
                Err(error) => Err(error),
            };
            match result {
                Err(error) if tried < TRIES_MAX && may_pass(&error) => {
                    self.close();
                    sleep(PAUSE).await;
                }
                settled => return settled,
            }
        }
    }

    async fn client(&mut self) -> Result<&mut OperatorClient, LineError> {
        if self.open.is_none() {
            let OperatorFile { address, server, credentials } = &self.file;
            let dialled = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
            let stream = dialled.unwrap_or_else(|late| Err(late.into()));
            let stream =
                stream.map_err(|source| LineError::Unreached { address: *address, source })?;
            let stream = connect(credentials.client_config(server.clone()), server, stream).await?;
            let (client, connection) = OperatorClient::over(stream).await?;
            // How the connection ends, the next call learns.
            self.open = Some((client, tokio::spawn(async move { drop(connection.await) })));
        }
        let (client, _) = self.open.as_mut().expect("it was opened just now");
        Ok(client)
    }

    fn close(&mut self) {
        if let Some((_, moves_bytes)) = self.open.take() {
            moves_bytes.abort();
        }
    }
}

/// Whether another connection may fare better.
fn may_pass(error: &LineError) -> bool {
    matches!(error, LineError::Call(CallError::Broken(_)) | LineError::Unreached { .. })
}
