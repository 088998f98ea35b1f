//! QEMU on this host: the processes of one VM, and what is done to them.
//!
//! [`host`] carries out the effects of fencing, [`process`] is one QEMU held fast, [`monitor`] talks
//! to it, [`command_line`] makes it what the definition says, [`spawn`] starts it.

mod command_line;
mod host;
mod monitor;
mod process;
mod spawn;

pub use host::HostError;
pub(crate) use host::QemuHost;
pub use monitor::MonitorError;
pub(crate) use monitor::{Event, Monitor, Position};
pub use process::ConnectError;
pub(crate) use process::Monitors;
