//! The programs of others that the tests and the demo use, and the packages that bring them.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::machine::{Family, family};
use crate::process::{as_root, find, run};

/// Downloading and unpacking may take this long.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// A program that must be here.
struct Need {
    program: &'static str,
    /// Its package on Debian and Ubuntu.
    package: &'static str,
    /// What it is called where packages have other names.
    elsewhere: &'static str,
    purpose: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        program: "cc",
        package: "gcc",
        elsewhere: "gcc",
        purpose: "builds the C in our libraries",
    },
    Need {
        program: "ip",
        package: "iproute2",
        elsewhere: "iproute2 or iproute",
        purpose: "builds the sites of the tests",
    },
    Need {
        program: "nft",
        package: "nftables",
        elsewhere: "nftables",
        purpose: "sets the rules at a VM's port",
    },
    Need {
        program: "unshare",
        package: "util-linux",
        elsewhere: "util-linux",
        purpose: "makes namespaces",
    },
    Need {
        program: "setpriv",
        package: "util-linux",
        elsewhere: "util-linux",
        purpose: "ends programs with the test that started them",
    },
    Need {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        elsewhere: "qemu, qemu-kvm or qemu-system-x86",
        purpose: "runs the virtual machine",
    },
    Need {
        program: "dig",
        package: "bind9-dnsutils",
        elsewhere: "bind-utils, bind-tools or bind",
        purpose: "asks the name server as others do",
    },
    Need { program: "xz", package: "xz-utils", elsewhere: "xz", purpose: "unpacks kernel modules" },
    Need { program: "zstd", package: "zstd", elsewhere: "zstd", purpose: "unpacks kernel modules" },
    Need {
        program: STATIC_BUSYBOX,
        package: "busybox-static",
        elsewhere: "a statically linked busybox",
        purpose: "the guest's user space",
    },
];

const STATIC_BUSYBOX: &str = "busybox";

/// Says what is missing and installs it; asks first on a terminal, unless told not to.
pub(crate) fn install_missing(yes: bool) -> Result<(), Failure> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !is_here(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Missing on this machine:");
    for need in &missing {
        println!("  {:<20} {} (package {})", need.program, need.purpose, need.package);
    }
    if family() == Family::Other {
        let names: Vec<&str> = missing.iter().map(|need| need.elsewhere).collect();
        return Err(Failure::Machine(format!(
            "This is neither Debian nor Ubuntu, so that you have to install them: {}",
            names.join(", ")
        )));
    }
    if !yes && std::io::stdin().is_terminal() && !agreed()? {
        return Err(Failure::Machine("Nothing was installed, and nothing run.".to_owned()));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"][..], &packages].concat())?;
    match NEEDS.iter().find(|need| !is_here(need.program)) {
        None => Ok(()),
        Some(need) => Err(Failure::Machine(format!(
            "{} is still missing after {} was installed",
            need.program, need.package
        ))),
    }
}

/// Runs apt-get as root, asking it nothing.
pub(crate) fn apt(words: &[&str]) -> Result<(), Failure> {
    // `env` carries the variable through sudo, which drops the caller's.
    let mut command = as_root("env");
    command.arg("DEBIAN_FRONTEND=noninteractive").arg("apt-get").args(words);
    run(&mut command, INSTALL_TIME_MAX)
}

fn agreed() -> Result<bool, Failure> {
    print!("Install them now? [Y/n] ");
    let asked = std::io::stdout().flush();
    let mut line = String::new();
    asked
        .and_then(|()| std::io::stdin().read_line(&mut line))
        .map_err(|error| Failure::Step(format!("the terminal: {error}")))?;
    Ok(matches!(line.trim(), "" | "y" | "Y" | "yes"))
}

fn is_here(program: &str) -> bool {
    find(program).is_some_and(|file| program != STATIC_BUSYBOX || is_static(&file))
}

/// A guest without libraries cannot run a program that needs them.
fn is_static(file: &Path) -> bool {
    Command::new("ldd").arg(file).output().is_ok_and(|output| !output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_says_how_to_meet_it() {
        for need in NEEDS {
            let words = [need.program, need.package, need.elsewhere, need.purpose];
            assert!(words.iter().all(|word| !word.is_empty()), "{}", need.program);
        }
    }

    #[test]
    fn a_program_with_libraries_is_not_static() {
        assert!(!is_static(&find("sh").expect("a shell is here")));
    }
}
