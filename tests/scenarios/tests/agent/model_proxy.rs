//! A proxy that does nothing but listen to its agent: what it was told, in order, and whether the
//! VM's port was turned round at that moment.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use daemon::control::{Answer, Bounds, Lines, Method, Refusal, Reply, Request, RouteTable};
use daemon::control::{Server, StatusCode};
use lab::host::Host;
use lab::world::Site;
use placement::{Authority, Role};
use proxy_api::{
    AtPort, ChannelRevoked, Diverted, GrantChannel, Leftovers, LeftoversTaken, Leg, Networks,
    Released, StandsIn, path,
};
use tokio::sync::oneshot;

use crate::asking::Papers;

const PORT: u16 = 7411;
const AGENT: &[Role] = &[Role::Agent];

/// What a proxy was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Divert(Authority),
    StandIn(Authority),
    Leftovers(Leftovers),
    Release(Authority),
    Closed(String, GrantChannel),
}

/// It ends with the value.
pub(crate) struct ModelProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    leg: Leg,
    hypervisor: Host,
    told: Mutex<Vec<(Told, bool)>>,
    refuses_diverts: AtomicBool,
}

impl ModelProxy {
    /// Listens where the site's proxy stands, with that proxy's papers.
    pub(crate) fn start(site: &Site, papers: &Papers) -> ModelProxy {
        let station = site.leg();
        let leg = Leg {
            network: "app".parse().unwrap(),
            mac: station.mac.to_string().parse().unwrap(),
            addresses: station.ip.each().to_vec(),
            gateways: site.gateway().ip.each().to_vec(),
            namespace: String::new(),
            interface: "leg".to_owned(),
            tun: "tun0".to_owned(),
        };
        let shared = Arc::new(Shared {
            leg,
            hypervisor: site.hypervisor(),
            told: Mutex::default(),
            refuses_diverts: AtomicBool::new(false),
        });
        let tls = papers.credentials(site.name(), "proxy", "p1").server_config();
        let address = SocketAddr::from((site.proxy_address().v4, PORT));
        let routes = routes(&shared);
        let (host, (stop, stopped), (ready, is_ready)) =
            (site.proxy(), oneshot::channel(), mpsc::sync_channel(1));
        let serve = async move {
            let tls = Arc::new(ArcSwap::new(tls));
            let server = Server::bind(address, routes, tls, Bounds::default()).await.unwrap();
            ready.send(()).unwrap();
            server.serve(async { drop(stopped.await) }).await;
        };
        let thread = std::thread::spawn(move || {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
            host.inside(|| runtime().unwrap().block_on(serve)).unwrap();
        });
        is_ready.recv().unwrap();
        ModelProxy { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it says no from now on.
    pub(crate) fn refuses_diverts(&self, refuses: bool) {
        self.shared.refuses_diverts.store(refuses, Ordering::Relaxed);
    }

    /// What it was told since it was last asked, each with whether the port was turned round then.
    pub(crate) fn told(&self) -> Vec<(Told, bool)> {
        std::mem::take(&mut self.shared.told.lock().unwrap())
    }
}

impl Drop for ModelProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn hears(&self, told: Told) {
        let rules = self.hypervisor.succeed(&["nft", "list", "ruleset"]).unwrap();
        self.told.lock().unwrap().push((told, rules.contains("fwd to")));
    }
}

fn routes(shared: &Arc<Shared>) -> RouteTable {
    Lines::of(shared)
        .at(Method::GET, path::NETWORKS, AGENT, |model, _| async move {
            Reply::json(&Networks { legs: vec![model.leg.clone()] })
        })
        .at(Method::POST, path::VM_DIVERT, AGENT, |model, request| async move {
            if model.refuses_diverts.load(Ordering::Relaxed) {
                let message = "the VM was not staged";
                return Err(Refusal::new(StatusCode::CONFLICT, "not_staged", message, "stage it"));
            }
            model.hears(Told::Divert(authority(&request)?));
            Reply::json(&Diverted { legs: vec![model.leg.clone()] })
        })
        .at(Method::POST, path::VM_STAND_IN, AGENT, |model, request| async move {
            model.hears(Told::StandIn(authority(&request)?));
            Reply::json(&StandsIn {})
        })
        .at(Method::POST, path::VM_LEFTOVERS, AGENT, |model, request| async move {
            leftovers(&model, &request)
        })
        .at(Method::POST, path::VM_RELEASE, AGENT, |model, request| async move {
            model.hears(Told::Release(authority(&request)?));
            Reply::json(&Released { packets: 0 })
        })
        .at(Method::POST, path::CHANNEL_REVOKE, AGENT, |model, request| async move {
            let channel: placement::PartName = request.param("channel")?;
            model.hears(Told::Closed(channel.to_string(), request.json()?));
            Reply::json(&ChannelRevoked { was_granted: true })
        })
        .table()
        .unwrap()
}

fn authority(request: &Request) -> Result<Authority, Refusal> {
    Ok(request.json::<AtPort>()?.authority)
}

fn leftovers(model: &Shared, request: &Request) -> Answer {
    let part = Leftovers::decode(request.body()).map_err(|error| {
        Refusal::caused(StatusCode::BAD_REQUEST, "bad_part", &error, "send it whole")
    })?;
    let packets = u64::try_from(part.packets.len()).unwrap();
    model.hears(Told::Leftovers(part));
    Reply::json(&LeftoversTaken { packets })
}
