//! Two real proxies and the tunnel between them: what a move may use of it, and nobody else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use placement::{Authority, Epoch, Identity, Owner, PartName, Role, VmName};
use proxy_api::{CallError, ChannelGranted, Claim, GrantChannel};
use scenarios::house::{CONFIG, House};
use scenarios::running::{Running, SOON, bound_to_the_test, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// More than all buffers on the way together.
const BYTES: usize = 24 << 20;

/// Proxies p1 of site a, which dials, and p2 of site b, in one house.
struct Pair {
    house: House,
    port: u16,
}

impl Pair {
    fn new() -> Pair {
        let house = House::new();
        house.issue_at("b", "p2", Role::Proxy, "p2", 30);
        // Free a moment ago, and nobody else here asks for a port by its number.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let pair = Pair { house, port };
        pair.configure_a();
        pair.configure_b("");
        pair
    }

    fn configure_a(&self) {
        let tunnel = format!(
            "[tunnel]\nentrances = \"entrances-a\"\n\n[[tunnel.peer]]\nidentity = \"{}\"\n\
             dial = \"127.0.0.1:{}\"\n",
            b(),
            self.port
        );
        self.house.configure(&format!("{CONFIG}\n{tunnel}"));
    }

    fn configure_b(&self, permits: &str) {
        let tunnel = format!(
            "[tunnel]\nlisten = \"127.0.0.1:{}\"\nentrances = \"entrances-b\"\n\n\
             [[tunnel.peer]]\nidentity = \"{}\"\n\n{permits}",
            self.port,
            self.house.proxy()
        );
        let config = CONFIG.replace("site = \"a\"", "site = \"b\"").replace("p1/", "p2/");
        let config = config.replace("folder = \"state\"", "folder = \"state-b\"");
        self.house.configure_as("b.toml", &format!("{config}\n{tunnel}"));
    }

    async fn a(&self) -> Running<'_> {
        Running::start(&self.house).await
    }

    async fn b(&self) -> Running<'_> {
        Running::start_another(&self.house, "b.toml", b(), bound_to_the_test(program())).await
    }

    /// A program at b that waits for a channel, in a folder that is closed to others.
    fn exit(&self) -> (UnixListener, String) {
        use std::os::unix::fs::DirBuilderExt;
        let folder = self.house.path("exits");
        std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let path = folder.join("web.2.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let target = format!("unix:{}/{{vm}}.{{epoch}}.sock", folder.display());
        (listener, format!("[[tunnel.permit]]\nchannel = \"mirror\"\ntarget = \"{target}\"\n"))
    }
}

fn b() -> Identity {
    "causeway://site/b/role/proxy/name/p2".parse().unwrap()
}

fn vm() -> VmName {
    "web".parse().unwrap()
}

fn pair() -> placement::Pair {
    let end = |site: &str, proxy: &str| placement::End {
        site: site.parse().unwrap(),
        agent: "hv1".parse().unwrap(),
        address: "127.0.0.1:7401".parse().unwrap(),
        proxy: proxy.parse().unwrap(),
    };
    placement::Pair { from: end("a", "p1"), to: end("b", "p2") }
}

fn mirror() -> PartName {
    "mirror".parse().unwrap()
}

fn authority(epoch: u64, incarnation: u64) -> Authority {
    let owner = Owner { name: "serve".parse().unwrap(), incarnation };
    Authority { epoch: Epoch::new(epoch), owner }
}

fn a_to_b(authority: Authority) -> GrantChannel {
    GrantChannel { authority, from: "a".parse().unwrap(), to: "b".parse().unwrap(), compress: true }
}

async fn claim(proxy: &Running<'_>, role: Role, authority: Authority) -> Result<(), CallError> {
    let claim = Claim { authority, pair: pair() };
    proxy.asked(role, async |c| c.claim(&vm(), &claim).await).await.map(drop)
}

async fn grant(
    proxy: &Running<'_>,
    role: Role,
    authority: Authority,
) -> Result<ChannelGranted, CallError> {
    let asked = a_to_b(authority);
    proxy.asked(role, async |c| c.grant_channel(&vm(), &mirror(), &asked).await).await
}

/// Claims at both ends, grants at both, and gives the entrance.
async fn channel(a: &Running<'_>, b: &Running<'_>) -> PathBuf {
    for proxy in [a, b] {
        claim(proxy, Role::Orchestrator, authority(2, 1)).await.unwrap();
    }
    assert_eq!(grant(b, Role::Orchestrator, authority(2, 1)).await.unwrap().entrance, None);
    let granted = grant(a, Role::Orchestrator, authority(2, 1)).await.unwrap();
    granted.entrance.expect("connections enter at a")
}

/// The code with which a call was refused.
fn code<T: std::fmt::Debug>(refused: Result<T, CallError>) -> (u16, String) {
    match refused {
        Err(CallError::Refused { status, refusal }) => (status, refusal.code),
        other => panic!("{other:?}"),
    }
}

/// Whether a connection to the entrance is ended without a byte.
async fn leads_nowhere(entrance: &Path) -> bool {
    let mut stream = UnixStream::connect(entrance).await.unwrap();
    let mut heard = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut heard)).await.expect("it is ended");
    // A reset is an end as well.
    drop(ended);
    heard.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_channel_carries_bytes_between_two_proxies_and_ends_with_its_grant() {
    let pair = Pair::new();
    let (exit, permits) = pair.exit();
    pair.configure_b(&permits);
    let (proxy_b, proxy_a) = (pair.b().await, pair.a().await);
    let entrance = channel(&proxy_a, &proxy_b).await;

    let mut near = timeout(SOON, UnixStream::connect(&entrance)).await.unwrap().unwrap();
    let sent: Vec<u8> = (0..BYTES).map(|at| (at / 7 % 251) as u8).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        (near, answer)
    });
    let (mut far, _) = timeout(SOON, exit.accept()).await.unwrap().unwrap();
    let mut received = Vec::new();
    timeout(SOON, far.read_to_end(&mut received)).await.unwrap().unwrap();
    assert!(received == expected, "{} of {BYTES} bytes, or others", received.len());
    far.write_all(b"all of it").await.unwrap();
    drop(far);
    let (_near, answer) = timeout(SOON, sending).await.unwrap().unwrap();
    assert_eq!(answer, b"all of it");

    let told = proxy_a.asked(Role::Viewer, async |c| c.tunnel().await).await.unwrap();
    assert_eq!(told.peers.len(), 1);
    assert!(told.peers[0].is_connected && told.peers[0].identity == b());
    assert_eq!(told.peers[0].channels[0].vm, vm());

    let mut open = UnixStream::connect(&entrance).await.unwrap();
    let (_far, _) = timeout(SOON, exit.accept()).await.unwrap().unwrap();
    let asked = a_to_b(authority(2, 1));
    let revoke = async |c: &mut proxy_api::Client| c.revoke_channel(&vm(), &mirror(), &asked).await;
    let revoked = proxy_a.asked(Role::Orchestrator, revoke).await.unwrap();
    assert!(revoked.was_granted);
    let mut heard = Vec::new();
    // It ends, with a reset or without one.
    let _ = timeout(SOON, open.read_to_end(&mut heard)).await.expect("it is ended");
    assert!(UnixStream::connect(&entrance).await.is_err(), "the entrance is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_b_does_not_permit_leads_nowhere_until_a_reload_permits_it() {
    let pair = Pair::new();
    let (exit, permits) = pair.exit();
    let (proxy_b, proxy_a) = (pair.b().await, pair.a().await);
    let entrance = channel(&proxy_a, &proxy_b).await;
    assert!(leads_nowhere(&entrance).await);

    pair.configure_b(&permits);
    proxy_b.reload(Role::Operator).await.unwrap();
    let _near = UnixStream::connect(&entrance).await.unwrap();
    timeout(SOON, exit.accept()).await.expect("it is dialled now").unwrap();

    pair.configure_b("[[tunnel.peer]]\nidentity = \"causeway://site/c/role/proxy/name/p3\"\n");
    let refused = code(proxy_b.reload(Role::Operator).await);
    assert_eq!(refused, (409, "needs_restart".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_outlives_the_proxy_and_keeps_old_moves_strangers_and_lesser_roles_out() {
    let pair = Pair::new();
    let mut proxy = pair.a().await;
    let unclaimed = code(grant(&proxy, Role::Orchestrator, authority(2, 1)).await);
    assert_eq!(unclaimed, (409, "stale_epoch".to_owned()));
    claim(&proxy, Role::Orchestrator, authority(2, 1)).await.unwrap();
    proxy.signal(rustix::process::Signal::KILL);
    proxy.ended().await;

    let proxy = pair.a().await;
    for (epoch, incarnation) in [(1, 1), (2, 9)] {
        let claimed = claim(&proxy, Role::Orchestrator, authority(epoch, incarnation)).await;
        assert_eq!(code(claimed), (409, "stale_epoch".to_owned()));
        let granted = grant(&proxy, Role::Orchestrator, authority(epoch, incarnation)).await;
        assert_eq!(code(granted), (409, "stale_epoch".to_owned()));
    }
    for role in [Role::Viewer, Role::Operator, Role::Agent, Role::Proxy, Role::Gslb] {
        let claimed = claim(&proxy, role, authority(3, 1)).await;
        assert_eq!(code(claimed), (403, "wrong_role".to_owned()), "{role}");
        let granted = grant(&proxy, role, authority(2, 1)).await;
        assert_eq!(code(granted), (403, "wrong_role".to_owned()), "{role}");
    }
    grant(&proxy, Role::Orchestrator, authority(2, 1)).await.unwrap();
}

#[test]
fn mistakes_in_the_tunnels_section_are_named_with_their_lines() {
    let house = House::new();
    let tunnel = "[tunnel]\nentrances = \"e\"\n[[tunnel.peer]]\nidentity = \
                  \"causeway://site/b/role/agent/name/hv1\"\n[[tunnel.peer]]\nidentity = \
                  \"causeway://site/b/role/proxy/name/p2\"\n[[tunnel.permit]]\nchannel = \
                  \"mirror\"\ntarget = \"tcp:192.0.2.1:22\"\n";
    house.configure(&format!("{CONFIG}{tunnel}"));
    let checked = house.causeway_proxy(&["check", "--config", "proxy.toml"]);
    assert_eq!(checked.code(), Some(2));
    let said = checked.stderr();
    for line in [
        "proxy.toml:19:12: 'tunnel.peer.0.identity': is no proxy",
        "proxy.toml:21:12: 'tunnel.peer.1.identity': neither is dialled nor can dial us",
        "proxy.toml:24:10: 'tunnel.permit.0.target': '192.0.2.1:22' leaves this host",
    ] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
}
