//! Packets of VMs that move: held while a VM runs nowhere, shipped ahead, released where it runs,
//! and after that carried by datagram both ways.
//!
//! - [`plan`]: where a VM's packets go, as the proxy says it.
//! - [`ways`]: what becomes of each packet and message; [`admission`]: what a peer may send.
//! - [`message`]: what goes over the reliable control stream.
//! - [`inner`]: a VM's packet; [`datagram`], [`keys`]: how one crosses the WAN by UDP.

pub mod admission;
pub mod datagram;
mod incoming;
pub mod inner;
mod kept;
pub mod keys;
pub mod message;
mod outgoing;
pub mod plan;
mod way;
pub mod ways;

pub use admission::Dropped;
pub use message::PacketMessage;
pub use plan::{LeftInPort, OwnSite, Stand, Talks, Tuple, Way};
pub use way::WayCounts;
pub use ways::{Outlet, WayError, Ways};
