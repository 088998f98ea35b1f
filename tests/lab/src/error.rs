//! What a caller of the lab can be told: each variant is another thing to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program of ours is not where builds put it.
    #[error("{name} is not in {}: {remedy}", folder.display())]
    ProgramMissing {
        /// The program.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// Cargo could not build the workspace's programs.
    #[error(
        "the workspace's programs do not build ({status}): run `cargo build --workspace --bins` and mend what it says"
    )]
    ProgramsDoNotBuild {
        /// How cargo ended.
        status: ExitStatus,
    },
    /// A place could not be made.
    #[error(
        "place {place} did not come up: {reason}; the lab needs root, namespaces, overlay and tmpfs"
    )]
    PlaceNotMade {
        /// The place's name.
        place: String,
        /// What its first process said.
        reason: String,
    },
    /// A place's first process is gone, and all its processes with it.
    #[error("place {place} has ended; nothing can be asked of it any more")]
    PlaceEnded {
        /// The place's name.
        place: String,
    },
    /// A program could not be started.
    #[error("{program} was not started in {place}: {reason}")]
    NotStarted {
        /// The program.
        program: String,
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// A command ran and failed.
    #[error("`{command}` in {place} failed ({status}): {stderr}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// Where it ran.
        place: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Something did not happen within its bound.
    #[error("{what} did not happen within {bound:?}")]
    TookTooLong {
        /// What was waited for.
        what: String,
        /// How long.
        bound: Duration,
    },
    /// The kernel or a file refused.
    #[error("cannot {what}")]
    Refused {
        /// What was tried, with its object.
        what: String,
        /// The kernel's answer.
        #[source]
        cause: io::Error,
    },
    /// A tool of the system answered what the lab cannot read.
    #[error("`{command}` answered what cannot be read: {reason}")]
    Unreadable {
        /// The tool's command line.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A description that cannot be built.
    #[error("this world cannot be built: {reason}")]
    BadPlan {
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl LabError {
    pub(crate) fn refused(what: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self::Refused { what: what.into(), cause: cause.into() }
    }

    pub(crate) fn file(verb: &str, path: &Path, cause: impl Into<io::Error>) -> Self {
        Self::refused(format!("{verb} {}", path.display()), cause)
    }
}
