//! The clean-up check: what a place holds, before and after, as the system's own tools tell it. What
//! differs and is not allowed by name was left behind.
//!
//! Taken of every network namespace of the place: links, addresses, routes of all tables, rules,
//! permanent and proxy neighbours, bridge entries that somebody set, the nft ruleset, settings
//! under `/proc/sys/net`, listeners; and of the place itself: processes, mounts, and files wherever
//! a place can write.
//!
//! What comes and goes by itself is not taken: counters, ages, learned neighbours and bridge
//! entries, numbers of interfaces, processes and inodes.

mod diff;
mod files;
mod normalise;
mod tools;

use std::fmt;
use std::thread;

pub use diff::{Allowance, Change, Difference};

use crate::LabError;
use crate::host::Host;
use crate::sandbox::Place;

/// What sort of thing an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A network interface.
    Link,
    /// An address of an interface.
    Address,
    /// A route, of any table.
    Route,
    /// A rule that chooses a table.
    Rule,
    /// A neighbour that somebody wrote down.
    Neighbour,
    /// A neighbour that is answered for.
    ProxyNeighbour,
    /// A MAC that somebody bound to a bridge's port.
    BridgeEntry,
    /// An object of the nft ruleset.
    Nft,
    /// A setting under `/proc/sys/net`.
    Setting,
    /// A process.
    Process,
    /// A socket that waits for others.
    Listener,
    /// A file, folder or socket file.
    File,
    /// A mounted file system.
    Mount,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Neighbour => "neighbour",
            Self::ProxyNeighbour => "proxy neighbour",
            Self::BridgeEntry => "bridge entry",
            Self::Nft => "nft",
            Self::Setting => "setting",
            Self::Process => "process",
            Self::Listener => "listener",
            Self::File => "file",
            Self::Mount => "mount",
        })
    }
}

/// One thing that a place holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// Where: `place/host`, or the place.
    pub host: String,
    /// What sort of thing.
    pub kind: Kind,
    /// What it is, on one line.
    pub text: String,
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<16} {:<15} {}", self.host, self.kind, self.text)
    }
}

/// What a place held at one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Sorted; a thing that is there twice is listed twice.
    items: Vec<Item>,
}

impl Snapshot {
    /// Looks at a place.
    pub fn take(place: &Place) -> Result<Self, LabError> {
        // First of all, for the tools that look at the rest are processes too.
        let mut items = files::processes(place)?;
        items.extend(files::mounts(place)?);
        items.extend(files::files(place)?);
        let names = place.netns_names()?;
        let mut hosts: Vec<Host> = names.iter().map(|name| place.host(Some(name))).collect();
        hosts.push(place.host(None));
        let looked = thread::scope(|scope| {
            let looking: Vec<_> =
                hosts.iter().map(|host| scope.spawn(|| tools::look(host))).collect();
            looking
                .into_iter()
                .map(|thread| thread.join().expect("looking at a host does not panic"))
                .collect::<Result<Vec<_>, _>>()
        })?;
        items.extend(looked.into_iter().flatten());
        items.sort();
        Ok(Self { items })
    }

    /// What it holds.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What came and went from this one to a later one, apart from what is allowed.
    pub fn compare(&self, later: &Self, allowed: &[Allowance]) -> Difference {
        diff::between(&self.items, &later.items, allowed)
    }
}
