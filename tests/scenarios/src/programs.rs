//! Where the programs under test lie: beside the test's own executable, built from the same tree.

use std::path::PathBuf;

/// The built program `name`.
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has an executable");
    let deps = test.parent().expect("an executable lies in a folder");
    let program = deps.parent().unwrap_or(deps).join(name);
    let path = program.display();
    assert!(program.is_file(), "{path} is missing: run `cargo build --workspace` first");
    program
}
