//! The proxy's configuration: `written` as in the file, `Config` as it can be run on.
//!
//! Sections of later work (services, tunnel, networks) join both structs side by side; a file that
//! is good today stays good.

use std::path::Path;

use daemon::config::{
    self, Basics, ConfigError, Problems, Told, WrittenControl, WrittenIdentity, WrittenLog,
    WrittenState,
};
use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site: Spanned<String>,
    control: WrittenControl,
    identity: WrittenIdentity,
    state: WrittenState,
    #[serde(default)]
    log: WrittenLog,
}

/// What a proxy is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What every daemon is told.
    pub basics: Basics,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Unreadable, or wrong in ways that are all named.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        config::read(path, check)
    }
}

fn check(written: Written, problems: &mut Problems<'_>) -> Result<Config, Told> {
    let Written { site, control, identity, state, log } = written;
    let basics = Basics::check(&site, &control, &identity, &state, &log, problems);
    Ok(Config { basics: basics? })
}
