//! A VM comes home: once every place that it left has been given back, the one where it runs needs
//! nothing any more of what kept its connections alive while it was on its way.
//!
//! ```text
//! no proxy sends anything on to it -> its proxy lets go, and looks who is where -> the port is its own
//! ```
//!
//! What it sends went through its proxy until now, so that what it believes of others may be of the
//! place that it came from. So it is told of those who are here before it speaks to them itself. Each
//! call finds done what was done before: whoever died over it, or was refused half way, asks again.

use std::net::IpAddr;
use std::time::Duration;

use hypervisor::{CallTrouble, Code, Hypervisor};
use orchestrator_api::Place;
use orchestrator_api::agent::{ANNOUNCED_MAX, Announced, PortCommand, PortRequest, WatchView};
use placement::{End, Epoch, PartName, Release, SiteName, VmName};
use proxy_api::{AtHome, Home, Neighbour, VM_PEERS_MAX, WayKind};
use tokio::time::{Instant, sleep};

use super::parties::{Parties, ProxyPort};

/// What a proxy says for whose VM something still comes through the tunnel.
const STILL_COMES: &str = "still_comes";
/// How long it may: what was under way when the last place let go has come by then.
const STILL_COMES_MAX: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// A VM where it is to be at home.
#[derive(Debug, Clone, Copy)]
pub struct Homecoming<'a> {
    /// Which.
    pub vm: &'a VmName,
    /// Where it runs, by its last move.
    pub home: &'a End,
    /// The word by which it came.
    pub release: &'a Release,
    /// Under which epoch that move told proxies last.
    pub epoch: Epoch,
    /// What still comes for it is broken off, and proxies that cannot be asked are no reason to wait.
    pub force: bool,
}

/// Why it is not at home yet.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A proxy still has flows of it, or may have.
    #[error(
        "proxy {proxy} of site {site} still takes part in the way of VM {vm}; give that place back first"
    )]
    Elsewhere {
        /// Which VM.
        vm: VmName,
        /// The proxy's site.
        site: SiteName,
        /// Its name.
        proxy: PartName,
    },
    /// Somebody elsewhere talks to it.
    #[error("packets for VM {vm} still come through the tunnel to {home}")]
    StillComes {
        /// Which VM.
        vm: VmName,
        /// Where it runs.
        home: Place,
        /// In its proxy's words.
        #[source]
        source: CallTrouble,
    },
    /// Whoever is to be asked is not configured.
    #[error("agent and proxy of {0} are not both known to this service; add them to [[sites]]")]
    Unknown(Place),
    /// Somebody was not reached, or said no.
    #[error(transparent)]
    Call(#[from] CallTrouble),
}

/// Brings it home; gives how many machines it was told of.
///
/// # Errors
/// See [`HomeError`].
pub async fn come_home<P: Parties>(
    parties: &P,
    coming: Homecoming<'_>,
) -> Result<usize, HomeError> {
    let Homecoming { vm, home, release, .. } = coming;
    let unknown = || HomeError::Unknown(Place::from(home));
    let (agent, proxy) = (parties.agent(home), parties.proxy(home));
    let (agent, proxy) = (agent.ok_or_else(unknown)?, proxy.ok_or_else(unknown)?);
    nobody_sends_on(parties, coming).await?;
    let peers = peers(&agent.watched(vm).await?);
    let at_home = let_go(proxy, coming, peers).await?;
    let announced = announced(&at_home.neighbours);
    let told = announced.len();
    for command in [PortCommand::ComeHome, PortCommand::LiftTakeOver { announced }] {
        agent.change_port(vm, &PortRequest { release: release.clone(), command }).await?;
    }
    Ok(told)
}

/// No other proxy has anything that stands for the VM.
async fn nobody_sends_on<P: Parties>(parties: &P, coming: Homecoming<'_>) -> Result<(), HomeError> {
    let Homecoming { vm, home, force, .. } = coming;
    for ((site, name), proxy) in parties.proxies() {
        if *site == home.site && *name == home.proxy {
            continue;
        }
        let way = match proxy.vm(vm).await {
            Err(trouble) if trouble.code() == Some(Code::UnknownVm) || force => {
                tracing::debug!(%site, proxy = %name, %trouble, "a proxy knows nothing of a vm");
                None
            }
            known => known?.way,
        };
        // What one has that hosted it earlier leads nothing to it.
        if way.is_some_and(|way| way.kind != WayKind::Hosting) {
            let (vm, site, proxy) = (vm.clone(), site.clone(), name.clone());
            return Err(HomeError::Elsewhere { vm, site, proxy });
        }
    }
    Ok(())
}

async fn let_go<X: ProxyPort>(
    proxy: &X,
    coming: Homecoming<'_>,
    peers: Vec<IpAddr>,
) -> Result<AtHome, HomeError> {
    let Homecoming { vm, home, epoch, force, .. } = coming;
    let wish = Home { epoch, peers, force };
    let until = Instant::now() + STILL_COMES_MAX;
    loop {
        match proxy.home(vm, &wish).await {
            Err(source) if source.is_refusal_as(STILL_COMES) => {
                if Instant::now() + AGAIN >= until {
                    let (vm, home) = (vm.clone(), Place::from(home));
                    return Err(HomeError::StillComes { vm, home, source });
                }
                sleep(AGAIN).await;
            }
            at_home => return Ok(at_home?),
        }
    }
}

/// Whom its port has seen it speak with, as many as can be named.
fn peers(watched: &WatchView) -> Vec<IpAddr> {
    watched.peers.iter().map(|peer| peer.address).take(VM_PEERS_MAX).collect()
}

/// What the VM is told of them. One whose MAC is no machine's is not spoken of.
fn announced(neighbours: &[Neighbour]) -> Vec<Announced> {
    let told = |neighbour: &Neighbour| {
        let mac = neighbour.mac?.to_string().parse().ok()?;
        let (address, is_router) = (neighbour.address, neighbour.is_gateway);
        Some(Announced { address, mac, is_router })
    };
    neighbours.iter().filter_map(told).take(ANNOUNCED_MAX).collect()
}
