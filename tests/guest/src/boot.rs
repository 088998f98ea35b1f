//! From a bare kernel to a running guest: descriptors, the interface, its addresses and routes.
//!
//! The init script has mounted /proc, /sys and /dev and loaded the drivers; busybox's `ip` is there.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::settings::{Interface, Settings, SettingsError, WORD_PREFIX};

/// The VM's one interface.
const INTERFACE: &str = "eth0";

/// Descriptors for a thousand times a few flows; the kernel's own 1,024 would be the first limit met.
const DESCRIPTORS_MAX: u64 = 65_536;

/// Why a guest cannot boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Something of the system that a VM always has is not there.
    #[error("cannot {what}; is this the lab's own VM?")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A word of the kernel's command line.
    #[error("the kernel's command line: {0}")]
    Settings(#[from] SettingsError),
    /// An `ip` command failed.
    #[error("'ip {arguments}' failed with {status}; check the address words of the command line")]
    Ip {
        /// Its arguments.
        arguments: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
}

/// Reads the kernel's command line, and sets up the VM as it says.
///
/// # Errors
/// What is missing or wrong.
pub fn prepare() -> Result<Settings, BootError> {
    let line = fs::read_to_string("/proc/cmdline")
        .map_err(|source| BootError::System { what: "read /proc/cmdline", source })?;
    let settings = Settings::from_words(line.split_whitespace(), WORD_PREFIX)?;
    let limit = Rlimit { current: Some(DESCRIPTORS_MAX), maximum: Some(DESCRIPTORS_MAX) };
    setrlimit(Resource::Nofile, limit).map_err(|error| BootError::System {
        what: "raise the descriptor limit",
        source: error.into(),
    })?;
    // The lab gives each address once; waiting for others to object would only delay the start.
    let no_detection = format!("/proc/sys/net/ipv6/conf/{INTERFACE}/accept_dad");
    fs::write(no_detection, "0")
        .map_err(|source| BootError::System { what: "set up eth0's IPv6", source })?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "set", INTERFACE, "up"])?;
    for interface in settings.addr4.iter().chain(&settings.addr6) {
        add_address(interface)?;
    }
    for gateway in settings.gw4.iter().chain(&settings.gw6) {
        add_gateway(gateway)?;
    }
    Ok(settings)
}

fn add_address(interface: &Interface) -> Result<(), BootError> {
    let address = format!("{}/{}", interface.address, interface.prefix);
    ip(&[family(&interface.address), "addr", "add", &address, "dev", INTERFACE])
}

fn add_gateway(gateway: &IpAddr) -> Result<(), BootError> {
    let address = gateway.to_string();
    ip(&[family(gateway), "route", "add", "default", "via", &address, "dev", INTERFACE])
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "-4" } else { "-6" }
}

fn ip(arguments: &[&str]) -> Result<(), BootError> {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .map_err(|source| BootError::System { what: "run 'ip'", source })?;
    let arguments = arguments.join(" ");
    if status.success() { Ok(()) } else { Err(BootError::Ip { arguments, status }) }
}
