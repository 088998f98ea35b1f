//! Sockets, TLS and time around the protocol.
//!
//! For each peer a session behind a lock (`peer`), two tasks for each connection (`lane`), two
//! for each stream (`relay`), one that watches the clock, and one that answers asks. Every task
//! moves bytes only as fast as the session lets it: no queue is in between. VMs' packets pass beside
//! them (`packets`), under keys that each control connection's TLS session exports.

mod accept;
mod barrier;
mod channels;
mod clock;
mod counted;
mod dial;
mod lane;
mod local;
mod options;
mod packets;
mod peer;
mod plan;
mod relay;
mod report;
mod tunnel;

pub use barrier::BarrierError;
pub use counted::WireCount;
pub use local::EntranceError;
pub use packets::{LinkCount, PacketDevice, PacketError, PacketPlan};
pub use plan::{Credentials, PeerPlan, Reach, StartError, TunnelPlan};
pub use report::{ChannelStatus, PeerStatus, Status, TunnelEvent};
use tunnel::Inner;
pub use tunnel::{ChannelError, ChannelOptions, Tunnel};
