//! A proxy that runs, and calls to it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use daemon::identity::{self, ConnectError, Credentials};
use placement::{Identity, Role};
use proxy_api::{CallError, Client, Reloaded, Status};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::house::House;

/// Longest wait for anything that a program does at once; generous, for machines that are busy.
pub const SOON: Duration = Duration::from_secs(30);

/// The program that is run.
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn program() -> PathBuf {
    lab::programs::path("causeway-proxy").expect("a program of the workspace")
}

/// A command that the system ends with the test's own thread, should the test be killed.
#[must_use]
pub fn bound_to_the_test(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A proxy in a house; killed with the value.
#[derive(Debug)]
pub struct Running<'h> {
    house: &'h House,
    identity: Identity,
    child: Child,
    events: Lines<BufReader<ChildStderr>>,
    /// Where its control server listens.
    pub address: SocketAddr,
}

impl<'h> Running<'h> {
    /// Starts the house's proxy and waits until it is ready.
    ///
    /// # Panics
    /// It does not become so.
    pub async fn start(house: &'h House) -> Running<'h> {
        Running::start_as(house, bound_to_the_test(program())).await
    }

    /// Like [`Running::start`], by a command that ends in the program: a shell that sets a limit
    /// first, an environment with more in it.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start_as(house: &'h House, command: Command) -> Running<'h> {
        Running::start_another(house, "proxy.toml", house.proxy(), command).await
    }

    /// Like [`Running::start_as`], for another proxy in the house: its configuration, and who it
    /// is.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start_another(
        house: &'h House,
        config: &str,
        identity: Identity,
        mut command: Command,
    ) -> Running<'h> {
        command.args(["run", "--config"]).arg(house.path(config));
        command.args(["--log-format", "json"]).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the proxy starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let events = BufReader::new(stderr).lines();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Running { house, identity, child, events, address };
        let ready = running.event("ready").await;
        running.address = ready["address"].as_str().expect("an address").parse().expect("one");
        running
    }

    /// The next event with this message; those before it are passed over.
    ///
    /// # Panics
    /// None comes in time, or the proxy ends first.
    pub async fn event(&mut self, message: &str) -> Value {
        let mut before = Vec::new();
        let found = timeout(SOON, async {
            while let Ok(Some(line)) = self.events.next_line().await {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                if event["message"] == message {
                    return Some(event);
                }
                before.push(line);
            }
            None
        });
        match found.await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the proxy ended before '{message}'; it said {before:#?}"),
            Err(_) => panic!("no '{message}' within {SOON:?}, but {before:#?}"),
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the proxy runs");
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("an id");
        kill_process(pid, signal).expect("the proxy takes a signal");
    }

    /// Waits until it has ended; how, and what it had still to say.
    ///
    /// # Panics
    /// It does not end.
    pub async fn ended(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        let ended = timeout(SOON, async {
            while let Ok(Some(line)) = self.events.next_line().await {
                rest.push_str(&line);
                rest.push('\n');
            }
            self.child.wait().await.expect("the proxy can be waited for")
        });
        let status = ended.await.expect("the proxy ends in time");
        (status, rest)
    }

    /// A TLS connection as a caller with this role.
    ///
    /// # Panics
    /// None comes about.
    pub async fn connected(&self, role: Role) -> TlsStream<TcpStream> {
        let papers = self.house.papers(role);
        self.connect(&papers, &self.identity).await.expect("papers in order are admitted")
    }

    /// A TLS connection with these papers, to a proxy that is expected to be `expected`.
    ///
    /// # Errors
    /// The ends do not trust each other.
    ///
    /// # Panics
    /// There is no TCP connection, or the handshake never ends.
    pub async fn connect(
        &self,
        papers: &Credentials,
        expected: &Identity,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let stream = TcpStream::connect(self.address).await.expect("the proxy listens");
        let config = papers.client_config(expected.clone());
        let shaken = timeout(SOON, identity::connect(config, expected, stream));
        shaken.await.expect("the handshake ends")
    }

    /// Asks for its status, over a connection of its own.
    ///
    /// # Errors
    /// As the client says.
    pub async fn status(&self, role: Role) -> Result<Status, CallError> {
        self.asked(role, async |client| client.status().await).await
    }

    /// Asks for its metrics, over a connection of its own.
    ///
    /// # Errors
    /// As the client says.
    pub async fn metrics(&self, role: Role) -> Result<String, CallError> {
        self.asked(role, async |client| client.metrics().await).await
    }

    /// Asks it to reload, over a connection of its own.
    ///
    /// # Errors
    /// As the client says.
    pub async fn reload(&self, role: Role) -> Result<Reloaded, CallError> {
        self.asked(role, async |client| client.reload().await).await
    }

    /// Calls it as a caller with this role, over a connection of its own.
    ///
    /// # Errors
    /// As the client says.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn asked<T>(
        &self,
        role: Role,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let (mut client, connection) = Client::over(self.connected(role).await).await?;
        let either = async {
            tokio::select! {
                answer = call(&mut client) => answer,
                Err(error) = connection => Err(error),
            }
        };
        timeout(SOON, either).await.expect("the proxy answers")
    }

    /// Says `request` as a caller with this role and reads until the proxy closes.
    ///
    /// # Panics
    /// It does not close.
    pub async fn said(&self, role: Role, request: &[u8]) -> String {
        let mut stream = self.connected(role).await;
        // A proxy that has heard enough closes before all of it is said.
        let _ = stream.write_all(request).await;
        read_to_end(&mut stream).await
    }
}

/// Everything that the other end says until it closes or breaks off.
///
/// # Panics
/// It does neither.
pub async fn read_to_end<S: AsyncReadExt + Unpin>(stream: &mut S) -> String {
    let mut heard = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut heard)).await;
    let _ = ended.expect("the other end closes");
    String::from_utf8_lossy(&heard).into_owned()
}
