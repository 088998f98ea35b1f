//! A proxy at a site of the lab: clients reach its VIPs over the site's router, and its backends
//! are on the application subnet, behind its leg.
//!
//! Tests of one program share a world; each has VIPs, a folder and a proxy of its own. The world ends
//! with the last test that uses it.

mod peers;
mod proxy;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use lab::host::Host;
use lab::sandbox::Launch;
use lab::world::{World, WorldPlan};
use tokio::runtime::{Builder, Runtime};

pub use peers::{CheckedClients, Guest};
pub use proxy::Proxy;

use crate::house::{CONFIG, House};
use crate::running::SOON;

/// VIPs of the shared world, two for each test that may run in it.
const VIPS: u8 = 200;
/// From one look at something that is awaited to the next.
const LOOK_MS: u64 = 10;

struct Stage {
    world: World,
    /// One at a time: papers are made when they are first asked for.
    house: Mutex<House>,
    vips_used: AtomicU8,
}

impl Stage {
    fn shared() -> Arc<Stage> {
        static SHARED: Mutex<Weak<Stage>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = shared.upgrade() {
            return stage;
        }
        let plan = WorldPlan { vips: VIPS, ..WorldPlan::with_sites(&["a"]) };
        let world = World::build(&plan).expect("a world of one site");
        let stage =
            Arc::new(Stage { world, house: Mutex::new(House::new()), vips_used: AtomicU8::new(0) });
        *shared = Arc::downgrade(&stage);
        stage
    }

    fn house(&self) -> MutexGuard<'_, House> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One test's part of the site.
pub struct Site {
    stage: Arc<Stage>,
    /// Numbers VIPs and folder.
    number: u8,
    runtime: Runtime,
}

impl Site {
    /// A part of the site that nobody else uses.
    ///
    /// # Panics
    /// The lab does not stand, or all VIPs are used.
    #[must_use]
    pub fn new() -> Site {
        let stage = Stage::shared();
        let number = 1 + 2 * stage.vips_used.fetch_add(1, Ordering::Relaxed);
        assert!(number < VIPS, "more tests than VIPs");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let site = Site { stage, number, runtime };
        for file in ["certificate.pem", "key.pem", "ca.pem"] {
            let bytes = fs::read(site.stage.house().path("p1").join(file)).expect("a bundle");
            site.write(&format!("p1/{file}"), &bytes);
        }
        site
    }

    /// Its two VIPs at this port: IPv4 and IPv6 of one number, so that all tests may use the same
    /// ports.
    #[must_use]
    pub fn vips(&self, port: u16) -> [SocketAddr; 2] {
        self.site().vip(self.number).each().map(|ip| SocketAddr::new(ip, port))
    }

    /// A second pair of VIPs.
    #[must_use]
    pub fn other_vips(&self, port: u16) -> [SocketAddr; 2] {
        self.site().vip(self.number + 1).each().map(|ip| SocketAddr::new(ip, port))
    }

    /// The machine of the clients.
    #[must_use]
    pub fn client(&self) -> Host {
        self.stage.world.client(1)
    }

    /// The machine of the proxy.
    #[must_use]
    pub fn proxy_host(&self) -> Host {
        self.site().proxy()
    }

    /// The machine of the backends.
    #[must_use]
    pub fn backend_host(&self) -> Host {
        self.site().neighbour(1)
    }

    /// The addresses of that machine.
    #[must_use]
    pub fn backend_ips(&self) -> [IpAddr; 2] {
        self.site().neighbour_station(1).ip.each()
    }

    /// The proxy's addresses on the application subnet.
    #[must_use]
    pub fn leg(&self) -> [IpAddr; 2] {
        self.site().leg().ip.each()
    }

    /// A backend that the test itself plays: a listener of the given family (0: IPv4).
    ///
    /// # Panics
    /// The system refuses.
    #[must_use]
    pub fn listener(&self, family: usize) -> TcpListener {
        let ip = self.backend_ips()[family];
        self.backend_host().inside(|| TcpListener::bind((ip, 0))).expect("a host").expect("a port")
    }

    /// A client that the test itself plays.
    ///
    /// # Panics
    /// Nobody takes the connection.
    #[must_use]
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        self.try_connect(to).expect("the VIP takes connections")
    }

    /// Whether the VIP refuses a client with a RST, once it is connected or just before.
    ///
    /// # Panics
    /// It does something else.
    #[must_use]
    pub fn is_reset(&self, vip: SocketAddr) -> bool {
        let heard = self.try_connect(vip).and_then(|mut client| client.read(&mut [0]));
        heard.expect_err("nothing is said").kind() == ErrorKind::ConnectionReset
    }

    /// As [`Site::connect`].
    ///
    /// # Errors
    /// Nobody takes the connection.
    ///
    /// # Panics
    /// The lab has ended.
    pub fn try_connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let connect = || TcpStream::connect_timeout(&to, SOON);
        let stream = self.client().inside(connect).expect("a host")?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Writes the proxy's configuration: `services` follow what every configuration has.
    pub fn configure(&self, services: &str) {
        self.write("proxy.toml", format!("{CONFIG}\n{services}").as_bytes());
    }

    /// Starts the proxy and waits until it is ready.
    ///
    /// # Panics
    /// It does not become so.
    #[must_use]
    pub fn start(&self) -> Proxy<'_> {
        let launch = Launch::ours("causeway-proxy").expect("the proxy is built");
        let config = self.folder().join("proxy.toml").display().to_string();
        let launch = launch.args(["run", "--log-format", "json", "--config", &config]);
        let launch = launch.log(format!("proxy-{}", self.number));
        let log = launch.log_path();
        let process = self.proxy_host().spawn(&launch).expect("the proxy starts");
        let mut proxy = Proxy { site: self, process, log, control: ([127, 0, 0, 1], 0).into() };
        let ready = proxy.event("ready");
        let address = ready["address"].as_str().expect("an address");
        proxy.control = address.parse().expect("an address with a port");
        proxy
    }

    /// Starts a checked server on the backends' machine.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn guest(&self) -> Guest {
        let launch = Launch::ours("causeway-guest").expect("the guest is built");
        let launch = launch.args(["serve", "--port=0", "--control=0"]).with_stdout();
        let host = self.backend_host();
        let mut process = host.spawn(&launch).expect("the guest starts");
        let mut ready = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        stdout.read_line(&mut ready).expect("the guest says that it is ready");
        let number = |name: &str| {
            let word = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.and_then(|word| word.parse::<u16>().ok()).expect("a port")
        };
        let (port, control) = (number("port="), number("control="));
        let addresses = self.backend_ips().map(|ip| SocketAddr::new(ip, port));
        Guest { host, addresses, control, process, _stdout: stdout }
    }

    /// Starts the checked clients on the clients' machine.
    ///
    /// # Panics
    /// They do not start.
    #[must_use]
    pub fn clients(&self) -> CheckedClients {
        let (process, clients) = lab::clients::start(&self.client()).expect("the clients start");
        CheckedClients { clients, _process: process }
    }

    fn site(&self) -> &lab::world::Site {
        self.stage.world.site("a")
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/etc/causeway/{}", self.number))
    }

    fn write(&self, relative: &str, bytes: &[u8]) {
        let path = self.folder().join(relative);
        let place = self.site().place();
        place.write_file(&path, bytes).expect("a file in the place");
        fs::set_permissions(place.path(&path), Permissions::from_mode(0o600)).expect("its mode");
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

/// `[[service]]` of the configuration: `extra` are lines of its own, `backends` their addresses,
/// named b0, b1 and so on.
#[must_use]
pub fn service(
    name: &str,
    protocol: &str,
    vips: &[SocketAddr],
    extra: &str,
    backends: &[&[SocketAddr]],
) -> String {
    let list = |addresses: &[SocketAddr]| {
        let quoted: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut text = format!(
        "[[service]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nlisten = {}\n{extra}\n",
        list(vips)
    );
    for (index, addresses) in backends.iter().enumerate() {
        let address = list(addresses);
        // Writing to a string does not fail.
        let _ = writeln!(text, "[[service.backend]]\nname = \"b{index}\"\naddress = {address}");
    }
    text
}

/// Asks again until the answer is right.
///
/// # Panics
/// It does not become so.
pub fn eventually<T>(mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + SOON;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(now) => assert!(Instant::now() < until, "still not right: {now}"),
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}
