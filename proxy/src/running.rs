//! What a proxy runs on, and how a reload changes it: whole, or not at all.
//!
//! Configuration and certificates form one snapshot. A reload reads both anew, checks both, and
//! only then swaps; whoever holds the old snapshot finishes with it. What a running proxy cannot
//! change (where it listens, who it is, where its state lies) is refused with the reason.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use daemon::identity::Credentials;
pub use daemon::loaded::LoadError;
use daemon::state::{StateError, StateFolder};
use daemon::telemetry::{Telemetry, TelemetryError};
use metrics::gauge;
use placement::{Authority, Epoch, Identity, VmName};
use proxy_api::{Diverted, FlowId, Redirect, Vm};
use rustls::ServerConfig;
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tunnel::driver::{PacketPlan, PeerPlan, Reach, TunnelEvent};
use tunnel::protocol::packets::OwnSite;

use crate::config::{Config, NetworkConfig};
use crate::epochs::Epochs;
use crate::inter_site::{InterSite, InterSiteError};
use crate::leg::Leg;
use crate::listen::ListenError;
use crate::traffic::Traffic;
use crate::tun::Tun;
use crate::vms::{VmError, Vms};

/// Flows that a refusal names.
const FLOWS_NAMED_MAX: usize = 16;

/// Configuration and certificates, read from disk and checked.
pub type Loaded = daemon::loaded::Loaded<Config>;

/// One generation of [`Loaded`].
#[derive(Debug)]
pub struct Snapshot {
    /// 1 from the start, one more with each reload that was taken.
    pub generation: u64,
    /// What it consists of.
    pub loaded: Loaded,
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new files are no good.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// They are good, and ask for what only a restart can give.
    #[error(
        "{field} cannot change from {running} to {wanted} while the proxy runs: this needs a restart"
    )]
    NeedsRestart {
        /// The configuration's field.
        field: &'static str,
        /// What it was at the start.
        running: String,
        /// What the file says now.
        wanted: String,
    },
    /// They are good, and name an address that is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log level is none.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The proxy is ending.
    #[error("the proxy is ending")]
    Ending,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it remembers cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// This site's end of the tunnel cannot be used.
    #[error(transparent)]
    InterSite(#[from] InterSiteError),
    /// What stood for VMs cannot be made to stand again.
    #[error(transparent)]
    Vms(#[from] VmError),
}

/// Whether a reload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reloads {
    Allowed,
    Over,
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Proxy {
    path: PathBuf,
    snapshot: ArcSwap<Snapshot>,
    tls: Arc<ArcSwap<ServerConfig>>,
    /// For the tunnel, which makes its own of them at each handshake.
    credentials: Arc<ArcSwap<Credentials>>,
    telemetry: Telemetry,
    traffic: Traffic,
    inter_site: Arc<InterSite>,
    vms: Vms,
    /// One reload at a time, from reading to swapping; else an older file could win. None once the
    /// proxy is ending, or a reload would let clients in again.
    reloading: Mutex<Reloads>,
}

impl Proxy {
    /// Takes what was read from `path` as the first generation, starts this site's end of the tunnel,
    /// and makes the kernel what was kept in `state`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        path: PathBuf,
        loaded: Loaded,
        telemetry: Telemetry,
        (traffic, leg, tun): (Traffic, Option<Leg>, Option<Tun>),
        state: StateFolder,
    ) -> Result<Proxy, StartError> {
        telemetry.introduce("causeway-proxy", crate::VERSION);
        let tls = Arc::new(ArcSwap::new(loaded.credentials.server_config()));
        let credentials = Arc::new(ArcSwap::new(Arc::clone(&loaded.credentials)));
        let own = loaded.credentials.identity();
        let config = loaded.config.tunnel.as_ref();
        let epochs = Epochs::load(&state)?;
        let papers = Arc::clone(&credentials);
        let packets = tun.map(|tun| PacketPlan {
            device: Arc::new(tun),
            site: own_site(&loaded.config, leg.as_ref().map(Leg::told).as_slice()),
        });
        let inter_site = InterSite::start(config, own, papers, epochs.clone(), packets).await?;
        let inter_site = Arc::new(inter_site);
        let vms = Vms::start(own, epochs, &inter_site, traffic.held(), leg, state)?;
        let snapshot = Snapshot { generation: 1, loaded };
        tell(&snapshot);
        Ok(Proxy {
            path,
            snapshot: ArcSwap::from_pointee(snapshot),
            tls,
            credentials,
            telemetry,
            traffic,
            inter_site,
            vms,
            reloading: Mutex::new(Reloads::Allowed),
        })
    }

    /// What it runs on now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Its log and metrics.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// What it carries.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The VMs that move, and its leg.
    #[must_use]
    pub fn vms(&self) -> &Vms {
        &self.vms
    }

    /// Its end of the tunnel.
    #[must_use]
    pub fn inter_site(&self) -> &InterSite {
        &self.inter_site
    }

    /// The server's side of TLS, always of the newest generation.
    #[must_use]
    pub fn tls(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.tls)
    }

    /// What is here for a VM is kept back from now on; its flows are listed for the ledger.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn divert(
        &self,
        vm: &VmName,
        authority: &Authority,
        caller: &Identity,
    ) -> Result<Diverted, VmError> {
        self.vms.admit_agent(vm, authority, caller).await?;
        self.traffic.list_for(vm, authority.epoch).await;
        self.vms.divert(vm, authority, caller).await
    }

    /// Has VMs at the tunnel's other ends stand still while those are out of reach, until the tunnel
    /// ends.
    pub async fn watch_peers(&self) {
        let Some(mut events) = self.inter_site.subscribe() else { return };
        loop {
            match events.recv().await {
                Ok(TunnelEvent::Lost { peer, .. }) => self.vms.peer_is_reached(&peer, false).await,
                Ok(TunnelEvent::Connected { peer } | TunnelEvent::Resumed { peer }) => {
                    self.vms.peer_is_reached(&peer, true).await;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the tunnel told more than was listened to");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Tells where a VM runs from now on. Where no hold has listed its flows for the ledger, this does.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn redirect(&self, vm: &VmName, redirect: &Redirect) -> Result<Vm, VmError> {
        let told = self.vms.redirect(vm, redirect).await?;
        let epoch = redirect.authority.epoch;
        self.traffic.goes_on(vm, epoch, told.ended);
        self.traffic.list_for(vm, epoch).await;
        self.traffic.pivot_of(vm, epoch).await;
        self.traffic.placed(vm, epoch, self.vms.is_away(vm).await);
        Ok(told)
    }

    /// Has nothing stand any more for a VM that has left. Flows towards it that live are a reason not
    /// to, or, where it is forced, are killed.
    ///
    /// # Errors
    /// See [`VmError`].
    pub async fn reclaim(
        &self,
        vm: &VmName,
        release: Epoch,
        force: bool,
    ) -> Result<Vec<FlowId>, VmError> {
        let mut broken_off = Vec::new();
        if self.vms.is_away(vm).await {
            let live = self.traffic.flows_of(vm).await;
            if !force && !live.is_empty() {
                let some: Vec<String> =
                    live.iter().take(FLOWS_NAMED_MAX).map(ToString::to_string).collect();
                let (vm, count, some) = (vm.clone(), live.len(), some.join(", "));
                return Err(VmError::FlowsLive { vm, count, some });
            }
            for flow in live {
                if self.traffic.kill(flow).await {
                    broken_off.push(flow);
                }
            }
        }
        self.vms.reclaim(vm, release).await?;
        self.traffic.forget(vm, release);
        Ok(broken_off)
    }

    /// Takes no reloads any more, once the present one is done.
    pub async fn end_reloads(&self) {
        *self.reloading.lock().await = Reloads::Over;
    }

    /// Reads configuration and certificates again and runs on them; gives the new generation.
    ///
    /// # Errors
    /// They are no good, or need a restart. Then nothing has changed.
    pub async fn reload(&self) -> Result<u64, ReloadError> {
        let alone = self.reloading.lock().await;
        if *alone == Reloads::Over {
            return Err(ReloadError::Ending);
        }
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || Loaded::read(&path));
        let loaded = reading.await.map_err(|_| ReloadError::Ending)??;
        let running = self.snapshot();
        same(&running.loaded, &loaded)?;

        // The sockets of new VIPs go again with the error.
        let prepared = self.traffic.prepare(&loaded.config).await?;
        // Refused levels never get here, so that nothing after this line can fail.
        self.telemetry.reconfigure(&loaded.config.basics.log_level)?;
        let generation = running.generation + 1;
        self.traffic.commit(prepared).await;
        self.tls.store(loaded.credentials.server_config());
        self.credentials.store(Arc::clone(&loaded.credentials));
        let legs = self.vms.networks().legs;
        self.inter_site.own_site(own_site(&loaded.config, &legs));
        if let Some(tunnel) = &loaded.config.tunnel {
            self.inter_site.permit(tunnel.permits.clone());
        }
        let snapshot = Arc::new(Snapshot { generation, loaded });
        tell(&snapshot);
        self.snapshot.store(snapshot);
        Ok(generation)
    }
}

/// What nobody else may send in the name of.
fn own_site(config: &Config, legs: &[proxy_api::Leg]) -> OwnSite {
    let vips = config.services.iter().flat_map(|service| &service.vips).map(SocketAddr::ip);
    let own = legs.iter().flat_map(|leg| leg.addresses.iter().copied());
    OwnSite {
        proxies: vips.chain(own).collect(),
        machines: legs.iter().flat_map(|leg| leg.gateways.iter().copied()).collect(),
    }
}

/// Refuses what a running proxy cannot change.
fn same(running: &Loaded, wanted: &Loaded) -> Result<(), ReloadError> {
    let fixed = |loaded: &Loaded| {
        let basics = &loaded.config.basics;
        [
            ("control.listen", basics.listen.to_string()),
            ("the identity in identity.certificate", loaded.credentials.identity().to_string()),
            ("state.folder", basics.state_folder.display().to_string()),
            ("[[network]]", network(&loaded.config)),
            ("[tunnel], but for its permits,", tunnel_but_for_permits(&loaded.config)),
        ]
    };
    for ((field, running), (_, wanted)) in fixed(running).into_iter().zip(fixed(wanted)) {
        if running != wanted {
            return Err(ReloadError::NeedsRestart { field, running, wanted });
        }
    }
    Ok(())
}

fn network(config: &Config) -> String {
    let Some(network) = &config.network else { return "none".to_owned() };
    let NetworkConfig { name, leg, gateways, link_local, namespace } = network;
    format!("{name} by {leg} in {namespace}, gateways {gateways:?} {link_local:?}")
}

fn tunnel_but_for_permits(config: &Config) -> String {
    let Some(tunnel) = &config.tunnel else { return "none".to_owned() };
    let listen = tunnel.listen.map_or("nowhere".to_owned(), |listen| listen.to_string());
    let peer = |peer: &PeerPlan| match peer.reach {
        Reach::Dial(address) => format!("{} at {address}", peer.identity),
        Reach::Await => format!("{} that dials", peer.identity),
    };
    let peers: Vec<String> = tunnel.peers.iter().map(peer).collect();
    format!("listening on {listen}, {}, {}", tunnel.entrances.display(), peers.join(", "))
}

/// Makes a new generation known to whoever watches.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats; 2^53 generations are enough")]
fn tell(snapshot: &Snapshot) {
    gauge!("causeway_config_generation").set(snapshot.generation as f64);
    snapshot.loaded.tell_validity();
}
