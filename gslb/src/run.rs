//! A name server's life: a daemon's, with questions in it.

use std::path::PathBuf;
use std::sync::Arc;

use daemon::life::{Life, LifeError};
use daemon::shutdown::Wish;
use daemon::telemetry::Telemetry;

use crate::control;
use crate::listen::{ListenError, Sockets};
use crate::running::{Loaded, NameServer, StartError};

/// Why a name server did not start, or ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What any daemon may fail at.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// What was steered cannot be gone on from.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An address for questions is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Runs a name server on what was read from `path`, until a signal ends it.
///
/// # Errors
/// It could not start, or did not end in an orderly way.
pub async fn run(path: PathBuf, loaded: Loaded, telemetry: Telemetry) -> Result<(), RunError> {
    let basics = loaded.config.basics.clone();
    let (life, state) = Life::begin(&basics, &telemetry)?;
    let sockets = Sockets::bind(&loaded.config.dns).await?;
    let server = Arc::new(NameServer::start(path, loaded, telemetry, &state, sockets.addresses())?);

    let routes = control::routes(&server).map_err(LifeError::from)?;
    let mut serving = life.serve(basics.listen, routes, server.tls()).await?;
    for address in server.listen() {
        tracing::info!(%address, "answering questions");
    }
    let listening = sockets.answer(server.views());
    serving.ready(server.snapshot().loaded.credentials.identity(), crate::VERSION);
    while serving.wish().await? == Wish::Reload {
        serving.reload(server.reload()).await;
    }
    serving.stopping();
    let hurried = tokio::select! {
        () = listening.end() => false,
        () = serving.hurried() => true,
    };
    if hurried {
        return Err(serving.break_off().into());
    }
    Ok(serving.end().await?)
}
