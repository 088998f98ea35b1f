//! The wanted state of the network around a VM, and nothing that decides it.
//!
//! Two halves. The [`port`] side is the agent's: the VM's own tap on its hypervisor's bridge, and
//! the rules there. The [`leg`] side is the proxy's: its interface on the application subnet, in a
//! network [`namespace`] of ours, with a TUN beside it whose other end is the tunnel.
//!
//! `netlink` speaks rtnetlink, `nft` the packet rules; `clone_device`, `own_namespace` and
//! `packet_socket` are the system calls that have no safe form.

mod clone_device;
mod error;
pub mod leg;
mod mac;
pub mod namespace;
mod netlink;
mod nft;
mod own_namespace;
mod packet_socket;
pub mod port;
pub mod tap;
mod tuples;
mod vm;

pub use error::NetworkError;
pub use mac::{Mac, NoMac};
pub use namespace::Namespace;
pub use netlink::PROTOCOL;
pub use port::{Port, PortWanted, TapQueue};
pub use tap::{OpenTap, TapError, pin};
pub use tuples::TUPLES_MAX;
pub use vm::{Guest, Tuple, VmTag};
