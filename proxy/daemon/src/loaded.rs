//! What a daemon starts from, and what a reload reads anew: a configuration and the papers that it
//! names, each checked by itself and against the other.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::gauge;
use placement::{Identity, PartName, Role};
use serde_json::{Value, json};

use crate::config::{Basics, ConfigError, Problem};
use crate::identity::{Credentials, CredentialsError};
use crate::unix_s;

/// From this long before the certificate's end on, each start and reload warns.
pub const EXPIRY_WARNING_DAYS: u64 = 14;

const DAY_S: u64 = 86_400;

/// What one kind of daemon is told to be.
pub trait Configuration: Sized {
    /// What its certificate must say that it may do.
    const ROLE: Role;

    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Unreadable, or wrong in ways that are all named.
    fn read(path: &Path) -> Result<Self, ConfigError>;

    /// What every daemon is told.
    fn basics(&self) -> &Basics;

    /// Which one of its role and site it is, where the file says so beside the certificate.
    fn name(&self) -> Option<&PartName> {
        None
    }
}

/// Configuration and papers, read from disk.
#[derive(Debug)]
pub struct Loaded<C> {
    /// What the daemon is told to be.
    pub config: C,
    /// Who it can prove to be.
    pub credentials: Arc<Credentials>,
}

/// Why there is nothing to run on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The papers are, or belong to somebody of another role or site.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The papers are those of another one of its role and site.
    #[error("the certificate is of {found}, and 'name' says {name}; give each its own bundle")]
    OtherName {
        /// Whose they are.
        found: Identity,
        /// What the configuration says.
        name: PartName,
    },
}

impl LoadError {
    /// What is wrong, for programs. For people, the error's own words say it.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let problems: Vec<Value> = match self {
            LoadError::Config(ConfigError::Invalid { problems, .. }) => {
                problems.iter().map(problem_as_json).collect()
            }
            other => vec![json!({ "message": crate::with_causes(other) })],
        };
        json!({ "sound": false, "problems": problems })
    }
}

fn problem_as_json(problem: &Problem) -> Value {
    let Problem { line, column, field, message } = problem;
    json!({ "line": line, "column": column, "field": field, "message": message })
}

impl<C> Loaded<C> {
    /// Makes known until when the certificate is valid, and warns when that is soon.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats, good for 2^53 seconds")]
    pub fn tell_validity(&self) {
        let until_s = unix_s(self.credentials.valid_until());
        gauge!("causeway_certificate_valid_until_seconds").set(until_s as f64);
        let left_days = until_s.saturating_sub(unix_s(SystemTime::now())) / DAY_S;
        if left_days < EXPIRY_WARNING_DAYS {
            tracing::warn!(
                left_days,
                "the certificate ends soon; issue a new one with `causeway pki issue`, then reload"
            );
        }
    }
}

impl<C: Configuration> Loaded<C> {
    /// Reads everything that the file at `path` leads to. Blocks on the disk.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(path: &Path) -> Result<Loaded<C>, LoadError> {
        let config = C::read(path)?;
        let basics = config.basics();
        let credentials = Credentials::load(&basics.identity)?;
        credentials.expect(C::ROLE, &basics.site, &basics.identity)?;
        let found = credentials.identity();
        match config.name() {
            Some(name) if *name != found.name => {
                Err(LoadError::OtherName { found: found.clone(), name: name.clone() })
            }
            _ => Ok(Loaded { config, credentials: Arc::new(credentials) }),
        }
    }
}
