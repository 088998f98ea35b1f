//! Why the demo ends early: each variant is another exit code, or another thing to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use guest::clients::ClientsError;
use lab::LabError;
use lab::image::ImageError;
use lab::vm_lock::VmLockError;
use ledger::report::ReportError;
use scenarios::installation::InstallationError;

/// Why the demo ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// Somebody wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// Whose rights it has.
    #[error("the demo makes namespaces, TUN devices and virtual machines: run it as root")]
    NotRoot,
    /// There is nothing to boot.
    #[error("there is nothing for the virtual machine to boot")]
    Image(#[from] ImageError),
    /// Nobody may run a virtual machine here.
    #[error("no virtual machine can be run")]
    Lock(#[from] VmLockError),
    /// The two sites cannot be made.
    #[error("the two sites could not be built on this machine")]
    World(#[source] LabError),
    /// The lab failed later.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The installation.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// What was typed did not end well.
    #[error("`{command}` ended with code {code}: {said}")]
    Refused {
        /// As it is shown.
        command: String,
        /// 0 to 255; 256 for a signal.
        code: i32,
        /// Its last words.
        said: String,
    },
    /// Something that had to come did not.
    #[error("{what}: not within {bound:?}{so_far}")]
    NotInTime {
        /// What.
        what: &'static str,
        /// The wait's bound.
        bound: Duration,
        /// What there was instead.
        so_far: String,
    },
    /// The clients.
    #[error("the clients could not do their part")]
    Clients(#[from] ClientsError),
    /// A name was not resolved.
    #[error("{name} is not resolved at {server}")]
    Unresolved {
        /// The name.
        name: &'static str,
        /// Who was asked.
        server: std::net::SocketAddr,
        /// What came instead.
        #[source]
        cause: io::Error,
    },
    /// A report that cannot be read.
    #[error("the report of the move cannot be read")]
    Report(#[from] ReportError),
    /// What a command says cannot be heard.
    #[error("what `{command}` says cannot be heard")]
    Unheard {
        /// As it is shown.
        command: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A command's answer that cannot be read.
    #[error("`{command}` answered in words that are not its own")]
    Answer {
        /// As it is shown.
        command: String,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// A file outside the lab.
    #[error("cannot {what} {}; see to its folder, or name another with --out", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl DemoError {
    /// Whether the machine is to blame, and not what ran on it.
    pub(crate) fn is_of_machine(&self) -> bool {
        matches!(
            self,
            DemoError::NotRoot | DemoError::Image(_) | DemoError::Lock(_) | DemoError::World(_)
        )
    }
}
