//! Building what the tests and the demo run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::process::output_of;

/// Names, to tests and demo, the program that runs inside the guest.
pub(crate) const GUEST_PROGRAM: &str = "CAUSEWAY_GUEST_PROGRAM";

/// Every program that is started beside the tests.
pub(crate) fn build() -> Command {
    cargo(&["build", "--workspace", "--bins"])
}

/// Inside the guest there are no libraries: its program is linked with its own, apart from all else.
pub(crate) fn build_guest(target: &Path) -> Command {
    let mut command = cargo(&["rustc", "--package", "guest", "--bin", "causeway-guest"]);
    command.arg("--target-dir").arg(target.join("guest"));
    command.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    command
}

/// Where that one lies then.
pub(crate) fn guest(target: &Path) -> PathBuf {
    target.join("guest/debug/causeway-guest")
}

pub(crate) fn cargo(words: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(words);
    command
}

/// Where cargo builds, and where what is fetched lies.
pub(crate) fn target_folder() -> Result<PathBuf, Failure> {
    let words = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let metadata = output_of(&mut cargo(&words))?;
    // One string out of a JSON text: a parser would be a dependency.
    let found = metadata
        .split_once("\"target_directory\":\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(folder, _)| PathBuf::from(folder));
    found.ok_or_else(|| Failure::Step("cargo metadata names no target folder".to_owned()))
}
