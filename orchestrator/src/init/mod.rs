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
//! or not at all, and nothing is overwritten. What an installation that grows keeps is in [`adding`].

mod adding;
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

use self::adding::Earlier;
use self::configurations::{Part, TextError};
use self::description::Description;
use crate::pki::folder::{self, Entry};
use crate::pki::{self, PkiError};
use crate::serve;

/// The CA's folder.
const AUTHORITY: &str = "authority";
/// The folder of all parts' folders.
const SITES: &str = "sites";
/// A part's papers, as `pki` names them.
const PAPERS: [&str; 3] = ["certificate.pem", "key.pem", "ca.pem"];
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
         choose another folder, or write --add, which keeps all keys and brings in what is new",
        path.display()
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to add to.
    #[error("{}: holds no installation of `causeway init` to add to; leave out --add", path.display())]
    NothingThere {
        /// The folder.
        path: PathBuf,
    },
    /// A part is there that the description has no more.
    #[error(
        "{}: is no longer described, and --add takes nothing away; describe it, or move its folder \
         away first", path.display()
    )]
    Undescribed {
        /// The part's folder.
        path: PathBuf,
    },
    /// What an earlier `--add` has kept is where this one's would be.
    #[error("{}: is where the earlier installation would be kept; move it away first", path.display())]
    InTheWay {
        /// The file or folder.
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
        source: Box<LoadError>,
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
    /// Where the earlier one is.
    before: Option<PathBuf>,
}

/// One part's folder.
#[derive(Debug, Serialize)]
struct Written {
    identity: Identity,
    change: Change,
    folder: PathBuf,
    /// The configuration first.
    files: Vec<PathBuf>,
}

/// Whether a part's host must be given its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// It was not there before.
    New,
    /// It was, with other configuration.
    Changed,
    /// It is as it was.
    Same,
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
    let making = Making { description, out, days, now };
    let (described, parts) = making.parts()?;
    // The renaming refuses it as well; said before keys are made, it is said at once.
    if fs::read_dir(out).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(InitError::Exists { path: out.to_owned() });
    }
    let made = folder::begin(out)?;
    pki::init(&made.path().join(AUTHORITY), now)?;
    let written = making.fill(made.path(), &described, &parts, None)?;
    folder::finish(made, out)?;
    Ok(Installation { out: out.to_owned(), parts: written, before: None })
}

/// Brings what is new in the description into the installation in `out`: its keys stay, all
/// configurations are made anew, and what it was is kept beside it.
///
/// # Errors
/// The description is wrong or lacks what is there, or the folder holds no installation. Then nothing
/// was changed.
pub fn add(
    description: &Path,
    out: &Path,
    days: u32,
    now: SystemTime,
) -> Result<Installation, InitError> {
    let making = Making { description, out, days, now };
    let (described, parts) = making.parts()?;
    let earlier = Earlier::find(out, &parts)?;
    let made = folder::begin(out)?;
    earlier.carry_authority(made.path())?;
    let written = making.fill(made.path(), &described, &parts, Some(&earlier))?;
    let before = Some(earlier.replace(made)?);
    Ok(Installation { out: out.to_owned(), parts: written, before })
}

/// What an installation is made of.
struct Making<'a> {
    description: &'a Path,
    out: &'a Path,
    days: u32,
    now: SystemTime,
}

impl Making<'_> {
    fn parts(&self) -> Result<(Description, Vec<Part>), InitError> {
        let described = Description::read(self.description)?;
        let parts = configurations::of(&described)?;
        Ok((described, parts))
    }

    /// Fills a folder that has the CA, and lets the service read what it would start from.
    fn fill(
        &self,
        root: &Path,
        described: &Description,
        parts: &[Part],
        earlier: Option<&Earlier>,
    ) -> Result<Vec<Written>, InitError> {
        let mut written = Vec::new();
        for part in parts {
            let was_there = self.write(root, part, earlier)?;
            let is_same = earlier.is_some_and(|earlier| earlier.has(part));
            let change = match (was_there, is_same) {
                (false, _) => Change::New,
                (true, false) => Change::Changed,
                (true, true) => Change::Same,
            };
            written.push(part.written(change, self.out));
        }
        let serve = part_folder(root, &described.serve_identity()).join("serve.toml");
        serve::run::Loaded::read(&serve).map_err(|error| {
            let (description, source) = (self.description.to_owned(), Box::new(error));
            InitError::Unfit { description, source }
        })?;
        Ok(written)
    }

    /// Writes a part's folder; says whether it had papers already.
    fn write(
        &self,
        root: &Path,
        part: &Part,
        earlier: Option<&Earlier>,
    ) -> Result<bool, InitError> {
        let into = part_folder(root, &part.identity);
        let system = |source| InitError::System { path: into.clone(), source };
        make_folder(into.parent().unwrap_or(root)).map_err(system)?;
        let was_there = match earlier {
            Some(earlier) => earlier.carry_papers(&part.identity, &into)?,
            None => false,
        };
        if !was_there {
            pki::issue(&root.join(AUTHORITY), &part.identity, self.days, &into, self.now)?;
        }
        let mut entries = Vec::new();
        for (path, content) in &part.files {
            entries.push(Entry { path, mode: folder::PUBLIC, content: content.clone() });
        }
        folder::fill(&into, &entries).map_err(system)?;
        Ok(was_there)
    }
}

impl Part {
    fn written(&self, change: Change, out: &Path) -> Written {
        let folder = part_folder(out, &self.identity);
        let names = self.files.iter().map(|(name, _)| name.as_str()).chain(PAPERS);
        let files = names.map(|name| folder.join(name)).collect();
        Written { identity: self.identity.clone(), change, folder, files }
    }
}

impl Description {
    fn serve_identity(&self) -> Identity {
        let serve = &self.serve;
        let (site, name) = (serve.site.clone(), serve.name.clone());
        Identity { site, role: Role::Orchestrator, name }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(folder::FOLDER).create(path)
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
        json!({
            "authority": self.out.join(AUTHORITY),
            "parts": self.parts,
            "before": self.before,
        })
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.out.join(AUTHORITY);
        writeln!(f, "{}: the CA; keep it off every host", authority.display())?;
        for part in &self.parts {
            let change = match part.change {
                Change::New => "",
                Change::Changed => " (has another configuration)",
                Change::Same => " (as it was)",
            };
            writeln!(f, "{}{change}", part.folder.display())?;
            let Some(run) = part.run() else { continue };
            writeln!(f, "    {run}")?;
        }
        if let Some(before) = &self.before {
            writeln!(f, "{}: what was there before", before.display())?;
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
