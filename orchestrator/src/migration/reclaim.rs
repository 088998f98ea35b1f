//! What a move left where the VM was, given back once nobody needs it: no step of the move, but what
//! its history owes, by an operator's word.
//!
//! ```text
//! the VM is well where it runs -> the proxies of the old site let go -> the agent there lets go
//! ```
//!
//! The proxies come first: they know of flows, and refuse while any lives. Each call finds done what
//! was done before, so that whoever died over it, or was refused half way, asks again.

use std::net::SocketAddr;

use hypervisor::{CallTrouble, Code, Hypervisor};
use orchestrator_api::{HealthTold, OrderKey, OrderRequest, Place, ProcessDoes};
use placement::{Answer, Command, End, Epoch, Owner, PartName, Release, SiteName, VmName};
use proxy_api::{FlowId, Vm, WayKind};

use super::parties::{Parties, ProxyPort};
use super::steps::health_of;

/// What a proxy says whose flows live.
const FLOWS_LIVE: &str = "flows_live";

/// What a move left.
#[derive(Debug, Clone, Copy)]
pub struct Leftover<'a> {
    /// Of which VM.
    pub vm: &'a VmName,
    /// Where it was.
    pub from: &'a End,
    /// The word by which it left.
    pub release: &'a Release,
    /// Under which epoch the move told proxies last: a takeover's is higher than its release's.
    pub epoch: Epoch,
    /// Where the VM runs now, by its last move.
    pub home: &'a End,
}

/// How it is given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Flows that live are broken off, and an application that is not well is no reason to wait.
    pub force: bool,
    /// The disk that was set aside stays.
    pub keep_disk: bool,
}

/// A flow that was broken off for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenOff {
    /// At the proxy of this site.
    pub site: SiteName,
    /// Its name.
    pub proxy: PartName,
    /// Which flow.
    pub flow: FlowId,
}

/// Why it is not given back, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// The VM is not well where it is to be.
    #[error(
        "VM {vm} does not run for good at {home}, so that nothing is taken from {from}; see `causeway vm list`, and mend it first"
    )]
    Unwell {
        /// Which.
        vm: VmName,
        /// Where it is to run.
        home: Place,
        /// What stays as it is.
        from: Place,
    },
    /// Its application is not.
    #[error(
        "VM {vm} takes no connections at {} of site {site}, by its proxy's checks; mend it, or force it",
        named(.addresses)
    )]
    Unhealthy {
        /// Which VM.
        vm: VmName,
        /// Where it runs.
        site: SiteName,
        /// At which of its addresses.
        addresses: Vec<SocketAddr>,
    },
    /// Whoever is to be asked is not configured.
    #[error("agent {0} is not known to this service; add it to [[sites]]")]
    UnknownAgent(Place),
    /// Likewise.
    #[error("proxy {proxy} of site {site} is not known to this service; add it to [[sites]]")]
    UnknownProxy {
        /// Its site.
        site: SiteName,
        /// Its name.
        proxy: PartName,
    },
    /// Flows live.
    #[error("flows of VM {vm} still live at site {site}")]
    FlowsLive {
        /// Of which VM.
        vm: VmName,
        /// Where.
        site: SiteName,
        /// In the proxy's words.
        #[source]
        source: CallTrouble,
    },
    /// A move has begun there.
    #[error(
        "VM {vm} is being moved from or to site {site}, as proxy {proxy} there says; wait for its end"
    )]
    UnderWay {
        /// Which VM.
        vm: VmName,
        /// At which site.
        site: SiteName,
        /// Who says so.
        proxy: PartName,
    },
    /// Somebody was not reached, or said no.
    #[error(transparent)]
    Call(#[from] CallTrouble),
    /// The agent answered something else.
    #[error("agent {0} answered something else than was asked; are both of one version?")]
    Odd(Place),
}

/// Gives it back, or says why not; flows that were broken off by then are told in either case.
///
/// # Errors
/// See [`ReclaimError`].
pub async fn reclaim<P: Parties>(
    parties: &P,
    owner: &Owner,
    left: Leftover<'_>,
    manner: Manner,
    broken_off: &mut Vec<BrokenOff>,
) -> Result<(), ReclaimError> {
    runs(parties, left).await?;
    if !manner.force {
        is_healthy(parties, left).await?;
    }
    for ((site, name), proxy) in parties.proxies() {
        if *site == left.from.site {
            let flows = let_go(proxy, (site, name), left, manner).await?;
            let of_this = |flow| BrokenOff { site: site.clone(), proxy: name.clone(), flow };
            broken_off.extend(flows.into_iter().map(of_this));
        }
    }
    clear(parties, owner, left, manner).await
}

/// Nothing is taken from where the VM was before it runs for good elsewhere.
async fn runs<P: Parties>(parties: &P, left: Leftover<'_>) -> Result<(), ReclaimError> {
    let home = Place::from(left.home);
    let agent = parties.agent(left.home).ok_or_else(|| ReclaimError::UnknownAgent(home.clone()))?;
    let view = agent.vm(left.vm).await?;
    let runs = view.is_some_and(|view| {
        let mut processes = view.processes.iter();
        view.record.seat.is_here() && processes.any(|process| process.does == ProcessDoes::Runs)
    });
    if runs {
        return Ok(());
    }
    Err(ReclaimError::Unwell { vm: left.vm.clone(), home, from: Place::from(left.from) })
}

async fn is_healthy<P: Parties>(parties: &P, left: Leftover<'_>) -> Result<(), ReclaimError> {
    let End { site, proxy: name, .. } = left.home;
    let unknown = || ReclaimError::UnknownProxy { site: site.clone(), proxy: name.clone() };
    let proxy = parties.proxy(left.home).ok_or_else(unknown)?;
    match health_of(left.vm, &proxy.services().await?) {
        HealthTold::Unhealthy { addresses } => {
            let (vm, site) = (left.vm.clone(), site.clone());
            Err(ReclaimError::Unhealthy { vm, site, addresses })
        }
        _ => Ok(()),
    }
}

fn named(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One proxy of the old site. Where the VM is back, or went once more since, what stands is of a later
/// move, and stays.
async fn let_go<X: ProxyPort>(
    proxy: &X,
    (site, name): (&SiteName, &PartName),
    left: Leftover<'_>,
    manner: Manner,
) -> Result<Vec<FlowId>, ReclaimError> {
    let vm = left.vm;
    let known = match proxy.vm(vm).await {
        Err(trouble) if trouble.code() == Some(Code::UnknownVm) => return Ok(Vec::new()),
        known => known?,
    };
    match stands(&known, left.epoch) {
        Stands::OfLater => return Ok(Vec::new()),
        Stands::UnderWay => {
            let (vm, site, proxy) = (vm.clone(), site.clone(), name.clone());
            return Err(ReclaimError::UnderWay { vm, site, proxy });
        }
        Stands::OfThis => {}
    }
    let wish = proxy_api::Reclaim { release: left.epoch, force: manner.force };
    match proxy.reclaim(vm, &wish).await {
        Ok(reclaimed) => Ok(reclaimed.broken_off),
        Err(source) if source.is_refusal_as(FLOWS_LIVE) => {
            let (vm, site) = (vm.clone(), site.clone());
            Err(ReclaimError::FlowsLive { vm, site, source })
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// What stands for the VM at a proxy that it has left.
enum Stands {
    /// Of this move, or nothing.
    OfThis,
    /// Of one that came after it.
    OfLater,
    /// Of one that has not ended.
    UnderWay,
}

fn stands(known: &Vm, epoch: Epoch) -> Stands {
    match &known.way {
        None => Stands::OfThis,
        Some(way) => match way.kind {
            WayKind::Away if way.epoch <= epoch => Stands::OfThis,
            WayKind::Away | WayKind::Hosting => Stands::OfLater,
            WayKind::Leaving | WayKind::Staged | WayKind::Holding => Stands::UnderWay,
        },
    }
}

/// The agent: what led the VM's neighbours away from its port, and the disk.
async fn clear<P: Parties>(
    parties: &P,
    owner: &Owner,
    left: Leftover<'_>,
    manner: Manner,
) -> Result<(), ReclaimError> {
    let (at, release) = (Place::from(left.from), left.release.clone());
    let agent = parties.agent(left.from).ok_or_else(|| ReclaimError::UnknownAgent(at.clone()))?;
    let step = if manner.keep_disk { "reclaim-keep-disk" } else { "reclaim" };
    let key = OrderKey {
        vm: left.vm.clone(),
        epoch: release.epoch,
        owner: Some(owner.clone()),
        step: step.parse().expect("a name"),
        attempt: 1,
    };
    let command = Command::Reclaim { release: release.clone(), keep_disk: manner.keep_disk };
    match agent.order(&OrderRequest { key, command, definition: None }).await? {
        Answer::Reclaimed { release: of } if of == release => Ok(()),
        _ => Err(ReclaimError::Odd(at)),
    }
}
