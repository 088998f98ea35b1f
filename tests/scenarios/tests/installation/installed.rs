//! What `causeway init` makes of an example.

use std::path::PathBuf;
use std::process::Command;

use daemon::identity::{Credentials, IdentityPaths};
use lab::programs;
use placement::Identity;
use scenarios::installation::{Installation, Part, description};
use serde_json::Value;
use tempfile::TempDir;

/// An installation that no host has yet.
pub(crate) struct Installed {
    home: TempDir,
    pub(crate) read: Installation,
}

impl Installed {
    pub(crate) fn of(example: &str) -> Installed {
        let home = tempfile::tempdir().unwrap();
        let (description, out) = (description(example), home.path().join("out"));
        let words = ["init", description.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let told = said("causeway", &[&words[..], &["--json"]].concat(), 0);
        let read = Installation::read(&out).unwrap();
        tells_what_is_there(&serde_json::from_str(&told).unwrap(), &read);
        Installed { home, read }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    #[track_caller]
    pub(crate) fn part(&self, identity: &str) -> &Part {
        self.read.part(identity).unwrap_or_else(|| panic!("no {identity} was made"))
    }
}

pub(crate) fn credentials(part: &Part) -> Credentials {
    Credentials::load(&IdentityPaths {
        certificate: part.folder().join("certificate.pem"),
        key: part.folder().join("key.pem"),
        authority: part.folder().join("ca.pem"),
    })
    .unwrap()
}

/// Parts and files, each told once, are those that are there.
fn tells_what_is_there(told: &Value, read: &Installation) {
    let told = told["parts"].as_array().unwrap();
    assert_eq!(told.len(), read.parts().len());
    for part in told {
        let identity: Identity = serde_json::from_value(part["identity"].clone()).unwrap();
        let there = read.part(&identity.to_string()).unwrap();
        let path = |value: &Value| PathBuf::from(value.as_str().unwrap());
        assert_eq!(path(&part["folder"]), there.folder());
        let mut files: Vec<PathBuf> = part["files"].as_array().unwrap().iter().map(path).collect();
        assert_eq!(files[0], there.configuration(), "the configuration is told first");
        files.sort();
        assert_eq!(files, there.files().unwrap());
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
