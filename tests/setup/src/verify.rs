//! `cargo verify`: formatting, lints, every test, once; with `--deep` longer random walks and the
//! dependency policy.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::{find, is_root, run};
use crate::programs::{self, GUEST_PROGRAM, cargo, target_folder};

/// The whole of `cargo verify`, a cold build included, takes about 25 minutes on two cores.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(45 * 60);
const DEEP_TIME_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// Tells the tests that the programs they run are built already.
const PROGRAMS_BUILT: (&str, &str) = ("CAUSEWAY_PROGRAMS_BUILT", "1");
/// Tells the tests to take their time.
const DEEP: (&str, &str) = ("CAUSEWAY_DEEP", "1");

pub(crate) fn run_all(deep: bool) -> Result<(), Failure> {
    let time_max = if deep { DEEP_TIME_MAX } else { VERIFY_TIME_MAX };
    let started = Instant::now();
    for (title, mut command) in steps(deep, &target_folder()?) {
        println!("\n== {title}");
        let begun = Instant::now();
        run(&mut command, time_max.saturating_sub(started.elapsed()))?;
        println!("== {title}: {} s", begun.elapsed().as_secs());
    }
    println!("\nAll passed in {} s.", started.elapsed().as_secs());
    Ok(())
}

fn steps(deep: bool, target: &Path) -> Vec<(&'static str, Command)> {
    let mut steps = vec![
        ("formatting", cargo(&["fmt", "--all", "--check"])),
        ("programs", programs::build()),
        ("guest program", programs::build_guest(target)),
        ("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("tests", tests(deep, target)),
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

/// Built as the caller, run as root.
fn tests(deep: bool, target: &Path) -> Command {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.env(GUEST_PROGRAM, programs::guest(target));
    command.env(PROGRAMS_BUILT.0, PROGRAMS_BUILT.1);
    if deep {
        command.env(DEEP.0, DEEP.1);
    }
    if !is_root() {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
    }
    command
}
