//! A real `causeway-proxy` at a site of the lab, with its leg on the application subnet.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use daemon::identity::{self, Credentials, IdentityPaths};
use lab::host::Host;
use lab::programs;
use lab::sandbox::{Launch, Process};
use lab::world::{Site, World};
use placement::Identity;
use proxy_api::{CallError, Client};
use rustix::process::Signal;
use scenarios::site::eventually;
use tempfile::TempDir;
use tokio::time::timeout;

const CONTROL_PORT: u16 = 7401;
const TUNNEL_PORT: u16 = 7403;
const CONFIG: &str = "/etc/causeway/proxy.toml";
/// Longest wait for an answer, or an end.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The service's port, at VIPs and backends.
pub(crate) const PORT: u16 = 7000;
/// The network that both sites have.
pub(crate) const NETWORK: &str = "apps";

/// A CA and the bundles it has issued.
pub(crate) struct Papers(TempDir);

impl Papers {
    pub(crate) fn new() -> Papers {
        let papers = Papers(tempfile::tempdir().unwrap());
        papers.causeway(&["pki", "init", "--out", "pki"]);
        papers
    }

    pub(crate) fn credentials(&self, site: &str, role: &str, name: &str) -> Credentials {
        let bundle = self.bundle(site, role, name);
        Credentials::load(&IdentityPaths {
            certificate: bundle.join("certificate.pem"),
            key: bundle.join("key.pem"),
            authority: bundle.join("ca.pem"),
        })
        .unwrap()
    }

    fn bundle(&self, site: &str, role: &str, name: &str) -> std::path::PathBuf {
        let out = format!("{site}-{role}-{name}");
        let path = self.0.path().join(&out);
        if !path.exists() {
            let what = ["--site", site, "--role", role, "--name", name, "--out", &out];
            self.causeway(&[&["pki", "issue", "--pki", "pki"], &what[..]].concat());
        }
        path
    }

    fn causeway(&self, arguments: &[&str]) {
        let mut program = Command::new(programs::path("causeway").unwrap());
        let ended = program.args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// The proxy of one site; killed with the value.
pub(crate) struct Proxy {
    pub(crate) name: String,
    host: Host,
    address: SocketAddr,
    process: Option<Process>,
}

impl Proxy {
    /// Gives it papers and configuration: a leg, a service of these backends on the site's first VIP,
    /// and every other site of the world as a peer.
    pub(crate) fn prepare(
        world: &World,
        name: &str,
        papers: &Papers,
        backends: &[SocketAddr],
    ) -> Proxy {
        let site = world.site(name);
        let bundle = papers.bundle(name, "proxy", "p1");
        for file in ["certificate.pem", "key.pem", "ca.pem"] {
            let bytes = std::fs::read(bundle.join(file)).unwrap();
            put(site, &format!("/etc/causeway/p1/{file}"), &bytes);
        }
        put(site, CONFIG, configuration(world, site, backends).as_bytes());
        let address = SocketAddr::from((site.proxy_address().v4, CONTROL_PORT));
        Proxy { name: name.to_owned(), host: site.proxy(), address, process: None }
    }

    /// Starts it, and waits until it serves.
    pub(crate) fn start(&mut self) {
        let launch = Launch::ours("causeway-proxy").unwrap();
        let launch = launch.args(["run", "--config", CONFIG]).log(format!("proxy-{}", self.name));
        self.process = Some(self.host.spawn(&launch).unwrap());
        eventually(|| self.reached().map(drop).map_err(|error| error.to_string()));
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::TERM).unwrap();
        assert!(process.wait(SOON).unwrap().success());
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill().unwrap();
    }

    /// `causeway-proxy down`: whether it was done, and what it said.
    pub(crate) fn down(&self) -> (bool, String) {
        let program = programs::path("causeway-proxy").unwrap();
        let words = [program.to_str().unwrap(), "down", "--config", CONFIG];
        let output = self.host.run(&words).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub(crate) fn call<T>(
        &self,
        credentials: &Credentials,
        asked: impl AsyncFnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = self.reached().unwrap();
        stream.set_nonblocking(true).unwrap();
        let who = identity(&self.name);
        let calling = async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let config = credentials.client_config(who.clone());
            let stream = identity::connect(config, &who, stream).await.unwrap();
            let (mut client, connection) = Client::over(stream).await?;
            tokio::select! {
                answer = asked(&mut client) => answer,
                Err(error) = connection => Err(error),
            }
        };
        runtime.block_on(async { timeout(SOON, calling).await }).expect("it answers")
    }

    fn reached(&self) -> std::io::Result<TcpStream> {
        self.host.inside(|| TcpStream::connect(self.address)).unwrap()
    }
}

/// Who a site's proxy is.
pub(crate) fn identity(site: &str) -> Identity {
    format!("causeway://site/{site}/role/proxy/name/p1").parse().unwrap()
}

fn configuration(world: &World, site: &Site, backends: &[SocketAddr]) -> String {
    let (name, here) = (site.name(), site.proxy_address().v4);
    let quoted = |all: &mut dyn Iterator<Item = String>| {
        all.map(|one| format!("\"{one}\"")).collect::<Vec<String>>().join(", ")
    };
    let gateways = quoted(&mut site.gateway().ip.each().iter().map(ToString::to_string));
    let vips = site.vip(1).each().map(|ip| SocketAddr::new(ip, PORT));
    let vips = quoted(&mut vips.iter().map(ToString::to_string));
    let backends = quoted(&mut backends.iter().map(ToString::to_string));
    let mut text = format!(
        "site = \"{name}\"\n[control]\nlisten = \"{here}:{CONTROL_PORT}\"\n\
         [identity]\ncertificate = \"p1/certificate.pem\"\nkey = \"p1/key.pem\"\n\
         authority = \"p1/ca.pem\"\n[state]\nfolder = \"/var/lib/causeway/proxy\"\n\
         [[network]]\nname = \"{NETWORK}\"\nleg = \"leg\"\ngateway = [{gateways}]\n\
         [tunnel]\nlisten = \"{here}:{TUNNEL_PORT}\"\nentrances = \"/run/causeway-entrances\"\n"
    );
    for other in world.sites().iter().filter(|other| other.name() != name) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "[[tunnel.peer]]\nidentity = \"{}\"", identity(other.name()));
        if other.name() < name {
            let _ = writeln!(text, "dial = \"{}:{TUNNEL_PORT}\"", other.proxy_address().v4);
        }
    }
    for protocol in ["tcp", "udp"] {
        let _ = writeln!(
            text,
            "[[service]]\nname = \"web-{protocol}\"\nprotocol = \"{protocol}\"\n\
             listen = [{vips}]\n[[service.backend]]\nname = \"b1\"\nvm = \"web\"\n\
             address = [{backends}]"
        );
    }
    text
}

fn put(site: &Site, path: &str, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new(path);
    site.place().write_file(path, bytes).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(site.place().path(path), mode).unwrap();
}
