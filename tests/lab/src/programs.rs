//! Where a test finds the programs that it starts: beside its own executable, built from the very
//! sources that the test was built from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::LabError;

/// Set to 1 by who has built the workspace already; the lab then only looks.
pub const BUILT: &str = "CAUSEWAY_PROGRAMS_BUILT";

/// The path of one of the workspace's programs. The first call of a test's process builds them all;
/// a program that asks for its neighbours was built with them and only looks.
pub fn path(name: &str) -> Result<PathBuf, LabError> {
    let folder = folder()?;
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    Err(LabError::ProgramMissing {
        name: name.to_owned(),
        folder,
        remedy: "run `cargo build --workspace --bins`, or unset CAUSEWAY_PROGRAMS_BUILT",
    })
}

/// The folder that holds the workspace's programs; a place keeps it in sight.
pub fn folder() -> Result<PathBuf, LabError> {
    static BUILT_FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT_FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = &*built {
        return Ok(folder.clone());
    }
    let executable = env::current_exe()
        .map_err(|cause| LabError::refused("find the running executable", cause))?;
    let (folder, is_test) = beside(&executable);
    let is_built = env::var_os(BUILT).is_some_and(|value| value == "1");
    if is_test && !is_built {
        build()?;
    }
    *built = Some(folder.clone());
    Ok(folder)
}

/// Cargo puts tests into `deps` and examples into `examples`, below the programs.
fn beside(executable: &Path) -> (PathBuf, bool) {
    let folder = executable.parent().unwrap_or(Path::new("/"));
    let is_test = folder.ends_with("deps") || folder.ends_with("examples");
    match folder.parent() {
        Some(above) if is_test => (above.to_owned(), true),
        _ => (folder.to_owned(), false),
    }
}

fn build() -> Result<(), LabError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|cause| LabError::refused("run cargo to build the workspace", cause))?;
    if status.success() { Ok(()) } else { Err(LabError::ProgramsDoNotBuild { status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_looks_above_its_own_folder_and_a_program_beside_itself() {
        let test = beside(Path::new("/t/debug/deps/world-1f"));
        assert_eq!(test, (PathBuf::from("/t/debug"), true));
        let program = beside(Path::new("/t/debug/causeway-lab"));
        assert_eq!(program, (PathBuf::from("/t/debug"), false));
    }

    #[test]
    fn a_program_that_does_not_exist_is_named_with_the_remedy() {
        let message = path("causeway-nothing").unwrap_err().to_string();
        assert!(message.contains("causeway-nothing"), "{message}");
        assert!(message.contains("cargo build --workspace --bins"), "{message}");
    }
}
