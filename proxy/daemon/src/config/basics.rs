//! The sections that every daemon's configuration begins with, written and checked.
//!
//! ```toml
//! site = "a"
//!
//! [control]
//! listen = "192.0.2.10:7401"
//!
//! [identity]                     # paths are relative to this file
//! certificate = "certificate.pem"
//! key = "key.pem"
//! authority = "ca.pem"
//!
//! [state]
//! folder = "/var/lib/causeway/proxy"
//!
//! [log]                          # optional
//! level = "info"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use placement::SiteName;
use serde::Deserialize;
use toml::Spanned;

use super::{Problems, Told, beside};
use crate::identity::IdentityPaths;
use crate::telemetry::{LEVEL_DEFAULT, level_is_valid};

/// `[control]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenControl {
    listen: Spanned<String>,
}

/// `[identity]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenIdentity {
    certificate: Spanned<String>,
    key: Spanned<String>,
    authority: Spanned<String>,
}

/// `[state]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenState {
    folder: Spanned<String>,
}

/// `[log]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenLog {
    level: Option<Spanned<String>>,
}

/// Where a daemon stands, who it is, where it listens, what it remembers and how much it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basics {
    /// The site it belongs to; its certificate must say the same.
    pub site: SiteName,
    /// Where the control server listens.
    pub listen: SocketAddr,
    /// Its certificate, key and CA.
    pub identity: IdentityPaths,
    /// The folder of its state files.
    pub state_folder: PathBuf,
    /// How much it logs, unless the command line or the environment says otherwise.
    pub log_level: String,
}

impl Basics {
    /// Checks the five sections; every problem is recorded, not only the first.
    ///
    /// # Errors
    /// At least one problem was recorded.
    pub fn check(
        site: &Spanned<String>,
        control: &WrittenControl,
        identity: &WrittenIdentity,
        state: &WrittenState,
        log: &WrittenLog,
        problems: &mut Problems<'_>,
    ) -> Result<Basics, Told> {
        let site = problems.parse("site", site);
        let listen = control.listen.get_ref().parse::<SocketAddr>().map_err(|_| {
            let message = "is no address with a port; write 192.0.2.10:7401 or [2001:db8::10]:7401";
            problems.at(control.listen.span(), "control.listen", message)
        });
        let certificate = path("identity.certificate", &identity.certificate, problems);
        let key = path("identity.key", &identity.key, problems);
        let authority = path("identity.authority", &identity.authority, problems);
        let state_folder = path("state.folder", &state.folder, problems);
        let log_level = level(log, problems);
        Ok(Basics {
            site: site?,
            listen: listen?,
            identity: IdentityPaths { certificate: certificate?, key: key?, authority: authority? },
            state_folder: state_folder?,
            log_level: log_level?,
        })
    }
}

fn path(
    field: &str,
    written: &Spanned<String>,
    problems: &mut Problems<'_>,
) -> Result<PathBuf, Told> {
    if written.get_ref().is_empty() {
        return Err(problems.at(written.span(), field, "is empty; write a path"));
    }
    Ok(beside(problems.path(), Path::new(written.get_ref())))
}

fn level(written: &WrittenLog, problems: &mut Problems<'_>) -> Result<String, Told> {
    let Some(level) = &written.level else { return Ok(LEVEL_DEFAULT.to_owned()) };
    if level_is_valid(level.get_ref()) {
        return Ok(level.get_ref().clone());
    }
    let message = "is no log level; write error, warn, info, debug or trace";
    Err(problems.at(level.span(), "log.level", message))
}
