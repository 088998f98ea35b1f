//! What `causeway init` makes of an example, and how the lab starts it: each part's folder is copied
//! to its host as it is, and runs there as the example's README says.

mod on_hosts;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lab::LabError;
use placement::{Identity, Role};

pub use on_hosts::{ON_HOST, host_of, on_host, start};

/// Below it, an installation has a folder for each site, and in that one for each part.
const SITES: &str = "sites";

/// Why an installation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// A file or folder of it.
    #[error("cannot read {} of the installation; was it made by `causeway init`?", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A folder that is no part's.
    #[error("{} is no part's folder; `causeway init` calls them SITE/ROLE-NAME", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// The lab could not start it.
    #[error(transparent)]
    Lab(#[from] LabError),
}

/// An installation that no host has yet.
#[derive(Debug)]
pub struct Installation {
    parts: Vec<Part>,
}

/// One daemon's folder, or one operator's.
#[derive(Debug)]
pub struct Part {
    identity: Identity,
    folder: PathBuf,
}

/// The folder of an example.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// An example's description.
#[must_use]
pub fn description(example_name: &str) -> PathBuf {
    example(example_name).join("causeway.toml")
}

impl Installation {
    /// Reads what `causeway init … --out OUT` has written.
    ///
    /// # Errors
    /// It is not all there.
    pub fn read(out: &Path) -> Result<Installation, InstallationError> {
        let mut parts = Vec::new();
        for site in folders(&out.join(SITES))? {
            for folder in folders(&site)? {
                let identity = identity_of(&folder);
                let identity = identity.ok_or(InstallationError::Foreign { path: folder.clone() });
                parts.push(Part { identity: identity?, folder });
            }
        }
        Ok(Installation { parts })
    }

    /// All parts, by site, then by name.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The part that is called so.
    #[must_use]
    pub fn part(&self, identity: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.identity.to_string() == identity)
    }
}

impl Part {
    /// Whose folder it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it is called on its host, too.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.identity.role, self.identity.name)
    }

    /// Its configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        let name = match self.identity.role {
            Role::Proxy => "proxy.toml",
            Role::Gslb => "gslb.toml",
            Role::Agent => "agent.toml",
            Role::Orchestrator => "serve.toml",
            Role::Operator | Role::Viewer => "operator.toml",
        };
        self.folder.join(name)
    }

    /// All its files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>, InstallationError> {
        listed(&self.folder)
    }
}

/// `…/SITE/ROLE-NAME`.
fn identity_of(folder: &Path) -> Option<Identity> {
    let name = folder.file_name()?.to_str()?;
    let site = folder.parent()?.file_name()?.to_str()?;
    let (role, name) = name.split_once('-')?;
    format!("causeway://site/{site}/role/{role}/name/{name}").parse().ok()
}

fn folders(of: &Path) -> Result<Vec<PathBuf>, InstallationError> {
    let mut folders = listed(of)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, InstallationError> {
    let unreadable = |cause| InstallationError::Unreadable { path: folder.to_owned(), cause };
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<_> = entries.map_err(unreadable)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}
