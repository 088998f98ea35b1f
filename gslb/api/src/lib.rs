//! The name server's control API: what is said, and a client that says it.
//!
//! A move speaks of a VM; which names follow it is the name server's own configuration. So each
//! order names the VM, and one call to each name server is enough. In a move the orders come in
//! this order, under the move's epoch and owner:
//!
//! 1. [`Shorten`]: answers live shortly from now on, so that the next one changes much at once;
//! 2. [`Steer`]: the VM runs there; names whose VMs all do so are answered with that site;
//! 3. [`Restore`]: answers live as long as ever.
//!
//! A higher epoch is taken with whichever order carries it. An older one, or the same of another
//! owner, is refused; a repetition is answered like the first. When an order is answered, it is on
//! the name server's disk, and no answer that is older is under way any more.

mod client;

use std::net::SocketAddr;

use placement::{Authority, Epoch, Identity, SiteName, VmName};
use serde::{Deserialize, Serialize};

pub use client::Client;
pub use exchange::{CallError, Connection, Refusal, RefusalBody};

/// Where each call goes; the server's table and the client read them here.
pub mod path {
    /// `GET`, viewer and up: [`Status`](super::Status).
    pub const STATUS: &str = "/v1/status";
    /// `POST`, operator and orchestrator: [`Reloaded`](super::Reloaded).
    pub const RELOAD: &str = "/v1/reload";
    /// `GET`, viewer and up: text for Prometheus.
    pub const METRICS: &str = "/metrics";
    /// `GET`, viewer and up: [`Names`](super::Names).
    pub const NAMES: &str = "/v1/names";
    /// `POST` of a [`Shorten`](super::Shorten), orchestrator: [`Taken`](super::Taken).
    pub const VM_SHORTEN: &str = "/v1/vms/{vm}/shorten";
    /// `POST` of a [`Steer`](super::Steer), orchestrator: [`Taken`](super::Taken).
    pub const VM_STEER: &str = "/v1/vms/{vm}/steer";
    /// `POST` of a [`Restore`](super::Restore), orchestrator: [`Taken`](super::Taken).
    pub const VM_RESTORE: &str = "/v1/vms/{vm}/restore";
}

/// How a name server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who it is, by its certificate.
    pub identity: Identity,
    /// Its version.
    pub version: String,
    /// How long it has run.
    pub uptime_s: u64,
    /// Which configuration it runs on: 1 from the start, one more with each reload that was taken.
    pub generation: u64,
    /// Until when its certificate is valid, in seconds since 1970.
    pub certificate_valid_until_s: u64,
    /// Where it answers questions, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The serial in every zone's SOA: grows with each change of an answer.
    pub serial: u32,
}

/// A reload that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that runs now.
    pub generation: u64,
}

/// Lets answers for a VM's names live shortly, ahead of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shorten {
    /// The move's.
    pub authority: Authority,
}

/// Says where a VM runs from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// The move's.
    pub authority: Authority,
    /// The site.
    pub to: SiteName,
}

/// Lets answers for a VM's names live as long as they did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The move's.
    pub authority: Authority,
}

/// An order that was taken. It is on the disk, and every answer is given by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The VM.
    pub vm: VmName,
    /// The highest epoch that was seen of it.
    pub epoch: Epoch,
    /// The serial that all zones have now.
    pub serial: u32,
    /// The latest [`Name::outdated_until_s`] of all names below.
    pub outdated_until_s: Option<u64>,
    /// Every name that depends on the VM, as it is answered now; none is no mistake.
    pub names: Vec<Name>,
}

/// All names that follow VMs, and all VMs of which something was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The serial that all zones have now.
    pub serial: u32,
    /// The names, in the order of the configuration.
    pub names: Vec<Name>,
    /// The VMs, in the order of their names.
    pub vms: Vec<Vm>,
}

/// A name that follows VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The name, in small letters, without a dot at its end.
    pub name: String,
    /// The site that it is answered with.
    pub site: SiteName,
    /// Every site that it could be answered with.
    pub sites: Vec<SiteName>,
    /// The VMs that decide: the name is where all of them run.
    pub vms: Vec<VmName>,
    /// VMs that run at another site than [`Name::site`]: the name follows once they agree.
    pub elsewhere: Vec<VmName>,
    /// How long an answer lives.
    pub ttl_s: u32,
    /// Whether that is the time for a move.
    pub is_shortened: bool,
    /// The serial of the name's last change.
    pub serial: u32,
    /// Until when, in seconds since 1970 by the server's clock, caches that honour TTLs may hold an
    /// answer from before the last change of its place or the last shortening.
    pub outdated_until_s: Option<u64>,
}

/// A VM, as the name server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// The VM.
    pub vm: VmName,
    /// The highest epoch that was seen of it.
    pub epoch: Epoch,
    /// Where it runs, once that was said.
    pub place: Option<SiteName>,
    /// Whether answers for its names live shortly.
    pub is_shortened: bool,
}
