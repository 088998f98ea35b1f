//! What `causeway init` makes of an example.

use std::path::{Path, PathBuf};
use std::process::Command;

use daemon::identity::{Credentials, IdentityPaths};
use lab::programs;
use placement::Identity;
use serde_json::Value;
use tempfile::TempDir;

/// An installation that no host has yet.
pub(crate) struct Installed {
    home: TempDir,
    pub(crate) parts: Vec<Part>,
}

/// One part's folder.
pub(crate) struct Part {
    pub(crate) identity: Identity,
    pub(crate) folder: PathBuf,
    /// The configuration first.
    pub(crate) files: Vec<PathBuf>,
}

/// An example's description.
pub(crate) fn description(example: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    examples.join(example).join("causeway.toml")
}

impl Installed {
    pub(crate) fn of(example: &str) -> Installed {
        let home = tempfile::tempdir().unwrap();
        let (description, out) = (description(example), home.path().join("out"));
        let words = ["init", description.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let told = said("causeway", &[&words[..], &["--json"]].concat(), 0);
        let told: Value = serde_json::from_str(&told).unwrap();
        let parts = told["parts"].as_array().unwrap().iter().map(Part::told).collect();
        Installed { home, parts }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    #[track_caller]
    pub(crate) fn part(&self, identity: &str) -> &Part {
        let found = self.parts.iter().find(|part| part.identity.to_string() == identity);
        found.unwrap_or_else(|| panic!("no {identity} was made"))
    }
}

impl Part {
    fn told(told: &Value) -> Part {
        let path = |value: &Value| PathBuf::from(value.as_str().unwrap());
        Part {
            identity: serde_json::from_value(told["identity"].clone()).unwrap(),
            folder: path(&told["folder"]),
            files: told["files"].as_array().unwrap().iter().map(path).collect(),
        }
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.files[0].clone()
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::load(&IdentityPaths {
            certificate: self.folder.join("certificate.pem"),
            key: self.folder.join("key.pem"),
            authority: self.folder.join("ca.pem"),
        })
        .unwrap()
    }
}

/// What a program says on both outputs; it must end with this code.
#[track_caller]
pub(crate) fn said(program: &str, words: &[&str], code: i32) -> String {
    let mut command = Command::new(programs::path(program).unwrap());
    let output = command.args(words).env_remove("RUST_LOG").output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{program} {words:?}: {said}");
    said
}
