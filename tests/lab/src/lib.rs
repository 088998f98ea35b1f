//! The lab: data centers built from namespaces on one machine, for tests and the demo alike.
//!
//! The journey of a test: [`programs`] finds what was built, [`sandbox`] makes a place that shares
//! nothing with its neighbours, [`host`] is one machine of such a place, [`world`] builds places
//! into sites with clients, a WAN and management around them, [`witness`] watches who speaks as a
//! VM, and [`snapshot`] shows what was left behind. The lab looks at the system with `ip`, `nft`
//! and `ss` alone, never with the code that it judges.

mod allocated;
mod carrier;
pub mod clients;
mod error;
pub mod host;
pub mod image;
mod kernel;
pub mod programs;
pub mod qemu_args;
pub mod qmp;
pub mod sandbox;
pub mod snapshot;
pub mod vm;
pub mod vm_lock;
pub mod witness;
pub mod world;

pub use allocated::allocated_bytes;
pub use error::LabError;
