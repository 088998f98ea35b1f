//! A daemon's life between its papers and its exit code: signals and state, then its own job, then
//! the control server; then wishes; then an orderly end.
//!
//! ```text
//! begin -> (the daemon's own start) -> serve -> ready -> wish, wish, ... -> stopping -> end
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use placement::Identity;
use rustls::ServerConfig;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::config::Basics;
use crate::control::{BindError, Bounds, RouteTable, Server, TableError};
use crate::shutdown::{Notifier, Signals, Stopped, Wish};
use crate::state::{StateError, StateFolder};
use crate::telemetry::Telemetry;

/// Why a daemon did not start, or ended other than asked, whatever its job.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// Signals, or the service manager named by NOTIFY_SOCKET, are out of reach.
    #[error("signals or NOTIFY_SOCKET cannot be used")]
    System(#[from] io::Error),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
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

/// A daemon that has begun: a signal does not kill it any more, and its state is its own.
#[derive(Debug)]
pub struct Life {
    signals: Signals,
    notifier: Notifier,
    /// Ends with the life.
    _upkeep: JoinSet<()>,
}

impl Life {
    /// Begins: signals, the service manager, the upkeep of metrics, the state folder.
    ///
    /// # Errors
    /// One of them is not to be had.
    pub fn begin(basics: &Basics, telemetry: &Telemetry) -> Result<(Life, StateFolder), LifeError> {
        let signals = Signals::listen()?;
        let notifier = Notifier::from_environment()?;
        let state = StateFolder::open(&basics.state_folder)?;
        let mut upkeep = JoinSet::new();
        upkeep.spawn(telemetry.upkeep());
        Ok((Life { signals, notifier, _upkeep: upkeep }, state))
    }

    /// Opens the control server at `listen`. Each handshake takes what `tls` holds at that moment.
    ///
    /// # Errors
    /// The address is not to be had.
    pub async fn serve(
        self,
        listen: SocketAddr,
        routes: RouteTable,
        tls: Arc<ArcSwap<ServerConfig>>,
    ) -> Result<Serving, LifeError> {
        let server = Server::bind(listen, routes, tls, Bounds::default()).await?;
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.serve(async {
            // An error means that the sender is gone, which asks for the same.
            let _ = stopped.await;
        }));
        Ok(Serving { life: self, address, server, stop })
    }
}

/// A daemon that answers calls.
#[derive(Debug)]
pub struct Serving {
    life: Life,
    address: SocketAddr,
    server: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Serving {
    /// Says to log and service manager that everything that was asked for is served.
    pub fn ready(&self, identity: &Identity, version: &'static str) {
        let Serving { address, .. } = self;
        tracing::info!(%identity, %address, version, "ready");
        self.life.notifier.ready();
    }

    /// Waits for what the next signal asks for. Whoever gets [`Wish::Stop`] finishes with
    /// [`Serving::stopping`] and an end.
    ///
    /// # Errors
    /// The control server ended by itself: so must the daemon.
    pub async fn wish(&mut self) -> Result<Wish, LifeError> {
        tokio::select! {
            wish = self.life.signals.next() => Ok(wish),
            ended = &mut self.server => Err(LifeError::Server(ended.err())),
        }
    }

    /// Fulfils a wish for a reload, which gives the new generation or has changed nothing.
    pub async fn reload<E: std::error::Error>(&self, reload: impl Future<Output = Result<u64, E>>) {
        self.life.notifier.reloading();
        match reload.await {
            Ok(generation) => tracing::info!(generation, "reload taken"),
            Err(error) => {
                let why = crate::with_causes(&error);
                tracing::error!(why, "reload refused; all runs on as before");
            }
        }
        self.life.notifier.ready();
    }

    /// Says to log and service manager that the end has begun. Calls are answered until
    /// [`Serving::end`].
    pub fn stopping(&self) {
        tracing::info!("stopping");
        self.life.notifier.stopping();
    }

    /// Waits for a second signal that asks to stop: whatever the daemon finishes, it breaks off.
    pub async fn hurried(&mut self) {
        while self.life.signals.next().await != Wish::Stop {}
    }

    /// Ends the control server in an orderly way, within [`STOP_MS_MAX`](crate::shutdown::STOP_MS_MAX).
    ///
    /// # Errors
    /// It took too long, or a second signal cut it short.
    pub async fn end(self) -> Result<(), LifeError> {
        let Serving { mut life, mut server, stop, .. } = self;
        // Fails only if the server has ended already.
        let _ = stop.send(());
        match life.signals.stop(async { drop((&mut server).await) }).await {
            Stopped::Orderly => {
                tracing::info!("stopped");
                Ok(())
            }
            early => {
                server.abort();
                Err(LifeError::Unfinished(early))
            }
        }
    }

    /// Ends it at once, as a second signal wants it.
    #[must_use]
    pub fn break_off(self) -> LifeError {
        self.server.abort();
        LifeError::Unfinished(Stopped::Hurried)
    }
}
