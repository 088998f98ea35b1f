//! What an orchestrator tells proxies of a VM that moves, and what a proxy says of it.
//!
//! ```text
//! claim -> stage (both ends) -> ... the agents' calls of `port` ... -> redirect (every proxy)
//!       \-> unstage -> give back                                       -> reclaim, once drained
//! home, where it runs, once every place that it left is reclaimed
//! ```
//!
//! Each names its authority and is idempotent: a repetition finds what it wants and gets the same
//! answer. What is older than what the proxy has seen is refused.

use std::net::IpAddr;

use placement::{Authority, Epoch, Identity, Owner, PartName, SiteName, VmName};
use serde::{Deserialize, Serialize};

use crate::{Conversation, FlowId, Mac};

/// Addresses of one VM on one network.
pub const VM_ADDRESSES_MAX: usize = 64;
/// Places that one VM has flows at, besides the one where it is.
pub const VM_PLACES_MAX: usize = 8;
/// Machines that one VM talked to at all of them, handed over with it.
pub const VM_PEERS_MAX: usize = 4_000;
/// Conversations handed over when a VM is staged; later ones come with the leftovers.
pub const VM_CONVERSATIONS_MAX: usize = 4_096;

/// Where a VM is, or is to be: a network, and the proxy whose leg stands on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The site.
    pub site: SiteName,
    /// Its proxy there.
    pub proxy: PartName,
    /// The network, by the name that this proxy has for it.
    pub network: PartName,
}

/// A VM's card on its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, link-local ones left out; at most [`VM_ADDRESSES_MAX`].
    pub addresses: Vec<IpAddr>,
}

/// A machine that the VM talks to at the site that it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC; none where a proxy stood between it and the VM's port.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// It is a gateway of the subnet.
    #[serde(default)]
    pub is_gateway: bool,
    /// A machine at the place where the VM is going has the same address.
    #[serde(default)]
    pub is_there_too: bool,
}

/// A place that the VM has been at, or is about to leave, and whom it goes on talking to there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// Where.
    pub place: Place,
    /// The addresses of the leg there, as that proxy tells them: the VM answers its flows at these.
    pub leg: Vec<IpAddr>,
    /// The gateways there, as that proxy tells them.
    pub gateways: Vec<IpAddr>,
    /// Whom the VM has been seen to talk to there; at most [`VM_PEERS_MAX`].
    pub neighbours: Vec<Neighbour>,
    /// What it has been seen to talk about with them; at most [`VM_CONVERSATIONS_MAX`].
    pub conversations: Vec<Conversation>,
}

/// Every place that a VM goes on talking to from where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The one that it came from last is the first.
    pub places: Vec<Elsewhere>,
}

/// The next placement, told to both ends of a move. At the place where the VM is going it sets what
/// changes no packet's way; at the other the proxy remembers where to. One that the VM left earlier
/// lets it speak from there, too, from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The standing claim's.
    pub authority: Authority,
    /// Where the VM runs.
    pub from: Place,
    /// Where it is to run.
    pub to: Place,
    /// The VM itself.
    pub card: Card,
    /// `from`, and each earlier place whose flows the VM still has; at most [`VM_PLACES_MAX`].
    pub elsewhere: Vec<Elsewhere>,
}

/// A call about a VM under its standing claim, which the orchestrator makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfMove {
    /// The standing claim's.
    pub authority: Authority,
}

/// The VM runs at `placement` from now on, as every proxy hears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The move's.
    pub authority: Authority,
    /// Where it runs.
    pub placement: Place,
}

/// What stands for a VM that has left is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reclaim {
    /// The move that took the VM away from here. A later one that has begun here is not undone.
    pub release: Epoch,
    /// Flows that live are broken off rather than waited for.
    #[serde(default)]
    pub force: bool,
}

/// Nothing stands for the VM any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaimed {
    /// Flows that were broken off for it.
    pub broken_off: Vec<FlowId>,
}

/// Nobody that the VM talks to is elsewhere any more, and this proxy stands in for nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The move that brought it here, as proxies were told last.
    pub epoch: Epoch,
    /// Whom its port has seen it speak with; at most [`VM_PEERS_MAX`].
    pub peers: Vec<IpAddr>,
    /// What still comes through the tunnel for it is no reason to wait.
    #[serde(default)]
    pub force: bool,
}

/// The VM is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtHome {
    /// Of the network's gateways, of those that it spoke with elsewhere and of those that were named:
    /// whoever is on the leg's own network, by the MAC that it answers with there.
    pub neighbours: Vec<Neighbour>,
}

/// Every VM that a proxy remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vms {
    /// In the order of their names.
    pub vms: Vec<Vm>,
}

/// What a proxy knows of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its name.
    pub vm: VmName,
    /// The highest epoch that has been seen here.
    pub epoch: Epoch,
    /// Whose that is.
    pub owner: Option<Owner>,
    /// The highest epoch that ended here.
    pub ended: Epoch,
    /// Where it runs, as far as this proxy was told.
    pub placement: Option<Place>,
    /// Its way through this proxy; none where the proxy has no part in it.
    pub way: Option<VmWay>,
}

/// A VM's way through a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmWay {
    /// Which way.
    pub kind: WayKind,
    /// The move that it is of.
    pub epoch: Epoch,
    /// The proxies at its other end.
    pub peers: Vec<Identity>,
    /// The VM itself.
    pub card: Card,
    /// Of the packets that went it. Since the proxy's start: they are counted in memory.
    pub packets: Option<WayPackets>,
}

/// Which way the packets of a VM go at a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayKind {
    /// It runs here, and is to go: nothing has changed yet.
    Leaving,
    /// It is to come here: what is sent ahead waits.
    Staged,
    /// It is being moved away: what is for it is kept back.
    Holding,
    /// It is away: what is for it goes through the tunnel.
    Away,
    /// It runs here, and others elsewhere are reached through the tunnel.
    Hosting,
}

impl WayKind {
    /// Every way.
    pub const ALL: [WayKind; 5] =
        [WayKind::Leaving, WayKind::Staged, WayKind::Holding, WayKind::Away, WayKind::Hosting];

    /// As in JSON, and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WayKind::Leaving => "leaving",
            WayKind::Staged => "staged",
            WayKind::Holding => "holding",
            WayKind::Away => "away",
            WayKind::Hosting => "hosting",
        }
    }
}

/// What was counted on a way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayPackets {
    /// Kept back for a move.
    pub held: u64,
    /// Bytes of those that are kept now.
    pub held_bytes_now: u64,
    /// Of what was kept back, given to the VM.
    pub released: u64,
    /// Sent through the tunnel.
    pub sent: u64,
    /// Received from it and handed on.
    pub received: u64,
    /// Dropped because more was held than may be.
    pub dropped_overflow: u64,
    /// Dropped because they were not allowed.
    pub dropped_refused: u64,
    /// Dropped for any other reason.
    pub dropped_other: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_called_in_metrics_as_in_json() {
        for kind in WayKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn a_stage_that_says_more_than_is_known_is_refused() {
        let place =
            |site: &str| serde_json::json!({ "site": site, "proxy": "p1", "network": "apps" });
        let mut stage = serde_json::json!({
            "authority": { "epoch": 2, "owner": "serve.0000000000000007" },
            "from": place("a"), "to": place("b"),
            "card": { "mac": "02:00:00:00:00:01", "addresses": ["10.9.2.1", "fd10::2:1"] },
            "elsewhere": [{
                "place": place("a"), "leg": ["10.9.1.1"], "gateways": [], "conversations": [],
                "neighbours": [{ "address": "10.9.21.1", "mac": "02:00:00:00:21:01" }],
            }],
        });
        let read: Stage = serde_json::from_value(stage.clone()).unwrap();
        assert!(!read.elsewhere[0].neighbours[0].is_gateway);
        assert_eq!(
            serde_json::from_value::<Stage>(serde_json::to_value(&read).unwrap()).unwrap(),
            read
        );
        stage["force"] = true.into();
        assert!(serde_json::from_value::<Stage>(stage).is_err());
    }
}
