//! `cargo demo`: builds the programs and becomes the demo, as root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::process::{as_root, is_root, run};
use crate::programs::{self, GUEST_PROGRAM, target_folder};

/// A first build takes some five minutes on two cores.
const BUILD_TIME_MAX: Duration = Duration::from_secs(45 * 60);

/// Does not come back, but for a failure: a Ctrl-C is then for the demo alone, and the shell waits
/// until it has taken everything away.
pub(crate) fn become_it(words: &[String]) -> Result<(), Failure> {
    let target = target_folder()?;
    for mut step in [programs::build(), programs::build_guest(&target)] {
        run(&mut step, BUILD_TIME_MAX)?;
    }
    if !is_root() {
        println!(
            "The demo makes namespaces, TUN devices and a virtual machine: it runs with sudo."
        );
    }
    let mut demo = demo(&target, words);
    let error = demo.exec();
    Err(Failure::Step(format!("{}: {error}", demo.get_program().to_string_lossy())))
}

/// `env` carries the variable through sudo, which drops the caller's.
fn demo(target: &Path, words: &[String]) -> Command {
    let mut command = as_root("env");
    command.arg(format!("{GUEST_PROGRAM}={}", programs::guest(target).display()));
    command.arg(target.join("debug/causeway-demo")).args(words);
    command
}
