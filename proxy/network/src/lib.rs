//! The wanted state of the network around a VM.
//!
//! So far the VM's port alone: [`tap`] makes the interface that a network card ends on, puts it on a
//! bridge, and tells the bridge where a MAC is. `link` speaks rtnetlink for it, `clone_device` is
//! the one system call that has no safe form.

mod clone_device;
mod link;
pub mod tap;

pub use tap::{OpenTap, TapError, pin};
