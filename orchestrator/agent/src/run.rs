//! An agent's life: papers, folders, the VMs it has records of, control server, an orderly end.
//! QEMU goes on after that.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use daemon::config::ConfigError;
use daemon::control::{BindError, Bounds, Server, TableError};
use daemon::identity::{Credentials, CredentialsError};
use daemon::shutdown::{Notifier, Signals, Stopped, Wish};
use daemon::state::{StateError, StateFolder};
use placement::{End, Identity, PartName, Role};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::config::Config;
use crate::control;
use crate::folders::FolderError;
pub use crate::vm::VmError;
use crate::vm::Vms;

/// What an agent starts from.
#[derive(Debug)]
pub struct Loaded {
    /// Its configuration.
    pub config: Config,
    /// Its papers.
    pub credentials: Credentials,
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The papers.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The papers are another agent's.
    #[error(
        "the certificate is of {found}, and 'name' says {name}; give each agent its own bundle"
    )]
    NotMine {
        /// Whose they are.
        found: Identity,
        /// What the configuration says.
        name: PartName,
    },
}

impl Loaded {
    /// Reads and checks the configuration at `path` and what it names.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn read(path: &Path) -> Result<Loaded, LoadError> {
        let config = Config::read(path)?;
        let paths = &config.basics.identity;
        let credentials = Credentials::load(paths)?;
        credentials.expect(Role::Agent, &config.basics.site, paths)?;
        let found = credentials.identity();
        if found.name != config.name {
            return Err(LoadError::NotMine { found: found.clone(), name: config.name });
        }
        Ok(Loaded { config, credentials })
    }
}

/// Why an agent did not start, or ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Signals, or the service manager named by NOTIFY_SOCKET, are out of reach.
    #[error("signals or NOTIFY_SOCKET cannot be used")]
    System(#[from] io::Error),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The folders of disks and sockets.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A VM cannot be served.
    #[error(transparent)]
    Vm(#[from] VmError),
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

/// Runs an agent until a signal ends it.
///
/// # Errors
/// It could not start, or did not end in an orderly way.
pub async fn run(loaded: Loaded) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let notifier = Notifier::from_environment()?;
    let Loaded { config, credentials } = loaded;
    let config = Arc::new(config);
    let state = StateFolder::open(&config.basics.state_folder)?;
    config.folders.open(&config.qemu.user)?;
    let vms = Arc::new(Vms::open(Arc::clone(&config), here(&config), state).await?);

    let tls = Arc::new(ArcSwap::new(credentials.server_config()));
    let routes = control::routes(&vms)?;
    let server = Server::bind(config.basics.listen, routes, tls, Bounds::default()).await?;
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let mut serving = tokio::spawn(server.serve(async {
        // An error means that the sender is gone, which asks for the same.
        let _ = stopped.await;
    }));
    let identity = credentials.identity().to_string();
    tracing::info!(identity, %address, "ready");
    notifier.ready();
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => {
                    tracing::warn!("an agent does not reload; restart it, its VMs run on meanwhile");
                }
            },
            ended = &mut serving => return Err(RunError::Server(ended.err())),
        }
    }
    tracing::info!("stopping; VMs run on");
    notifier.stopping();
    // Fails only if the server has ended already.
    let _ = stop.send(());
    match signals.stop(async { drop((&mut serving).await) }).await {
        Stopped::Orderly => Ok(()),
        early => Err(RunError::Unfinished(early)),
    }
}

/// Which end of a move this agent is. Decisions compare site and name alone.
fn here(config: &Config) -> End {
    let proxy = config.networks.first().map(|network| network.proxy.clone());
    End {
        site: config.basics.site.clone(),
        agent: config.name.clone(),
        address: config.basics.listen,
        proxy: proxy.expect("a configuration has a network"),
    }
}
