//! Whether this machine can run the tests at all. A test that cannot run must not pass silently, so
//! that this is found out, and said, before the first one starts.

use std::process::Command;

use crate::Failure;
use crate::process::{as_root, find, is_root, output_of};

/// What no package can bring: the system, the processor, rights.
pub(crate) fn check() -> Result<(), Failure> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let words =
            "A real x86-64 virtual machine is moved here, under Linux: run this on such a machine.";
        return Err(Failure::Machine(words.to_owned()));
    }
    if !is_root() && find("sudo").is_none() {
        let words = "Neither root nor sudo is here. This makes network namespaces, TUN devices and \
                     virtual machines: run it as root, or install sudo.";
        return Err(Failure::Machine(words.to_owned()));
    }
    Ok(())
}

/// What the running kernel must allow.
pub(crate) fn check_kernel_features() -> Result<(), Failure> {
    let mut namespaces = as_root("unshare");
    namespaces.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "true"]);
    output_of(&mut namespaces).map_err(|failure| {
        machine(
            &failure,
            "this machine does not let root make namespaces; a container needs --privileged",
        )
    })?;
    let mut tun = as_root("sh");
    tun.args(["-c", "exec 3<>/dev/net/tun"]);
    output_of(&mut tun).map_err(|failure| {
        machine(
            &failure,
            "/dev/net/tun cannot be opened: load the tun module, or pass the device in",
        )
    })?;
    Ok(())
}

fn machine(failure: &Failure, words: &str) -> Failure {
    let (Failure::Usage(cause) | Failure::Machine(cause) | Failure::Step(cause)) = failure;
    Failure::Machine(format!("{words} ({cause})"))
}

/// The distribution's family, from its own words about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Debian,
    Ubuntu,
    Other,
}

pub(crate) fn family() -> Family {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let apt = Command::new("apt-get").arg("--version").output().is_ok();
    if apt { family_of(&release) } else { Family::Other }
}

fn family_of(release: &str) -> Family {
    let value = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    let words = format!("{} {}", value("ID"), value("ID_LIKE"));
    let says = |name: &str| words.split_whitespace().any(|word| word == name);
    if says("ubuntu") {
        Family::Ubuntu
    } else if says("debian") {
        Family::Debian
    } else {
        Family::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_what_they_say_of_themselves() {
        assert_eq!(family_of("NAME=x\nID=debian\n"), Family::Debian);
        assert_eq!(family_of("ID=ubuntu\nID_LIKE=debian\n"), Family::Ubuntu);
        assert_eq!(family_of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Family::Ubuntu);
        assert_eq!(family_of("ID=fedora\n"), Family::Other);
        assert_eq!(family_of(""), Family::Other);
    }
}
