//! An agent's life: papers, folders, the VMs it has records of, control server, an orderly end.
//! QEMU goes on after that.

use std::sync::Arc;

use arc_swap::ArcSwap;
use daemon::life::{Life, LifeError};
use daemon::shutdown::Wish;
use daemon::telemetry::Telemetry;
use placement::End;

use crate::config::Config;
use crate::control;
use crate::folders::FolderError;
use crate::port::Proxies;
pub use crate::vm::VmError;
use crate::vm::Vms;

/// What an agent starts from.
pub type Loaded = daemon::loaded::Loaded<Config>;

/// Why an agent did not start, or ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What any daemon may fail at.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// The folders of disks and sockets.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A VM cannot be served.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// Runs an agent until a signal ends it.
///
/// # Errors
/// It could not start, or did not end in an orderly way.
pub async fn run(loaded: Loaded, telemetry: Telemetry) -> Result<(), RunError> {
    let Loaded { config, credentials } = loaded;
    let (life, state) = Life::begin(&config.basics, &telemetry)?;
    telemetry.introduce("causeway-agent", env!("CARGO_PKG_VERSION"));
    let config = Arc::new(config);
    config.folders.open(&config.qemu.user)?;
    let proxies = Arc::new(Proxies::of(&config, &credentials));
    let vms = Arc::new(Vms::open(Arc::clone(&config), here(&config), proxies, state).await?);

    let tls = Arc::new(ArcSwap::new(credentials.server_config()));
    let routes = control::routes(&vms).map_err(LifeError::from)?;
    let mut serving = life.serve(config.basics.listen, routes, tls).await?;
    serving.ready(credentials.identity(), env!("CARGO_PKG_VERSION"));
    while serving.wish().await? == Wish::Reload {
        tracing::warn!("an agent does not reload; restart it, its VMs run on meanwhile");
    }
    serving.stopping();
    Ok(serving.end().await?)
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
