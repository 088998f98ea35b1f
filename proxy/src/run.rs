//! A proxy's life: a daemon's, with traffic in it, which has time to end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::life::{Life, LifeError};
use daemon::shutdown::Wish;
use daemon::telemetry::Telemetry;
use network::NetworkError;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::control;
use crate::leg::Leg;
use crate::listen::ListenError;
use crate::running::{Loaded, Proxy, StartError};
use crate::traffic::Traffic;
use crate::tun::Tun;

/// Descriptors that are no flow's: listeners, pipes, control connections, the log.
const DESCRIPTORS_BESIDE: u64 = 4_096;

/// Why a proxy did not start, or ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What any daemon may fail at.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// No worker can be started.
    #[error("threads for the traffic cannot be started; raise the limit of processes")]
    Traffic(#[from] io::Error),
    /// A VIP or a source is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The leg cannot be set up.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The TUN beside the leg cannot be read.
    #[error("the TUN cannot be watched; raise the limit of open files")]
    Tun(#[source] io::Error),
    /// What it remembers, or its end of the tunnel, cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs a proxy on what was read from `path`, until a signal ends it.
///
/// # Errors
/// It could not start, or did not end in an orderly way.
pub async fn run(path: PathBuf, loaded: Loaded, telemetry: Telemetry) -> Result<(), RunError> {
    let basics = loaded.config.basics.clone();
    let (life, state) = Life::begin(&basics, &telemetry)?;
    descriptors(loaded.config.limits.flows_max);
    let leg = match &loaded.config.network {
        Some(network) => Some(Leg::up(network, &basics.state_folder)?),
        None => None,
    };
    let (leg, tun) = leg.unzip();
    let tun = tun.map(Tun::over).transpose().map_err(RunError::Tun)?;
    // They end with the proxy.
    let mut beside = JoinSet::new();
    let tun = match tun {
        // Nothing else reads it.
        Some(tun) if loaded.config.tunnel.is_none() => {
            beside.spawn(async move {
                // An error says that the TUN is gone.
                let _ = tun.drop_all().await;
            });
            None
        }
        tun => tun,
    };
    let traffic = Traffic::start(leg.as_ref().map(Leg::ground).unwrap_or_default())?;
    let prepared = traffic.prepare(&loaded.config).await?;
    let proxy = Arc::new(Proxy::start(path, loaded, telemetry, (traffic, leg, tun), state).await?);

    let watching = Arc::clone(&proxy);
    beside.spawn(async move { watching.watch_peers().await });

    let routes = control::routes(&proxy).map_err(LifeError::from)?;
    let mut serving = life.serve(basics.listen, routes, proxy.tls()).await?;
    proxy.traffic().begin(prepared).await;
    serving.ready(proxy.snapshot().loaded.credentials.identity(), crate::VERSION);
    while serving.wish().await? == Wish::Reload {
        serving.reload(proxy.reload()).await;
    }
    // Before anybody is told: who hears of the end can rely on it.
    proxy.end_reloads().await;
    serving.stopping();
    if drain(&proxy, serving.hurried()).await {
        return Err(serving.break_off().into());
    }
    Ok(serving.end().await?)
}

/// Takes no more clients, lets flows end for as long as configured, and breaks off those that are
/// left; true if a second signal cut the wait short. The control server answers meanwhile.
async fn drain(proxy: &Proxy, hurried: impl Future<Output = ()>) -> bool {
    let traffic = proxy.traffic();
    traffic.close().await;
    let bound = proxy.snapshot().loaded.config.limits.shutdown_drain;
    let (left, hurried) = tokio::select! {
        left = traffic.drained(bound) => (left, false),
        () = hurried => (traffic.drained(Duration::ZERO).await, true),
    };
    if left > 0 {
        tracing::warn!(left, "flows broken off: they did not end within limits.shutdown_drain_ms");
    }
    traffic.end().await;
    proxy.inter_site().end().await;
    hurried
}

/// As many descriptors as the system lets us have: each flow takes two. Fewer than `flows_max` flows
/// need is no reason to serve nobody, and one to say so.
fn descriptors(flows_max: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let wanted = 2 * flows_max + DESCRIPTORS_BESIDE;
    if let Some(allowed) = limit.current.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "too few open files for limits.flows_max; raise the one (LimitNOFILE) or lower the other"
        );
    }
}
