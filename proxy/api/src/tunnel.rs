//! Claims, channels and the tunnel, as they are told over the control API.

use std::path::PathBuf;

use placement::{Authority, Epoch, Identity, Pair, SiteName, VmName};
use serde::{Deserialize, Serialize};

/// A claim of a VM for one move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The next epoch and its owner.
    pub authority: Authority,
    /// Both ends. The agent that they name at this proxy's site may speak for the VM's port.
    pub pair: Pair,
}

/// A claim that was taken, and is on the proxy's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The highest epoch that the proxy has seen.
    pub epoch: Epoch,
    /// The highest that has ended there.
    pub ended: Epoch,
}

/// The right to use a channel in one move. Both ends need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantChannel {
    /// The standing claim's.
    pub authority: Authority,
    /// Where hypervisors connect to it.
    pub from: SiteName,
    /// Where it is dialled out.
    pub to: SiteName,
    /// Its bytes are worth compressing.
    #[serde(default)]
    pub compress: bool,
}

/// A channel that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelGranted {
    /// The socket to connect to; only where hypervisors connect.
    pub entrance: Option<PathBuf>,
}

/// The end of a channel's grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRevoked {
    /// Whether there was one.
    pub was_granted: bool,
}

/// The tunnel's end here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Every configured peer.
    pub peers: Vec<TunnelPeer>,
    /// VMs' packets that were dropped, by cause, of all VMs and of none.
    pub dropped: Vec<TunnelDropped>,
}

/// Packets that were dropped for one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelDropped {
    /// Which.
    pub cause: String,
    /// How many, since the proxy's start.
    pub packets: u64,
}

/// What was handed to the system for a peer and taken from it, since the proxy's start: TLS records and
/// datagrams whole, TCP's, UDP's and IP's own headers left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelWire {
    /// Handed to TCP.
    pub tcp_sent_bytes: u64,
    /// Taken from TCP.
    pub tcp_received_bytes: u64,
    /// Datagrams handed to UDP.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub datagrams_sent_bytes: u64,
    /// Datagrams taken from UDP that were authentic.
    pub datagrams_received: u64,
    /// Their bytes.
    pub datagrams_received_bytes: u64,
    /// Datagrams that were repeated, forged, or under unknown keys.
    pub datagrams_unopened: u64,
}

/// Another proxy, as seen from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPeer {
    /// Who.
    pub identity: Identity,
    /// Its control connection stands.
    pub is_connected: bool,
    /// Bulk connections that stand.
    pub bulk_connected: u8,
    /// The last round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// Its channels that have, or had, a stream.
    pub channels: Vec<TunnelChannel>,
    /// VMs' packets can be sent to it now.
    pub carries_packets: bool,
    /// Bytes on the wire.
    pub wire: TunnelWire,
}

/// A channel with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelChannel {
    /// Whose move.
    pub vm: VmName,
    /// Which move.
    pub epoch: Epoch,
    /// Its name.
    pub channel: String,
    /// Where connections enter.
    pub from: SiteName,
    /// Where they leave.
    pub to: SiteName,
    /// Streams that are not over.
    pub streams: u64,
    /// Streams that were cut off.
    pub resets: u64,
}
