//! The certificates that all parts of an installation know each other by.
//!
//! One CA, made once, its key in a folder apart that no running part ever reads. Under it one
//! certificate for each part, whose only URI says site, role and name; that URI is what the other
//! end compares. A bundle is a folder with one part's certificate and key, and the CA's
//! certificate: nobody else's key is ever in it.
//!
//! A folder appears whole or not at all.
//!
//! The CA has no name constraints: the verifier in use refuses every URI under a URI constraint,
//! and they could not tell sites or roles apart, which stand in the URI's path. It may sign no
//! further CA.

mod authority;
pub(crate) mod folder;
mod leaf;
mod validity;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use placement::Identity;
use serde_json::{Value, json};

pub use authority::init;
pub use leaf::issue;

/// How long a CA is valid.
pub const AUTHORITY_DAYS: u32 = 3_650;
/// How long a part's certificate is valid where nobody says otherwise.
pub const LEAF_DAYS: u32 = 365;
/// Certificates begin this long before they are made, because clocks differ.
pub const BACKDATED_S: u64 = 3_600;

/// What a command has written.
#[derive(Debug)]
pub struct Written {
    identity: Option<Identity>,
    valid_until: SystemTime,
    files: Vec<PathBuf>,
}

impl Written {
    /// For programs.
    #[must_use]
    pub fn as_json(&self) -> Value {
        json!({
            "identity": self.identity,
            "valid_until": validity::text(self.valid_until),
            "valid_until_s": daemon::unix_s(self.valid_until),
            "files": self.files,
        })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => writeln!(f, "Issued {identity}")?,
            None => writeln!(f, "Made a CA")?,
        }
        writeln!(f, "valid until {}", validity::text(self.valid_until))?;
        for file in &self.files {
            writeln!(f, "  {}", file.display())?;
        }
        Ok(())
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The folder to make holds something.
    #[error("{}: exists and is not empty; nothing is overwritten: choose another folder", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder to make has no folder to stand in.
    #[error("{}: cannot be made, for {} does not exist; run: mkdir -p {}", path.display(), outer.display(), outer.display())]
    Nowhere {
        /// The folder.
        path: PathBuf,
        /// What it should stand in.
        outer: PathBuf,
    },
    /// The system refused.
    #[error("{}: cannot be {action}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What was being done to it.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder holds no CA that can sign.
    #[error("{}: is no CA of `causeway pki init` ({why}); check --pki", path.display())]
    NoAuthority {
        /// The file that shows it.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Others may read the CA's key.
    #[error(
        "{}: the CA's key may be read by others (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    KeyOpen {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The CA has ended.
    #[error("{}: this CA ended on {ended}; make a new one with `causeway pki init`", path.display())]
    Ended {
        /// The CA's certificate.
        path: PathBuf,
        /// When.
        ended: String,
    },
    /// A certificate would outlive its CA.
    #[error(
        "{days} days are more than the CA itself has left (until {ended}); use --days {days_max} or less"
    )]
    Outlives {
        /// What was asked for.
        days: u32,
        /// What could be asked for.
        days_max: u64,
        /// When the CA ends.
        ended: String,
    },
    /// The certificate cannot be made.
    #[error("no certificate can be made of this; report it")]
    Certificate(#[from] rcgen::Error),
}

#[cfg(test)]
mod tests;
