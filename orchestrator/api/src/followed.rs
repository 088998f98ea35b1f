//! What a move told the name servers, and what its target's proxy says of the application: facts of
//! its journal, and of what operators see of it.

use std::net::SocketAddr;

use placement::{PartName, SiteName};
use serde::{Deserialize, Serialize};

/// Most names that are told one by one.
pub const NAMES_TOLD_MAX: usize = 64;
/// Most name servers that are told one by one.
pub const SERVERS_TOLD_MAX: usize = 64;
/// Longest reason, in bytes.
pub const WHY_BYTES_MAX: usize = 512;

/// What name servers made of the last order of a move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesTold {
    /// So many name servers have it on their disks.
    pub confirmed: u64,
    /// The names that depend on the VM, as those answer them; none where nothing follows it.
    pub names: Vec<NamePlace>,
    /// Names beyond those.
    pub names_left_out: u64,
    /// When the last answer from before runs out, in caches that honour TTLs: seconds since 1970, by
    /// the latest of the clocks of those who confirmed.
    pub outdated_until_unix_s: Option<u64>,
    /// Who has not confirmed: it may answer as before.
    pub unconfirmed: Vec<Unconfirmed>,
    /// Name servers beyond those.
    pub unconfirmed_left_out: u64,
}

/// A name, and the site that it is answered with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamePlace {
    /// The name.
    pub name: String,
    /// The site.
    pub site: SiteName,
}

/// A name server that has not confirmed an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unconfirmed {
    /// Its site.
    pub site: SiteName,
    /// Its name.
    pub name: PartName,
    /// Why not, as far as is known.
    pub why: String,
}

/// How the application is, as the target's proxy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, tag = "is")]
pub enum HealthTold {
    /// It takes connections, at so many addresses.
    Healthy {
        /// How many.
        addresses: u64,
    },
    /// The proxy has the VM in a service, and is not told to check it.
    Unchecked,
    /// The proxy has no service with the VM.
    Unserved,
    /// It did not take connections in time.
    Unhealthy {
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// The proxy could not be asked.
    Unasked {
        /// Why.
        why: String,
    },
}
