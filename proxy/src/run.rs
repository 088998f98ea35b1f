//! A proxy's life: signals, state, control server; then reloads; then an orderly end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::control::{BindError, Bounds, Server, TableError};
use daemon::shutdown::{Notifier, Signals, Stopped, Wish};
use daemon::state::{StateError, StateFolder};
use daemon::telemetry::Telemetry;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::control;
use crate::epochs::Epochs;
use crate::inter_site::InterSiteError;
use crate::listen::ListenError;
use crate::running::{Loaded, Proxy};
use crate::traffic::Traffic;

/// Descriptors that are no flow's: listeners, pipes, control connections, the log.
const DESCRIPTORS_BESIDE: u64 = 4_096;

/// Why a proxy did not start, or ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Signals, or the service manager named by NOTIFY_SOCKET, are out of reach.
    #[error("signals or NOTIFY_SOCKET cannot be used")]
    System(#[from] io::Error),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A VIP or a source is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// This site's end of the tunnel cannot be used.
    #[error(transparent)]
    InterSite(#[from] InterSiteError),
    /// The control server cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The control API contradicts itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The control server ended by itself.
    #[error("the control server ended by itself; report it, with the log")]
    Server(#[source] Option<JoinError>),
    /// The end took too long, or was cut short by a second signal.
    #[error("ended before all was finished ({0:?})")]
    Unfinished(Stopped),
}

/// Runs a proxy on what was read from `path`, until a signal ends it.
///
/// # Errors
/// It could not start, or did not end in an orderly way.
pub async fn run(path: PathBuf, loaded: Loaded, telemetry: Telemetry) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let notifier = Notifier::from_environment()?;
    let basics = loaded.config.basics.clone();
    let state = StateFolder::open(&basics.state_folder)?;
    let epochs = Epochs::load(&state)?;
    descriptors(loaded.config.limits.flows_max);
    let traffic = Traffic::start()?;
    let prepared = traffic.prepare(&loaded.config).await?;
    let proxy = Arc::new(Proxy::start(path, loaded, telemetry, traffic, epochs).await?);

    let routes = control::routes(&proxy)?;
    let server = Server::bind(basics.listen, routes, proxy.tls(), Bounds::default()).await?;
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let mut serving = tokio::spawn(server.serve(async {
        // An error means that the sender is gone, which asks for the same.
        let _ = stopped.await;
    }));
    let upkeep = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.telemetry().upkeep().await }
    });
    proxy.traffic().begin(prepared).await;
    let identity = proxy.snapshot().loaded.credentials.identity().to_string();
    tracing::info!(identity, %address, version = crate::VERSION, "ready");
    notifier.ready();

    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => {
                    notifier.reloading();
                    reload(&proxy).await;
                    notifier.ready();
                }
            },
            ended = &mut serving => return Err(RunError::Server(ended.err())),
        }
    }
    // Before anybody is told: who hears of the end can rely on it.
    proxy.end_reloads().await;
    tracing::info!("stopping");
    notifier.stopping();
    upkeep.abort();
    let hurried = drain(&proxy, &mut signals).await;
    // Fails only if the server has ended already.
    let _ = stop.send(());
    let ended = match hurried {
        true => Stopped::Hurried,
        false => signals.stop(async { drop((&mut serving).await) }).await,
    };
    match ended {
        Stopped::Orderly => {
            tracing::info!("stopped");
            Ok(())
        }
        early => {
            serving.abort();
            Err(RunError::Unfinished(early))
        }
    }
}

/// Takes no more clients, lets flows end for as long as configured, and breaks off those that are
/// left; true if a second signal cut the wait short. The control server answers meanwhile.
async fn drain(proxy: &Proxy, signals: &mut Signals) -> bool {
    let traffic = proxy.traffic();
    traffic.close().await;
    let bound = proxy.snapshot().loaded.config.limits.shutdown_drain;
    let second = async { while signals.next().await != Wish::Stop {} };
    let (left, hurried) = tokio::select! {
        left = traffic.drained(bound) => (left, false),
        () = second => (traffic.drained(Duration::ZERO).await, true),
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

async fn reload(proxy: &Proxy) {
    match proxy.reload().await {
        Ok(generation) => tracing::info!(generation, "reload taken"),
        Err(error) => {
            let why = daemon::with_causes(&error);
            tracing::error!(why, "reload refused; the proxy runs on as before");
        }
    }
}
