//! What a daemon starts from, and what a reload reads anew: a configuration and the papers that it
//! names, each checked by itself and against the other.

use std::path::Path;
use std::sync::Arc;

use placement::{Identity, PartName, Role};

use crate::config::{Basics, ConfigError};
use crate::identity::{Credentials, CredentialsError};

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
