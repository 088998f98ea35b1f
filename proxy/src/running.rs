//! What a proxy runs on, and how a reload changes it: whole, or not at all.
//!
//! Configuration and certificates form one snapshot. A reload reads both anew, checks both, and
//! only then swaps; whoever holds the old snapshot finishes with it. What a running proxy cannot
//! change (where it listens, who it is, where its state lies) is refused with the reason.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use daemon::identity::Credentials;
pub use daemon::loaded::LoadError;
use daemon::telemetry::{Telemetry, TelemetryError};
use metrics::gauge;
use rustls::ServerConfig;
use tokio::sync::Mutex;
use tunnel::driver::{PeerPlan, Reach};

use crate::config::{Config, NetworkConfig};
use crate::epochs::Epochs;
use crate::inter_site::{InterSite, InterSiteError};
use crate::leg::Leg;
use crate::listen::ListenError;
use crate::traffic::Traffic;

/// From this long before the certificate's end on, each start and reload warns.
pub const EXPIRY_WARNING_DAYS: u64 = 14;

const DAY_S: u64 = 86_400;

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
    leg: Option<Mutex<Leg>>,
    inter_site: InterSite,
    /// One reload at a time, from reading to swapping; else an older file could win. None once the
    /// proxy is ending, or a reload would let clients in again.
    reloading: Mutex<Reloads>,
}

impl Proxy {
    /// Takes what was read from `path` as the first generation, and starts this site's end of the
    /// tunnel.
    ///
    /// # Errors
    /// The tunnel's end cannot be started.
    pub async fn start(
        path: PathBuf,
        loaded: Loaded,
        telemetry: Telemetry,
        (traffic, leg): (Traffic, Option<Leg>),
        epochs: Epochs,
    ) -> Result<Proxy, InterSiteError> {
        telemetry.introduce("causeway-proxy", crate::VERSION);
        let tls = Arc::new(ArcSwap::new(loaded.credentials.server_config()));
        let credentials = Arc::new(ArcSwap::new(Arc::clone(&loaded.credentials)));
        let own = loaded.credentials.identity();
        let config = loaded.config.tunnel.as_ref();
        let inter_site = InterSite::start(config, own, Arc::clone(&credentials), epochs).await?;
        let snapshot = Snapshot { generation: 1, loaded };
        tell(&snapshot);
        Ok(Proxy {
            path,
            snapshot: ArcSwap::from_pointee(snapshot),
            tls,
            credentials,
            telemetry,
            traffic,
            leg: leg.map(Mutex::new),
            inter_site,
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

    /// The networks that it has a leg on.
    pub async fn networks(&self) -> proxy_api::Networks {
        let mut legs = Vec::new();
        if let Some(leg) = &self.leg {
            legs.push(leg.lock().await.told());
        }
        proxy_api::Networks { legs }
    }

    /// Its end of the tunnel, and what it remembers of epochs.
    #[must_use]
    pub fn inter_site(&self) -> &InterSite {
        &self.inter_site
    }

    /// The server's side of TLS, always of the newest generation.
    #[must_use]
    pub fn tls(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.tls)
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
        if let Some(tunnel) = &loaded.config.tunnel {
            self.inter_site.permit(tunnel.permits.clone());
        }
        let snapshot = Arc::new(Snapshot { generation, loaded });
        tell(&snapshot);
        self.snapshot.store(snapshot);
        Ok(generation)
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
    let NetworkConfig { name, leg, gateways, namespace } = network;
    format!("{name} by {leg} in {namespace}, gateways {gateways:?}")
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
    let credentials = &snapshot.loaded.credentials;
    let until_s = seconds(credentials.valid_until());
    gauge!("causeway_config_generation").set(snapshot.generation as f64);
    gauge!("causeway_certificate_valid_until_seconds").set(until_s as f64);
    let left_days = until_s.saturating_sub(seconds(SystemTime::now())) / DAY_S;
    if left_days < EXPIRY_WARNING_DAYS {
        tracing::warn!(
            left_days,
            "the certificate ends soon; issue a new one with `causeway pki issue`, then reload"
        );
    }
}

/// A time as seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
