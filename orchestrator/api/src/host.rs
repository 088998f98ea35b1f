//! What an agent shows of its host: what a plan weighs before a move.

use placement::PartName;
use serde::{Deserialize, Serialize};

use crate::definition::MachineType;

/// `GET`, viewer and up: [`HostView`].
pub const HOST_PATH: &str = "/v1/host";

/// A hypervisor's host, as last looked at: now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// What runs the guests' instructions.
    pub accelerator: Accelerator,
    /// The processor's name, in its own words.
    pub processor: String,
    /// What it can do, by the kernel's names for it, sorted.
    pub processor_features: Vec<String>,
    /// Machine types that it can make.
    pub machines: Vec<MachineType>,
    /// What VMs can boot, by name.
    pub images: Vec<PartName>,
    /// What VMs can be connected to.
    pub networks: Vec<HostNetwork>,
    /// Room for disks.
    pub disk_free_bytes: u64,
    /// Memory that a new process could have.
    pub memory_free_bytes: u64,
}

/// A network at a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// What definitions call it.
    pub name: PartName,
    /// The proxy whose leg stands on it.
    pub proxy: PartName,
    /// Whether packets can be kept back at the VM's port there.
    pub can_hold: bool,
}

/// What runs the guests' instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU itself.
    Tcg,
}
