//! What this host has and has room for, looked at when it is asked: what a plan weighs before a
//! move.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use orchestrator_api::{Accelerator, HostNetwork, HostView, MachineType};

use crate::config::{self, Config, Network};

const PROCESSORS: &str = "/proc/cpuinfo";
const MEMORY: &str = "/proc/meminfo";
/// Longest name of a processor that is told.
const PROCESSOR_BYTES_MAX: usize = 128;

/// Why the host cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// A file or folder cannot be looked at.
    #[error("{} cannot be looked at; see that it is there, and who may read it", path.display())]
    Look {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the kernel's does not say what it should.
    #[error("{path} does not tell {what}; report it, with the kernel's version")]
    Untold {
        /// Which.
        path: &'static str,
        /// What is missing.
        what: &'static str,
    },
}

/// The host as it is now.
///
/// # Errors
/// It cannot be looked at.
pub fn survey(config: &Config) -> Result<HostView, SurveyError> {
    let (processor, features) = processor(&read(PROCESSORS)?);
    let memory = free_memory_bytes(&read(MEMORY)?);
    let untold = SurveyError::Untold { path: MEMORY, what: "the memory that is available" };
    Ok(HostView {
        accelerator: match config.qemu.accelerator {
            config::Accelerator::Kvm => Accelerator::Kvm,
            config::Accelerator::Tcg => Accelerator::Tcg,
        },
        processor,
        processor_features: features.into_iter().collect(),
        machines: vec![MachineType::Q35V7_2],
        images: config.images.iter().map(|image| image.name.clone()).collect(),
        networks: config.networks.iter().map(network).collect(),
        disk_free_bytes: free_disk_bytes(&config.folders.disks)?,
        memory_free_bytes: memory.ok_or(untold)?,
    })
}

fn network(network: &Network) -> HostNetwork {
    HostNetwork {
        name: network.name.clone(),
        proxy: network.proxy.clone(),
        // Packets are kept back at the port and with the proxy, which must be reached for it.
        can_hold: network.proxy_address.is_some(),
    }
}

fn read(path: &str) -> Result<String, SurveyError> {
    fs::read_to_string(path).map_err(|source| SurveyError::Look { path: path.into(), source })
}

/// The first processor's name and features: a guest may run on any, so that all of them are alike
/// wherever VMs are moved. A machine that names none is told without a name.
fn processor(text: &str) -> (String, BTreeSet<String>) {
    let value = |name: &str| {
        let of = |line: &&str| line.split(':').next().is_some_and(|key| key.trim() == name);
        let line = text.lines().find(of)?;
        line.split_once(':').map(|(_, value)| value.trim())
    };
    let name = value("model name").unwrap_or("unknown");
    let features = value("flags").unwrap_or_default();
    let name = name.chars().take(PROCESSOR_BYTES_MAX).collect();
    (name, features.split_whitespace().map(ToOwned::to_owned).collect())
}

fn free_memory_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Room for whoever is not root, as QEMU is.
fn free_disk_bytes(folder: &Path) -> Result<u64, SurveyError> {
    let seen = rustix::fs::statvfs(folder)
        .map_err(|error| SurveyError::Look { path: folder.to_owned(), source: error.into() })?;
    Ok(seen.f_bavail.saturating_mul(seen.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_is_told_by_name_and_features() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz: fast\n\
                    flags\t\t: fpu sse2 avx\n\nprocessor\t: 1\nflags\t\t: fpu\n";
        let (name, features) = processor(text);
        assert_eq!(name, "Some CPU @ 2.0GHz: fast");
        assert_eq!(features.into_iter().collect::<Vec<_>>(), ["avx", "fpu", "sse2"]);
        assert_eq!(processor("nonsense"), ("unknown".to_owned(), BTreeSet::new()));
    }

    #[test]
    fn memory_that_is_not_told_is_not_made_up() {
        let told = free_memory_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n");
        assert_eq!(told, Some(2 * 1024 * 1024));
        for text in
            ["", "MemAvailable: x kB", "MemAvailable: 1", "MemAvailable: 99999999999999999999 kB"]
        {
            assert_eq!(free_memory_bytes(text), None, "{text}");
        }
        let most = format!("MemAvailable: {} kB", u64::MAX);
        assert_eq!(free_memory_bytes(&most), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = free_disk_bytes(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(free_disk_bytes(Path::new("/")).unwrap() > 0);
    }
}
