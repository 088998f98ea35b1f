//! What a name server runs on, how an order changes it, and how a reload does: whole, or not at all.
//!
//! Orders and reloads go one after the other, each in one go that nobody can cut short: judged,
//! written to the disk, published. Then the caller waits until no older answer is under way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
pub use daemon::loaded::LoadError;
use daemon::state::{StateError, StateFile, StateFolder};
use daemon::telemetry::{Telemetry, TelemetryError};
use gslb_api::{Names, Taken};
use metrics::gauge;
use placement::{Authority, VmName};
use rustls::ServerConfig;

use crate::config::Config;
use crate::steering::{Order, Steering, SteeringError};
use crate::view::{View, Views};

const FILE: &str = "steering";
const VERSION: u32 = 1;

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

/// Why a name server cannot begin with what it remembers.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be read, or not be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configuration contradicts it.
    #[error("what was steered does not go with this configuration")]
    Steering(#[from] SteeringError),
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new files are no good.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// They are good, and ask for what only a restart can give.
    #[error(
        "{field} cannot change from {running} to {wanted} while the server runs: this needs a restart"
    )]
    NeedsRestart {
        /// The configuration's field.
        field: &'static str,
        /// What it was at the start.
        running: String,
        /// What the file says now.
        wanted: String,
    },
    /// They are good, and contradict what was steered.
    #[error("what was steered does not go with this configuration")]
    Steering(#[from] SteeringError),
    /// It could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log level is none.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// An older answer is still under way.
    #[error("taken, but an older answer is still under way")]
    Unsettled,
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

/// Why an order is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It is not to be followed; nothing has changed.
    #[error(transparent)]
    Refused(#[from] SteeringError),
    /// It could not be kept; nothing has changed.
    #[error(transparent)]
    State(#[from] StateError),
    /// It was taken, and an older answer is still under way.
    #[error("taken, but an older answer is still under way")]
    Unsettled,
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

/// A name server that runs.
#[derive(Debug)]
pub struct NameServer {
    path: PathBuf,
    listen: Vec<SocketAddr>,
    snapshot: ArcSwap<Snapshot>,
    tls: Arc<ArcSwap<ServerConfig>>,
    telemetry: Telemetry,
    views: Arc<Views>,
    kept: Mutex<Kept>,
}

/// What is on the disk. Whoever changes it, or what it is judged by, holds it.
#[derive(Debug)]
struct Kept {
    steering: Steering,
    file: StateFile<Steering>,
}

impl NameServer {
    /// Takes what was read from `path` as the first generation, and goes on from what was kept,
    /// at addresses that are bound. Blocks on the disk.
    ///
    /// # Errors
    /// What was kept is unreadable, or contradicts the configuration.
    pub fn start(
        path: PathBuf,
        loaded: Loaded,
        telemetry: Telemetry,
        folder: &StateFolder,
        listen: Vec<SocketAddr>,
    ) -> Result<NameServer, StartError> {
        telemetry.introduce("causeway-gslb", crate::VERSION);
        let mut file: StateFile<Steering> = folder.file(FILE, VERSION);
        let before = file.load()?.unwrap_or_default();
        let steering = before.under(&loaded.config.steered, daemon::unix_s(SystemTime::now()))?;
        file.save(&steering)?;
        let views = Arc::new(Views::new(View::of(&loaded.config, &steering)));
        let tls = Arc::new(ArcSwap::new(loaded.credentials.server_config()));
        let snapshot = Snapshot { generation: 1, loaded };
        tell(&snapshot, &steering);
        let (snapshot, kept) =
            (ArcSwap::from_pointee(snapshot), Mutex::new(Kept { steering, file }));
        Ok(NameServer { path, listen, snapshot, tls, telemetry, views, kept })
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

    /// Where it answers.
    #[must_use]
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// What it answers by.
    #[must_use]
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// The server's side of TLS, always of the newest generation.
    #[must_use]
    pub fn tls(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.tls)
    }

    /// All names that follow VMs, and all VMs of which something was heard.
    #[must_use]
    pub fn names(&self) -> Names {
        let kept = self.kept();
        kept.steering.all(&self.snapshot().loaded.config.steered)
    }

    /// Follows an order. When this returns, it is on the disk, and nobody is answered by what was
    /// before.
    ///
    /// # Errors
    /// Every [`OrderError`].
    pub async fn order(
        self: &Arc<Self>,
        vm: VmName,
        authority: Authority,
        order: Order,
    ) -> Result<Taken, OrderError> {
        let server = Arc::clone(self);
        // Not to be cut short between disk and view, even if the caller goes away.
        let taking = tokio::task::spawn_blocking(move || server.take(&vm, &authority, &order));
        let taken = taking.await.map_err(|_| OrderError::Ending)??;
        self.views.settled().await.map_err(|_| OrderError::Unsettled)?;
        Ok(taken)
    }

    /// Reads configuration and certificates again and runs on them; gives the new generation.
    ///
    /// # Errors
    /// Every [`ReloadError`]; nothing has changed then, except with [`ReloadError::Unsettled`].
    pub async fn reload(self: &Arc<Self>) -> Result<u64, ReloadError> {
        let server = Arc::clone(self);
        let taking = tokio::task::spawn_blocking(move || server.take_files());
        let generation = taking.await.map_err(|_| ReloadError::Ending)??;
        self.views.settled().await.map_err(|_| ReloadError::Unsettled)?;
        Ok(generation)
    }

    fn take(&self, vm: &VmName, authority: &Authority, order: &Order) -> Result<Taken, OrderError> {
        let mut kept = self.kept();
        let snapshot = self.snapshot();
        let config = &snapshot.loaded.config;
        let now_s = daemon::unix_s(SystemTime::now());
        let next = kept.steering.after(vm, authority, order, &config.steered, now_s)?;
        if next != kept.steering {
            kept.file.save(&next)?;
            // The answers are the same while the serial is.
            if next.serial() != kept.steering.serial() {
                self.views.publish(View::of(config, &next));
            }
            kept.steering = next;
            tell(&snapshot, &kept.steering);
        }
        Ok(kept.steering.taken(vm, &config.steered))
    }

    fn take_files(&self) -> Result<u64, ReloadError> {
        // One at a time, from reading to swapping; else an older file could win.
        let mut kept = self.kept();
        let loaded = Loaded::read(&self.path)?;
        let running = self.snapshot();
        same(&running.loaded, &loaded)?;
        let names = &loaded.config.steered;
        let steering = kept.steering.under(names, daemon::unix_s(SystemTime::now()))?;
        // Refused levels never get here, so that nothing but the disk can fail from here on.
        self.telemetry.reconfigure(&loaded.config.basics.log_level)?;
        kept.file.save(&steering)?;
        self.views.publish(View::of(&loaded.config, &steering));
        kept.steering = steering;
        self.tls.store(loaded.credentials.server_config());
        let generation = running.generation + 1;
        let snapshot = Arc::new(Snapshot { generation, loaded });
        tell(&snapshot, &kept.steering);
        self.snapshot.store(snapshot);
        Ok(generation)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what a running server cannot change.
fn same(running: &Loaded, wanted: &Loaded) -> Result<(), ReloadError> {
    let fixed = |loaded: &Loaded| {
        let Config { basics, dns, .. } = &loaded.config;
        let listen: Vec<String> = dns.listen.iter().map(ToString::to_string).collect();
        [
            ("control.listen", basics.listen.to_string()),
            ("the identity in identity.certificate", loaded.credentials.identity().to_string()),
            ("state.folder", basics.state_folder.display().to_string()),
            ("dns.listen", listen.join(", ")),
            ("dns.tcp_connections_max", dns.tcp_connections_max.to_string()),
        ]
    };
    for ((field, running), (_, wanted)) in fixed(running).into_iter().zip(fixed(wanted)) {
        if running != wanted {
            return Err(ReloadError::NeedsRestart { field, running, wanted });
        }
    }
    Ok(())
}

/// Makes a new state known to whoever watches.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats; 2^53 generations are enough")]
fn tell(snapshot: &Snapshot, steering: &Steering) {
    let names = steering.all(&snapshot.loaded.config.steered).names;
    let shortened = names.iter().filter(|name| name.is_shortened).count();
    gauge!("causeway_config_generation").set(snapshot.generation as f64);
    gauge!("causeway_dns_serial").set(f64::from(steering.serial()));
    gauge!("causeway_dns_names").set(names.len() as f64);
    gauge!("causeway_dns_names_shortened").set(shortened as f64);
    snapshot.loaded.tell_validity();
}
