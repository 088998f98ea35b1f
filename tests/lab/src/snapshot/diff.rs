//! What differs between two snapshots, split into what is allowed by name and what is not.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use super::{Item, Kind};

/// Something that may differ, and why.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// What it is, for the reader of the test.
    pub name: String,
    /// Of which kind.
    pub kind: Kind,
    /// The beginning of its line's text.
    pub begins: String,
}

impl Allowance {
    /// Allows lines of one kind that begin so.
    pub fn new(name: impl Into<String>, kind: Kind, begins: impl Into<String>) -> Self {
        Self { name: name.into(), kind, begins: begins.into() }
    }

    fn covers(&self, item: &Item) -> bool {
        self.kind == item.kind && item.text.starts_with(&self.begins)
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there now and was not.
    Came(Item),
    /// It was there and is not now.
    Went(Item),
}

impl Change {
    /// What came or went.
    pub fn item(&self) -> &Item {
        match self {
            Self::Came(item) | Self::Went(item) => item,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came(item) => write!(out, "+ {item}"),
            Self::Went(item) => write!(out, "- {item}"),
        }
    }
}

/// What differs between two snapshots.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What nobody allowed: left behind, or taken away.
    pub unexplained: Vec<Change>,
    /// What was allowed, each with its allowance's name.
    pub allowed: Vec<(String, Change)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} differences that nobody allowed", self.unexplained.len())?;
        for line in lines(&self.unexplained) {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "{} allowed by name", self.allowed.len())?;
        for (name, change) in &self.allowed {
            writeln!(out, "  {change}  ({name})")?;
        }
        Ok(())
    }
}

/// One line for each change; a thing that went and came otherwise is one, with what of it is other.
fn lines(changes: &[Change]) -> Vec<String> {
    let mut changes: Vec<Option<&Change>> = changes.iter().map(Some).collect();
    let mut lines = Vec::new();
    for index in 0..changes.len() {
        let Some(change) = changes[index].take() else {
            continue;
        };
        let other = changes
            .iter_mut()
            .find(|other| other.is_some_and(|other| is_same_thing(change.item(), other.item())));
        match (change, other.and_then(Option::take)) {
            (Change::Went(old), Some(Change::Came(new)))
            | (Change::Came(new), Some(Change::Went(old))) => lines.push(altered(old, new)),
            _ => lines.push(change.to_string()),
        }
    }
    lines
}

/// Whether two lines tell of one thing: of the kinds whose lines begin with its name.
fn is_same_thing(one: &Item, other: &Item) -> bool {
    let has_name = matches!(one.kind, Kind::Link | Kind::Setting | Kind::File);
    let name = |item: &Item| item.text.split(' ').next().map(ToOwned::to_owned);
    has_name && one.host == other.host && one.kind == other.kind && name(one) == name(other)
}

fn altered(old: &Item, new: &Item) -> String {
    let only = |one: &Item, other: &Item| {
        let others: HashSet<&str> = other.text.split(' ').collect();
        let words = one.text.split(' ').filter(|word| !others.contains(word));
        words.collect::<Vec<_>>().join(" ")
    };
    let name = new.text.split(' ').next().unwrap_or_default();
    format!(
        "~ {:<16} {:<15} {name}: was {}, is {}",
        new.host,
        new.kind,
        only(old, new),
        only(new, old)
    )
}

pub(super) fn between(before: &[Item], after: &[Item], allowances: &[Allowance]) -> Difference {
    let mut difference = Difference { unexplained: Vec::new(), allowed: Vec::new() };
    let links = [interfaces(before), interfaces(after)];
    for change in merge(before, after) {
        if belongs_to_a_link_that_changed(change.item(), &links) {
            continue;
        }
        match allowances.iter().find(|allowance| allowance.covers(change.item())) {
            Some(allowance) => difference.allowed.push((allowance.name.clone(), change)),
            None => difference.unexplained.push(change),
        }
    }
    difference
}

/// Both are sorted, and may hold the same thing more than once.
fn merge(before: &[Item], after: &[Item]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return changes,
        };
        let (went, came) = match order {
            Ordering::Less => (old.next(), None),
            Ordering::Greater => (None, new.next()),
            Ordering::Equal => {
                old.next();
                new.next();
                (None, None)
            }
        };
        changes.extend(went.cloned().map(Change::Went));
        changes.extend(came.cloned().map(Change::Came));
    }
}

type Interfaces<'a> = HashSet<(&'a str, &'a str)>;

fn interfaces(items: &[Item]) -> Interfaces<'_> {
    items
        .iter()
        .filter(|item| item.kind == Kind::Link)
        .filter_map(|item| Some((item.host.as_str(), item.text.split(' ').next()?)))
        .collect()
}

/// The hundred settings that an interface brings along are told by the interface's own line.
fn belongs_to_a_link_that_changed(item: &Item, links: &[Interfaces<'_>; 2]) -> bool {
    if item.kind != Kind::Setting {
        return false;
    }
    let mut parts = item.text.split('/');
    let (Some(_), Some("conf" | "neigh"), Some(interface)) =
        (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let link = (item.host.as_str(), interface);
    links[0].contains(&link) != links[1].contains(&link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: Kind, text: &str) -> Item {
        Item { host: "a/proxy".to_owned(), kind, text: text.to_owned() }
    }

    #[test]
    fn what_is_there_twice_and_once_differs_by_one() {
        let route = item(Kind::Route, "10.0.0.0/8");
        let difference =
            between(&[route.clone(), route.clone()], std::slice::from_ref(&route), &[]);
        assert_eq!(difference.unexplained, [Change::Went(route)]);
    }

    #[test]
    fn a_new_link_is_told_once_and_another_links_setting_still_tells() {
        let old = item(Kind::Link, "eth0 mtu=1500");
        let changed = item(Kind::Setting, "ipv4/conf/eth0/forwarding = 1");
        let after = [
            item(Kind::Link, "dummy0 mtu=1500"),
            old.clone(),
            item(Kind::Setting, "ipv4/conf/dummy0/forwarding = 0"),
            changed.clone(),
        ];
        let difference = between(&[old], &after, &[]);
        assert_eq!(difference.unexplained, [Change::Came(after[0].clone()), Change::Came(changed)]);
    }

    #[test]
    fn what_is_only_altered_is_one_line_with_what_is_other() {
        let before = [item(Kind::Link, "leg flags=[UP] mtu=1500")];
        let after = [item(Kind::Link, "leg flags=[UP] mtu=1400")];
        let text = between(&before, &after, &[]).to_string();
        assert!(text.contains("leg: was mtu=1500, is mtu=1400"), "{text}");
    }

    #[test]
    fn what_is_allowed_is_still_named() {
        let log = item(Kind::File, "/var/log/causeway/proxy.log file");
        let allowance = Allowance::new("the proxy's log", Kind::File, "/var/log/causeway/");
        let difference = between(&[], &[log], &[allowance]);
        assert!(difference.unexplained.is_empty());
        assert!(difference.to_string().contains("(the proxy's log)"));
    }
}
