use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use placement::{Identity, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::identity::tests::Authority;
use crate::identity::{Credentials, connect};

const PROXY: &str = "causeway://site/a/role/proxy/name/p1";
const SOON: Duration = Duration::from_secs(20);

/// More than the system's buffers of both ends hold.
const LARGE_BYTES: usize = 32 * 1024 * 1024;

/// A server of a few routes, and an agent that calls it.
struct Pair {
    address: std::net::SocketAddr,
    agent: Credentials,
    _stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Pair {
    async fn with(bounds: Bounds) -> Pair {
        let ca = Authority::new();
        let papers = |name: &str| {
            let folder = tempfile::tempdir().unwrap();
            Credentials::load(&ca.bundle(folder.path(), name, |_| {})).unwrap()
        };
        let own = papers(PROXY);
        let routes = vec![
            Route::new(Method::GET, "/whoami", &[Role::Agent], |request| async move {
                Reply::json(request.caller())
            }),
            Route::new(Method::POST, "/vms/{vm}", &[Role::Agent], only_the_one_that_is_named),
            Route::new(Method::GET, "/large", &[Role::Agent], |_| async {
                Ok(Reply::text("text/plain", "x".repeat(LARGE_BYTES)))
            }),
            Route::new(Method::GET, "/panic", &[Role::Agent], |_| async { panic!("as asked") }),
        ];
        let tls = Arc::new(ArcSwap::new(own.server_config()));
        let address = ([127, 0, 0, 1], 0).into();
        let table = RouteTable::new(routes).unwrap();
        let server = Server::bind(address, table, tls, bounds).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        let agent = papers("causeway://site/a/role/agent/name/hv1");
        Pair { address, agent, _stop: stop, serving }
    }

    async fn connected(&self) -> TlsStream<TcpStream> {
        let expected: Identity = PROXY.parse().unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        connect(self.agent.client_config(expected.clone()), &expected, stream).await.unwrap()
    }

    async fn said(&self, request: &str) -> String {
        let mut stream = self.connected().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn asked(&self, method: &str, path: &str) -> String {
        self.said(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
            .await
    }
}

/// A check that no role can express: which part it is, by what the path says.
async fn only_the_one_that_is_named(request: Request) -> Answer {
    let vm: placement::VmName = request.param("vm")?;
    if request.caller().name.as_str() == vm.as_str() {
        return Reply::json(&vm);
    }
    let message = format!("{} is none of {}'s business", vm, request.caller());
    Err(Refusal::new(StatusCode::FORBIDDEN, "wrong_agent", message, "ask the agent it names"))
}

async fn read_to_end(stream: &mut TlsStream<TcpStream>) -> String {
    let mut heard = Vec::new();
    // A connection that is broken off has said what it had to say as well.
    let _ = timeout(SOON, stream.read_to_end(&mut heard)).await.expect("the server closes");
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn a_handler_knows_who_calls_and_may_be_stricter_than_the_roles() {
    let pair = Pair::with(Bounds::default()).await;
    let heard = pair.asked("GET", "/whoami").await;
    assert!(heard.ends_with("\"causeway://site/a/role/agent/name/hv1\""), "{heard}");
    assert!(pair.asked("POST", "/vms/hv1").await.starts_with("HTTP/1.1 200 "));
    let heard = pair.asked("POST", "/vms/hv2").await;
    assert!(heard.starts_with("HTTP/1.1 403 ") && heard.contains("wrong_agent"), "{heard}");
    let heard = pair.asked("POST", "/vms/HV2").await;
    assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("bad_path"), "{heard}");
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_own_connection_alone() {
    let pair = Pair::with(Bounds::default()).await;
    let mut standing = pair.connected().await;
    assert_eq!(pair.asked("GET", "/panic").await, "");
    let request = b"GET /whoami HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    standing.write_all(request).await.unwrap();
    assert!(read_to_end(&mut standing).await.starts_with("HTTP/1.1 200 "));
    assert!(pair.asked("GET", "/whoami").await.starts_with("HTTP/1.1 200 "));
    assert!(!pair.serving.is_finished());
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let pair = Pair::with(Bounds { head_ms_max: 100, ..Bounds::default() }).await;
    for begun in ["", "GET /whoami HT", "GET /whoami HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let heard = pair.said(begun).await;
        assert_eq!(heard.contains(" 200 "), begun.ends_with("\r\n\r\n"), "{begun:?}: {heard}");
    }
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_its_reply_is_dropped() {
    let pair = Pair::with(Bounds { unread_ms_max: 1_000, ..Bounds::default() }).await;
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut takes = pair.connected().await;
    takes.write_all(request).await.unwrap();
    assert!(read_to_end(&mut takes).await.len() > LARGE_BYTES);

    let mut stalls = pair.connected().await;
    stalls.write_all(request).await.unwrap();
    let caller = stalls.get_ref().0.local_addr().unwrap();
    let dropped = async {
        while is_connected(pair.address.port(), caller.port()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, dropped).await.expect("the server drops the caller");
}

/// Whether the system has an established connection from this local port to that remote one.
fn is_connected(local: u16, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let mut rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    rows.any(|row| row[1].ends_with(&local) && row[2].ends_with(&remote) && row[3] == "01")
}
