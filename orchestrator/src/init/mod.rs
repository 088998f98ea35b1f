//! `causeway init`: from one description to everything that is copied to hosts.
//!
//! ```text
//! OUT/
//!   authority/                       the CA, as `causeway pki` has it; stays off every host
//!   sites/a/proxy-p1/                one folder for each part: its configuration, its own key,
//!   sites/a/agent-hv1/               its certificate and the CA's; goes to its host as it is
//!   sites/a/gslb-ns1/
//!   sites/hq/orchestrator-serve/
//!   sites/hq/operator-ada/           and the definitions of all VMs
//! ```
//!
//! All of it is written to a folder beside, checked there, and takes its name last: it is there whole
//! or not at all, and nothing is overwritten.

mod configurations;
mod description;

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use daemon::config::ConfigError;
use daemon::loaded::LoadError;
use placement::{Identity, Role};
use serde::Serialize;
use serde_json::{Value, json};

use self::configurations::{Part, TextError};
use self::description::Description;
use crate::pki::folder::{self, Entry};
use crate::pki::{self, PkiError};
use crate::serve;

/// The CA's folder.
const AUTHORITY: &str = "authority";
/// The folder of all parts' folders.
const SITES: &str = "sites";
/// Where the commands that are told expect a part's folder on its host.
const ON_HOST: &str = "/etc/causeway";

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The description is wrong.
    #[error(transparent)]
    Description(#[from] ConfigError),
    /// There is an installation already.
    #[error(
        "{}: exists and is not empty, and may hold keys that are in use: nothing is overwritten; \
         write to another folder, and move over what is wanted of it", path.display()
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Certificates or folders cannot be made.
    #[error(transparent)]
    Pki(PkiError),
    /// The system refused.
    #[error("{}: cannot be written", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The service would refuse what was made for it.
    #[error("what was made of {} is no configuration of the service; report it", description.display())]
    Unfit {
        /// The description.
        description: PathBuf,
        /// What the service says.
        #[source]
        source: LoadError,
    },
    /// What a configuration says cannot be written as text.
    #[error("no text can be made of a configuration; report it")]
    Text(#[from] TextError),
}

impl From<PkiError> for InitError {
    fn from(error: PkiError) -> InitError {
        match error {
            PkiError::Exists { path } => InitError::Exists { path },
            other => InitError::Pki(other),
        }
    }
}

/// What was written.
#[derive(Debug)]
pub struct Installation {
    out: PathBuf,
    parts: Vec<Written>,
}

/// One part's folder.
#[derive(Debug, Serialize)]
struct Written {
    identity: Identity,
    folder: PathBuf,
    /// The configuration first.
    files: Vec<PathBuf>,
}

/// Makes an installation in the folder `out`, with certificates that are good for `days`.
///
/// # Errors
/// The description is wrong, or the folder holds something. Then nothing was written.
pub fn init(
    description: &Path,
    out: &Path,
    days: u32,
    now: SystemTime,
) -> Result<Installation, InitError> {
    let described = Description::read(description)?;
    let parts = configurations::of(&described)?;
    // The renaming refuses it as well; said before keys are made, it is said at once.
    if fs::read_dir(out).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(InitError::Exists { path: out.to_owned() });
    }
    let made = folder::begin(out)?;
    let authority = made.path().join(AUTHORITY);
    pki::init(&authority, now)?;
    let mut written = Vec::new();
    for part in &parts {
        write(made.path(), &authority, part, days, now)?;
        written.push(part.written(out));
    }
    let serve = part_folder(made.path(), &described.serve_identity()).join("serve.toml");
    serve::run::Loaded::read(&serve)
        .map_err(|source| InitError::Unfit { description: description.to_owned(), source })?;
    folder::finish(made, out)?;
    Ok(Installation { out: out.to_owned(), parts: written })
}

impl Part {
    fn written(&self, out: &Path) -> Written {
        let folder = part_folder(out, &self.identity);
        let papers = ["certificate.pem", "key.pem", "ca.pem"];
        let names = self.files.iter().map(|(name, _)| name.as_str()).chain(papers);
        let files = names.map(|name| folder.join(name)).collect();
        Written { identity: self.identity.clone(), folder, files }
    }
}

impl Description {
    fn serve_identity(&self) -> Identity {
        let serve = &self.serve;
        let (site, name) = (serve.site.clone(), serve.name.clone());
        Identity { site, role: Role::Orchestrator, name }
    }
}

fn write(
    root: &Path,
    authority: &Path,
    part: &Part,
    days: u32,
    now: SystemTime,
) -> Result<(), InitError> {
    let into = part_folder(root, &part.identity);
    let system = |source| InitError::System { path: into.clone(), source };
    let site = into.parent().unwrap_or(root);
    DirBuilder::new().recursive(true).mode(folder::FOLDER).create(site).map_err(system)?;
    pki::issue(authority, &part.identity, days, &into, now)?;
    let mut entries = Vec::new();
    for (path, content) in &part.files {
        entries.push(Entry { path, mode: folder::PUBLIC, content: content.clone() });
    }
    folder::fill(&into, &entries).map_err(system)
}

fn part_folder(root: &Path, identity: &Identity) -> PathBuf {
    root.join(SITES).join(identity.site.as_str()).join(folder_name(identity))
}

fn folder_name(identity: &Identity) -> String {
    format!("{}-{}", identity.role, identity.name)
}

impl Installation {
    /// For programs.
    #[must_use]
    pub fn as_json(&self) -> Value {
        json!({ "authority": self.out.join(AUTHORITY), "parts": self.parts })
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.out.join(AUTHORITY);
        writeln!(f, "{}: the CA; keep it off every host", authority.display())?;
        for part in &self.parts {
            writeln!(f, "{}", part.folder.display())?;
            let Some(run) = part.run() else { continue };
            writeln!(f, "    {run}")?;
        }
        writeln!(f, "Copy each folder to its host, into {ON_HOST}, and run there what is below it.")
    }
}

impl Written {
    /// What is typed on its host.
    fn run(&self) -> Option<String> {
        let program = match self.identity.role {
            Role::Proxy => "causeway-proxy run",
            Role::Gslb => "causeway-gslb run",
            Role::Agent => "causeway agent run",
            Role::Orchestrator => "causeway serve run",
            Role::Operator => "causeway vm list",
            Role::Viewer => return None,
        };
        let file = self.files.first()?.file_name()?.to_str()?;
        Some(format!("{program} --config {ON_HOST}/{}/{file}", folder_name(&self.identity)))
    }
}

#[cfg(test)]
mod tests;
