//! Why an effect of fencing failed.

use std::io;

use network::TapError;
use placement::Release;

use super::EVEN_KIB;
use crate::copy::CopyError;
use crate::folders::FolderError;
use crate::port::PortError;
use crate::qemu::{ConnectError, MonitorError};

/// Why an effect failed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// This host has no such image.
    #[error("image '{0}' is not configured here; add an [[image]] of that name to the agent")]
    NoImage(String),
    /// This host has no such network.
    #[error("network '{0}' is not configured here; add a [[network]] of that name to the agent")]
    NoNetwork(String),
    /// Memory of a size that moves under TCG corrupt.
    #[error(
        "{0} KiB of memory is a multiple of {EVEN_KIB}, which moves under tcg corrupt; take 64 KiB less"
    )]
    EvenMemory(u64),
    /// The record has no definition.
    #[error("the record has no definition of the VM; send it with place or reserve")]
    NoDefinition,
    /// The process is gone.
    #[error("no process of the VM made by {0} is here")]
    NoProcess(Release),
    /// A process cannot be started, found or ended.
    #[error("QEMU cannot be {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was started, and cannot be reached; it was ended.
    #[error("QEMU does not come up; it says: {complaint}")]
    NotUp {
        /// The end of its log.
        complaint: String,
        /// How that showed.
        #[source]
        source: Box<HostError>,
    },
    /// Files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The network.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Monitors.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl From<MonitorError> for HostError {
    fn from(error: MonitorError) -> HostError {
        HostError::Connect(ConnectError::Monitor(error))
    }
}
