//! `cargo verify`: formatting, lints, every test, once; with `--deep` longer random walks and the
//! dependency policy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::{find, is_root, output_of, run};

/// The whole of `cargo verify`, a cold build included, takes about 25 minutes on two cores.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(45 * 60);
const DEEP_TIME_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// Tells the tests that the programs they run are built already.
const PROGRAMS_BUILT: (&str, &str) = ("CAUSEWAY_PROGRAMS_BUILT", "1");
/// Tells the tests to take their time.
const DEEP: (&str, &str) = ("CAUSEWAY_DEEP", "1");

/// Tells the tests which program runs inside the guest.
const GUEST_PROGRAM: &str = "CAUSEWAY_GUEST_PROGRAM";

pub(crate) fn run_all(deep: bool) -> Result<(), Failure> {
    let time_max = if deep { DEEP_TIME_MAX } else { VERIFY_TIME_MAX };
    let started = Instant::now();
    for (title, mut command) in steps(deep, &target_folder()?.join("guest")) {
        println!("\n== {title}");
        let begun = Instant::now();
        run(&mut command, time_max.saturating_sub(started.elapsed()))?;
        println!("== {title}: {} s", begun.elapsed().as_secs());
    }
    println!("\nAll passed in {} s.", started.elapsed().as_secs());
    Ok(())
}

fn steps(deep: bool, guest: &Path) -> Vec<(&'static str, Command)> {
    let mut steps = vec![
        ("formatting", cargo(&["fmt", "--all", "--check"])),
        ("programs", cargo(&["build", "--workspace", "--bins"])),
        ("guest program", guest_program(guest)),
        ("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("tests", tests(deep, guest)),
    ];
    if deep {
        if find("cargo-deny").is_none() {
            steps.push(("dependency checker", cargo(&["install", "cargo-deny", "--locked"])));
        }
        let policy = ["deny", "check", "bans", "licenses", "sources"];
        steps.push(("dependency policy", cargo(&policy)));
    }
    steps
}

/// Inside the guest there are no libraries: its program is linked with its own, apart from all else.
fn guest_program(guest: &Path) -> Command {
    let mut command = cargo(&["rustc", "--package", "guest", "--bin", "causeway-guest"]);
    command.arg("--target-dir").arg(guest);
    command.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    command
}

/// Built as the caller, run as root.
fn tests(deep: bool, guest: &Path) -> Command {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.env(GUEST_PROGRAM, guest.join("debug/causeway-guest"));
    command.env(PROGRAMS_BUILT.0, PROGRAMS_BUILT.1);
    if deep {
        command.env(DEEP.0, DEEP.1);
    }
    if !is_root() {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
    }
    command
}

fn cargo(words: &[&str]) -> Command {
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
