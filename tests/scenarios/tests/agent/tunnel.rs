//! The sites' proxies, and a move's channels through the tunnel between them: the agents' QEMUs find
//! them in the folder of sockets that agent and proxy of a site share.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use daemon::identity::Credentials;
use guest::settings::PORT;
use lab::sandbox::{Launch, Process};
use lab::world::{Dual, Site, World, addresses};
use placement::{Authority, Identity, Pair};
use proxy_api::{
    CallError, Claim, Client, Flow, FlowQuery, GrantChannel, StateFilter, Tunnel, WayPackets,
};
use rustix::process::Signal;

use crate::asking::{self, Papers, vm};
use crate::crew::{SOCKETS, WAIT_MAX, put, until};

const CONTROL_PORT: u16 = 7401;
pub(crate) const TUNNEL_PORT: u16 = 7403;
/// What a move carries.
const CHANNELS: [&str; 2] = ["disk", "memory"];

/// The proxy of one site.
pub(crate) struct Proxy<'w> {
    site: &'w Site,
    serve: Credentials,
    process: Option<Process>,
}

impl<'w> Proxy<'w> {
    /// Starts it. Of two sites the first by name is dialled. With a leg, packets can follow a VM.
    pub(crate) fn start(
        world: &'w World,
        site: &'w Site,
        papers: &Papers,
        has_leg: bool,
    ) -> Proxy<'w> {
        let bundle = papers.bundle(site.name(), "proxy", "p1");
        for file in ["certificate.pem", "key.pem", "ca.pem"] {
            let bytes = std::fs::read(bundle.join(file)).unwrap();
            put(site, &format!("/etc/causeway/p1/{file}"), bytes, 0o600);
        }
        put(
            site,
            "/etc/causeway/proxy.toml",
            configuration(world, site, has_leg).into_bytes(),
            0o644,
        );
        let serve = papers.credentials("a", "orchestrator", "serve");
        let mut proxy = Proxy { site, serve, process: None };
        proxy.begin();
        proxy
    }

    pub(crate) fn begin(&mut self) {
        let words = ["run", "--config", "/etc/causeway/proxy.toml"];
        let launch = Launch::ours("causeway-proxy").unwrap().args(words).log("proxy");
        self.process = Some(self.site.proxy().spawn(&launch).unwrap());
        until("the proxy listens", || self.reached().is_ok().then_some(()));
    }

    /// As if its host's memory had failed it alone.
    pub(crate) fn killed(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL).unwrap();
        process.wait(WAIT_MAX).unwrap();
    }

    /// Every flow that it carries, or remembers.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let mut query = FlowQuery { state: StateFilter::All, ..FlowQuery::default() };
        let mut flows = Vec::new();
        loop {
            let page = self.call(async |client| client.flows(&query).await).unwrap();
            flows.extend(page.flows);
            if page.more_after.is_none() {
                return flows;
            }
            query.after = page.more_after;
        }
    }

    /// What it says of the tunnel.
    pub(crate) fn tunnel(&self) -> Tunnel {
        self.call(async |client| client.tunnel().await).unwrap()
    }

    /// What it has counted on the VM's way, since that began; none where the VM has no way through it.
    pub(crate) fn packets(&self) -> Option<WayPackets> {
        let vms = self.call(async |client| client.vms().await).unwrap().vms;
        vms.into_iter().find(|known| known.vm == vm())?.way?.packets
    }

    /// Waits until the tunnel stands.
    fn meets_its_peer(&self) {
        until("the tunnel stands", || {
            self.tunnel().peers.iter().all(|peer| peer.is_connected).then_some(())
        });
    }

    fn call<T>(
        &self,
        asked: impl AsyncFnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let stream = self.reached().unwrap();
        asking::secured(&self.serve, &identity(self.site.name()), stream, async |stream| {
            let (mut client, connection) = Client::over(stream).await?;
            tokio::select! {
                answer = asked(&mut client) => answer,
                Err(error) = connection => Err(error),
            }
        })
    }

    fn reached(&self) -> std::io::Result<TcpStream> {
        let address = control_address(self.site);
        self.site.proxy().inside(|| TcpStream::connect(address)).unwrap()
    }
}

/// Where a site's proxy is told things.
pub(crate) fn control_address(site: &Site) -> SocketAddr {
    (site.proxy_address().v4, CONTROL_PORT).into()
}

/// A move's channels; they end with the value.
pub(crate) struct Channels<'w> {
    ends: [Arc<Proxy<'w>>; 2],
    asked: GrantChannel,
}

impl<'w> Channels<'w> {
    /// Claims the VM at both proxies, and grants each channel at both.
    pub(crate) fn open(
        from: &Arc<Proxy<'w>>,
        to: &Arc<Proxy<'w>>,
        under: &Authority,
        pair: &Pair,
    ) -> Channels<'w> {
        let ends = [Arc::clone(to), Arc::clone(from)];
        let claim = Claim { authority: under.clone(), pair: pair.clone() };
        let asked = GrantChannel {
            authority: under.clone(),
            from: from.site.name().parse().unwrap(),
            to: to.site.name().parse().unwrap(),
            compress: true,
        };
        let mut entrances = Vec::new();
        for end in &ends {
            end.meets_its_peer();
            end.call(async |client| client.claim(&vm(), &claim).await).unwrap();
            for channel in CHANNELS {
                let channel = channel.parse().unwrap();
                let granted =
                    end.call(async |client| client.grant_channel(&vm(), &channel, &asked).await);
                entrances.extend(granted.unwrap().entrance);
            }
        }
        let wanted = |what: &str| format!("{SOCKETS}/{}.{}.{what}", vm(), under.epoch);
        assert_eq!(entrances, CHANNELS.map(|channel| Path::new(&wanted(channel)).to_owned()));
        Channels { ends, asked }
    }
}

impl Drop for Channels<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for end in &self.ends {
            for channel in CHANNELS {
                let channel = channel.parse().unwrap();
                end.call(async |client| client.revoke_channel(&vm(), &channel, &self.asked).await)
                    .unwrap();
            }
        }
    }
}

fn configuration(world: &World, site: &Site, has_leg: bool) -> String {
    let (name, here) = (site.name(), site.proxy_address().v4);
    let mut text = format!(
        "site = \"{name}\"\n[control]\nlisten = \"{here}:{CONTROL_PORT}\"\n\
         [identity]\ncertificate = \"p1/certificate.pem\"\nkey = \"p1/key.pem\"\n\
         authority = \"p1/ca.pem\"\n[state]\nfolder = \"/var/lib/causeway/proxy\"\n\
         [tunnel]\nlisten = \"{here}:{TUNNEL_PORT}\"\nentrances = \"{SOCKETS}\"\n"
    );
    for other in world.sites().iter().filter(|other| other.name() != name) {
        let _ = writeln!(text, "[[tunnel.peer]]\nidentity = \"{}\"", identity(other.name()));
        if other.name() < name {
            let _ = writeln!(text, "dial = \"{}:{TUNNEL_PORT}\"", other.proxy_address().v4);
        }
    }
    if has_leg {
        let gateways = site.gateway().ip.each().map(|ip| format!("\"{ip}\"")).join(", ");
        let _ =
            writeln!(text, "[[network]]\nname = \"app\"\nleg = \"leg\"\ngateway = [{gateways}]");
    }
    for channel in CHANNELS {
        let target = format!("unix:{SOCKETS}/{{vm}}.{{epoch}}.{channel}");
        let _ = writeln!(text, "[[tunnel.permit]]\nchannel = \"{channel}\"\ntarget = \"{target}\"");
    }
    text + &services(site)
}

/// The VM's, at the site's first VIP.
fn services(site: &Site) -> String {
    let with_port =
        |of: Dual| of.each().map(|ip| format!("\"{}\"", SocketAddr::new(ip, PORT))).join(", ");
    let (listen, backend) = (with_port(site.vip(1)), with_port(addresses::vm(1).ip));
    let service = |protocol: &str| {
        format!(
            "[[service]]\nname = \"web-{protocol}\"\nprotocol = \"{protocol}\"\n\
             listen = [{listen}]\n[[service.backend]]\nname = \"web\"\nvm = \"{}\"\n\
             address = [{backend}]\n",
            vm()
        )
    };
    service("tcp") + &service("udp")
}

fn identity(site: &str) -> Identity {
    format!("causeway://site/{site}/role/proxy/name/p1").parse().unwrap()
}
