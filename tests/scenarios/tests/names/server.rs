//! A name server in a house, and questions to it.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;

use gslb_api::{CallError, Client, Refusal, Restore, Shorten, Status, Steer, Taken};
use placement::{Authority, Epoch, Identity, Owner, Role, VmName};
use scenarios::house::House;
use scenarios::running::{Running, SOON, bound_to_the_test};
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) const FILE: &str = "gslb.toml";

const CONFIG: &str = r#"site = "a"
name = "ns1"
[control]
listen = "127.0.0.1:0"
[identity]
certificate = "ns1/certificate.pem"
key = "ns1/key.pem"
authority = "ns1/ca.pem"
[state]
folder = "gslb-state"
[dns]
listen = ["127.0.0.1:0", "[::1]:0"]
[[zone]]
name = "example.net"
ns = ["ns1.example.net"]
contact = "hostmaster@example.net"
[[zone.record]]
name = "ns1.example.net"
type = "A"
data = ["192.0.2.10"]
[[zone.record]]
name = "www.example.net"
type = "CNAME"
data = ["shop.example.net"]
[[steered]]
name = "shop.example.net"
vms = ["web-1"]
initial_site = "a"
ttl_s = 300
ttl_moving_s = 5
[[steered.at]]
site = "a"
address = ["192.0.2.80", "2001:db8:a::80"]
[[steered.at]]
site = "b"
address = ["198.51.100.80", "2001:db8:b::80"]
[[zone]]
name = "long.example"
ns = ["ns1.example.net"]
contact = "hostmaster@example.net"
[[zone.record]]
name = "text.long.example"
type = "TXT"
"#;

/// The addresses of the steered name at its two sites.
pub(crate) const AT_A: &str = "192.0.2.80";
pub(crate) const AT_B: &str = "198.51.100.80";

/// The configuration, and a text in it that fits into no datagram.
pub(crate) fn config() -> String {
    let texts: Vec<String> = (0..8).map(|n| format!("\"{n}{}\"", "x".repeat(240))).collect();
    format!("{CONFIG}data = [{}]\n", texts.join(", "))
}

/// The program that is run.
pub(crate) fn program() -> PathBuf {
    lab::programs::path("causeway-gslb").unwrap()
}

/// A house with the papers and the configuration of a name server.
pub(crate) fn house() -> House {
    let house = House::new();
    house.issue("ns1", Role::Gslb, "ns1", 30);
    house.configure_as(FILE, &config());
    house
}

/// The name server of the house; killed with the value.
pub(crate) struct NameServer<'h> {
    pub(crate) running: Running<'h>,
    /// Where it answers: IPv4 and IPv6.
    pub(crate) dns: Vec<SocketAddr>,
}

impl<'h> NameServer<'h> {
    pub(crate) async fn start(house: &'h House) -> NameServer<'h> {
        NameServer::start_as(house, bound_to_the_test(program())).await
    }

    /// By a command that ends in the program.
    pub(crate) async fn start_as(house: &'h House, command: Command) -> NameServer<'h> {
        let identity: Identity = "causeway://site/a/role/gslb/name/ns1".parse().unwrap();
        let running = Running::start_another(house, FILE, identity, command).await;
        let mut server = NameServer { running, dns: Vec::new() };
        server.dns = server.status().await.listen;
        server
    }

    pub(crate) async fn asked<T>(
        &self,
        role: Role,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let (mut client, connection) = Client::over(self.running.connected(role).await).await?;
        let either = async {
            tokio::select! {
                answer = call(&mut client) => answer,
                Err(error) = connection => Err(error),
            }
        };
        timeout(SOON, either).await.expect("the name server answers")
    }

    pub(crate) async fn status(&self) -> Status {
        self.asked(Role::Viewer, async |client| client.status().await).await.unwrap()
    }

    pub(crate) async fn shorten(&self, epoch: u64) -> Result<Taken, CallError> {
        let order = Shorten { authority: authority(epoch, 1) };
        self.asked(Role::Orchestrator, async |client| client.shorten(&vm(), &order).await).await
    }

    pub(crate) async fn steer(&self, epoch: u64, to: &str) -> Result<Taken, CallError> {
        self.steer_as(Role::Orchestrator, authority(epoch, 1), to).await
    }

    pub(crate) async fn steer_as(
        &self,
        role: Role,
        authority: Authority,
        to: &str,
    ) -> Result<Taken, CallError> {
        let order = Steer { authority, to: to.parse().unwrap() };
        self.asked(role, async |client| client.steer(&vm(), &order).await).await
    }

    pub(crate) async fn restore(&self, epoch: u64) -> Result<Taken, CallError> {
        let order = Restore { authority: authority(epoch, 1) };
        self.asked(Role::Orchestrator, async |client| client.restore(&vm(), &order).await).await
    }

    /// What `dig` is told at the first address.
    pub(crate) async fn dig(&self, arguments: &[&str]) -> String {
        dig(self.dns[0], arguments).await
    }
}

pub(crate) fn vm() -> VmName {
    "web-1".parse().unwrap()
}

pub(crate) fn authority(epoch: u64, incarnation: u64) -> Authority {
    let owner = Owner { name: "serve".parse().unwrap(), incarnation };
    Authority { epoch: Epoch::new(epoch), owner }
}

/// What the server's refusal says; panics where it did not refuse with this status.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, CallError>, wanted: u16) -> Refusal {
    match answer {
        Err(CallError::Refused { status, refusal }) if status == wanted => refusal,
        other => panic!("not refused with {wanted}: {other:?}"),
    }
}

/// What `dig` prints.
pub(crate) async fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let mut command = Command::new("dig");
    command.args(["-r", &at, "-p", &port, "+time=5", "+tries=3"]).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(SOON, command.output()).await.expect("dig ends").unwrap();
    assert!(output.status.success(), "dig {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A question for the steered name's A records, byte by byte.
pub(crate) fn question() -> Vec<u8> {
    let header = [0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name = b"\x04shop\x07example\x03net\x00";
    [&header[..], name, &[0, 1, 0, 1]].concat()
}

/// The address at the end of an answer to [`question`].
pub(crate) fn address_in(answer: &[u8]) -> String {
    let [.., a, b, c, d] = answer else { panic!("{answer:?}") };
    format!("{a}.{b}.{c}.{d}")
}

/// A socket for questions to `server`.
pub(crate) fn asker(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}
