//! The service's life: papers, journal, what an earlier service left, control server, an orderly end.
//! Moves go on when the next one starts.

use std::sync::Arc;

use arc_swap::ArcSwap;
use daemon::life::{Life, LifeError};
use daemon::shutdown::Wish;
use daemon::telemetry::Telemetry;
use orchestrator_api::Place;
use placement::{Owner, Role};
use saga::journal::sqlite::SqliteJournal;
use saga::journal::{Journal, JournalError};

use super::config::Config;
use super::control::{self, Service};
use super::dial::TlsDial;
use super::gates::GatedJournal;
use super::moves::Shared;
use super::reclaimed::{GivenBack, Homes};
use super::reporting::Reports;
use super::table::Table;
use crate::migration::{Dialled, MoveVm};
use crate::random;

/// The journal's file in the state folder.
pub const JOURNAL: &str = "journal.sqlite";

/// What the service starts from.
pub type Loaded = daemon::loaded::Loaded<Config>;

/// Why the service did not start, or ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What any daemon may fail at.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system has no randomness to name this incarnation by.
    #[error("the system gives no random number")]
    Random(#[source] std::io::Error),
}

/// Runs the service until a signal ends it.
///
/// # Errors
/// It could not start, or did not end in an orderly way.
pub async fn run(loaded: Loaded, telemetry: Telemetry) -> Result<(), RunError> {
    let Loaded { config, credentials } = loaded;
    // The folder is this process's own from here on.
    let (life, _state) = Life::begin(&config.basics, &telemetry)?;
    telemetry.introduce("causeway-serve", env!("CARGO_PKG_VERSION"));
    // Another number at each start: what an earlier incarnation has under way is not this one's.
    let drawn = random::bytes().map_err(RunError::Random)?;
    let owner = Owner { name: config.name.clone(), incarnation: u64::from_ne_bytes(drawn) };
    tracing::info!(%owner, "this incarnation");

    let table = Arc::new(Table::default());
    let journal = journal(&config, &table)?;
    let parties = dialled(&config, &credentials);
    let mover = MoveVm { parties, owner: owner.clone() };
    let listen = config.basics.listen;
    let reports = Reports::open(&config.basics.state_folder).map_err(LifeError::from)?;
    let given_back = GivenBack::open(&config.basics.state_folder).map_err(LifeError::from)?;
    let homes = Homes::open(&config.basics.state_folder).map_err(LifeError::from)?;
    let kept = (reports, given_back, homes);
    let moves = Shared::new(config, mover, journal, table, kept);
    let taken_up = moves.take_up().await?;
    if taken_up > 0 {
        tracing::info!(taken_up, "moves of an earlier service go on");
    }

    let identity = credentials.identity().clone();
    let tls = Arc::new(ArcSwap::new(credentials.server_config()));
    let service = Arc::new(Service { identity, owner, telemetry, moves });
    let routes = control::routes(&service).map_err(LifeError::from)?;
    let mut serving = life.serve(listen, routes, tls).await?;
    serving.ready(credentials.identity(), env!("CARGO_PKG_VERSION"));
    while serving.wish().await? == Wish::Reload {
        tracing::warn!("the service does not reload; restart it, its moves go on then");
    }
    serving.stopping();
    Ok(serving.end().await?)
}

fn journal(config: &Config, table: &Arc<Table>) -> Result<Arc<dyn Journal>, JournalError> {
    let path = config.basics.state_folder.join(JOURNAL);
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(&path)?);
    Ok(match &config.gates {
        Some(folder) => Arc::new(GatedJournal::new(journal, folder.clone(), Arc::clone(table))),
        None => journal,
    })
}

fn dialled(config: &Config, credentials: &Arc<daemon::identity::Credentials>) -> Dialled<TlsDial> {
    let mut parties = Dialled::nobody();
    for site in &config.sites {
        let dial = |role, part: &super::config::PartConfig| TlsDial {
            identity: site.identity(role, &part.name),
            address: part.address,
            credentials: Arc::clone(credentials),
        };
        for agent in &site.agents {
            let place = Place { site: site.name.clone(), agent: agent.part.name.clone() };
            parties.add_agent(place, dial(Role::Agent, &agent.part));
        }
        for proxy in &site.proxies {
            let at = dial(Role::Proxy, proxy);
            parties.add_proxy(site.name.clone(), proxy.name.clone(), at);
        }
        for server in &site.name_servers {
            let at = dial(Role::Gslb, server);
            parties.add_name_server(site.name.clone(), server.name.clone(), at);
        }
    }
    parties
}
