//! Three sites of the lab, started from nothing but what `causeway init` made: each folder copied to
//! its host as it is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use daemon::identity::{self, Credentials};
use lab::programs;
use lab::sandbox::Process;
use lab::world::{Dual, World, WorldPlan};
use orchestrator_api::AgentClient;
use placement::Identity;
use scenarios::installation::{self, ON_HOST};
use scenarios::site::eventually;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::installed::{Installed, credentials};

const SITES: [&str; 3] = ["a", "b", "c"];
/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// What the name is answered with while its VM is at site a.
const VIP_AT_A: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// A question for A of web.example.net, recursion not wished for.
const QUESTION: &[u8] = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03web\x07example\x03net\0\0\x01\0\x01";

/// Everything that was installed, running; killed with the value.
struct Running<'w> {
    world: &'w World,
    serve: Credentials,
    _processes: Vec<Process>,
}

impl<'w> Running<'w> {
    fn start(world: &'w World, installed: &Installed) -> Running<'w> {
        let processes = installation::start(world, &installed.read).unwrap();
        let serve = installed.part("causeway://site/hq/role/orchestrator/name/serve");
        Running { world, serve: credentials(serve), _processes: processes }
    }

    /// Calls a part as the service does: from where it stands, with its papers.
    fn call<T>(
        &self,
        who: &str,
        at: SocketAddr,
        asked: impl AsyncFnOnce(TlsStream<tokio::net::TcpStream>) -> Result<T, String>,
    ) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = self.world.desk().inside(|| TcpStream::connect(at)).unwrap();
        let stream = connected.map_err(|error| format!("{who} at {at}: {error}"))?;
        stream.set_nonblocking(true).unwrap();
        let who: Identity = who.parse().unwrap();
        let calling = async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let config = self.serve.client_config(who.clone());
            let stream = identity::connect(config, &who, stream).await;
            asked(stream.map_err(|error| format!("{who}: {error:?}"))?).await
        };
        runtime.block_on(async { timeout(ANSWER_MAX, calling).await }).expect("it answers")
    }

    /// Waits until a site's proxy is connected to those of both other sites.
    fn proxy_meets_the_others(&self, site: &str) {
        let who = format!("causeway://site/{site}/role/proxy/name/p1");
        let at = at(self.world.site(site).proxy_address(), 7401);
        let connected = || {
            let tunnel = self.call(&who, at, async |stream| {
                let (mut client, connection) =
                    proxy_api::Client::over(stream).await.map_err(text)?;
                tokio::select! {
                    tunnel = client.tunnel() => tunnel.map_err(text),
                    Err(error) = connection => Err(text(error)),
                }
            })?;
            let count = tunnel.peers.iter().filter(|peer| peer.is_connected).count();
            if count == SITES.len() - 1 { Ok(()) } else { Err(format!("{site}: {tunnel:?}")) }
        };
        eventually(connected);
    }

    /// Waits until a site's agent tells of its host.
    fn agent_tells(&self, site: &str) {
        let who = format!("causeway://site/{site}/role/agent/name/hv1");
        let at = at(self.world.site(site).hypervisor_address(), 7402);
        let host = eventually(|| {
            self.call(&who, at, async |stream| {
                let (mut client, connection) = AgentClient::over(stream).await.map_err(text)?;
                tokio::select! {
                    host = client.host() => host.map_err(text),
                    Err(error) = connection => Err(text(error)),
                }
            })
        });
        assert_eq!(host.images, ["guest".parse().unwrap()]);
    }

    /// Waits until a site's name server tells whom it follows, and answers clients.
    fn name_server_answers(&self, site: &str) {
        let who = format!("causeway://site/{site}/role/gslb/name/ns1");
        let place = self.world.site(site);
        let control = at(place.proxy_address(), 7404);
        let names = eventually(|| {
            self.call(&who, control, async |stream| {
                let (mut client, connection) =
                    gslb_api::Client::over(stream).await.map_err(text)?;
                tokio::select! {
                    names = client.names() => names.map_err(text),
                    Err(error) = connection => Err(text(error)),
                }
            })
        });
        let [name] = &names.names[..] else { panic!("{names:?}") };
        assert_eq!((name.name.as_str(), name.site.as_str()), ("web.example.net", "a"));
        assert_eq!(name.sites.len(), SITES.len());

        let socket = self.world.client(1).inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        socket.send_to(QUESTION, at(place.vip(2), 53)).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert!(answer[..length].ends_with(&VIP_AT_A.octets()), "{:?}", &answer[..length]);
    }

    /// `causeway` as the operator types it, with the operator's own file.
    fn types(&self, words: &[&str]) -> Result<String, String> {
        let program = programs::path("causeway").unwrap();
        let config = format!("{ON_HOST}/operator-ada/operator.toml");
        let command = [&[program.to_str().unwrap()], words, &["--config", &config]].concat();
        let output = self.world.desk().run(&command).unwrap();
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(told(&output.stdout)) } else { Err(told(&output.stderr)) }
    }
}

#[test]
fn three_sites_start_from_what_init_made_and_find_each_other() {
    let installed = Installed::of("three-sites");
    let world = World::build(&WorldPlan::with_sites(&SITES)).unwrap();
    let running = Running::start(&world, &installed);
    for site in SITES {
        running.proxy_meets_the_others(site);
        running.agent_tells(site);
        running.name_server_answers(site);
    }
    let listed = eventually(|| running.types(&["vm", "list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let none = serde_json::json!([]);
    assert_eq!((&listed["vms"], &listed["unasked"]), (&none, &none), "all agents were asked");
}

fn at(address: Dual, port: u16) -> SocketAddr {
    SocketAddr::from((address.v4, port))
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
