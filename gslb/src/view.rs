//! All that is known at one moment: zones, names and records, steered ones at their present site.
//!
//! A view never changes. [`Views`] holds the newest one and knows which older ones are still in
//! somebody's hands, so that an order is confirmed only once no older answer is under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use tokio::sync::{Notify, watch};
use tokio::time::{error::Elapsed, timeout};

use crate::config::{Config, ZoneConfig};
use crate::steering::Steering;

/// Longest that an answer of an old view may be under way once there is a newer one.
pub const ANSWER_MS_MAX: u64 = 1_000;

/// What secondaries would go by; nobody transfers these zones, but the SOA must say something.
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 604_800;

/// All that is known at one moment.
#[derive(Debug)]
pub struct View {
    /// The serial of every zone.
    pub serial: u32,
    zones: HashMap<LowerName, Zone>,
    gone: Option<Arc<Notify>>,
}

/// One zone.
#[derive(Debug)]
pub struct Zone {
    nodes: HashMap<LowerName, Node>,
    /// What says that something does not exist, and for how long that may be believed.
    pub denial: Record,
}

/// One name; without records, it only has names below it.
#[derive(Debug, Default)]
pub struct Node {
    /// At most one of each type.
    pub sets: Vec<Set>,
}

/// All records of one name and type.
#[derive(Debug)]
pub struct Set {
    /// The type.
    pub kind: RecordType,
    /// How long they live.
    pub ttl_s: u32,
    /// What they say.
    pub data: Vec<RData>,
}

impl View {
    /// What `config` and `steering` come to.
    #[must_use]
    pub fn of(config: &Config, steering: &Steering) -> View {
        let serial = steering.serial();
        let zone = |zone: &ZoneConfig| (zone.apex.clone(), Zone::of(zone, serial));
        let mut view = View { serial, zones: config.zones.iter().map(zone).collect(), gone: None };
        for steered in &config.steered {
            let (site, ttl_s) = steering.points(steered);
            let Some(apex) = view.apex_of(&steered.name) else { continue };
            let zone = view.zones.get_mut(&apex);
            let (Some(zone), Some(at)) = (zone, steered.sites.get(&site)) else { continue };
            let v4 = at.v4.iter().map(|ip| RData::A(A(*ip))).collect();
            let v6 = at.v6.iter().map(|ip| RData::AAAA(AAAA(*ip))).collect();
            zone.insert(&apex, &steered.name, Set { kind: RecordType::A, ttl_s, data: v4 });
            zone.insert(&apex, &steered.name, Set { kind: RecordType::AAAA, ttl_s, data: v6 });
        }
        view
    }

    /// The innermost zone that the name is in.
    #[must_use]
    pub fn zone_of(&self, name: &LowerName) -> Option<&Zone> {
        self.zones.get(&self.apex_of(name)?)
    }

    /// The addresses of a name, wherever we know them.
    pub fn addresses(&self, name: &LowerName) -> impl Iterator<Item = &Set> {
        let node = self.zone_of(name).and_then(|zone| zone.find(name));
        let sets = node.map_or(&[][..], |node| &node.sets);
        sets.iter().filter(|set| matches!(set.kind, RecordType::A | RecordType::AAAA))
    }

    fn apex_of(&self, name: &LowerName) -> Option<LowerName> {
        let mut apex = name.clone();
        while !self.zones.contains_key(&apex) {
            if apex.is_root() {
                return None;
            }
            apex = apex.base_name();
        }
        Some(apex)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(gone) = &self.gone {
            gone.notify_waiters();
        }
    }
}

impl Zone {
    fn of(config: &ZoneConfig, serial: u32) -> Zone {
        let ZoneConfig { apex, name_servers, contact, ttl_s, negative_ttl_s, records } = config;
        let (ttl_s, negative_ttl_s) = (*ttl_s, *negative_ttl_s);
        let primary = name_servers.first().cloned().unwrap_or_default();
        let (rname, minimum) = (contact.clone(), negative_ttl_s);
        let soa = SOA::new(primary, rname, serial, REFRESH_S, RETRY_S, EXPIRE_S, minimum);
        let soa = RData::SOA(soa);
        let denial = Record::from_rdata(Name::from(apex), ttl_s.min(negative_ttl_s), soa.clone());
        let mut zone = Zone { nodes: HashMap::new(), denial };
        let servers = name_servers.iter().map(|name| RData::NS(NS(name.clone()))).collect();
        zone.insert(apex, apex, Set { kind: RecordType::SOA, ttl_s, data: vec![soa] });
        zone.insert(apex, apex, Set { kind: RecordType::NS, ttl_s, data: servers });
        for record in records {
            let (kind, ttl_s, data) = (record.kind, record.ttl_s, record.data.clone());
            zone.insert(apex, &record.name, Set { kind, ttl_s, data });
        }
        zone
    }

    /// Takes a set, unless it is empty, and makes the names between it and the apex exist.
    fn insert(&mut self, apex: &LowerName, name: &LowerName, set: Set) {
        if set.data.is_empty() {
            return;
        }
        let mut between = name.clone();
        while between != *apex && !between.is_root() {
            between = between.base_name();
            self.nodes.entry(between.clone()).or_default();
        }
        self.nodes.entry(name.clone()).or_default().sets.push(set);
    }

    /// What there is at a name of this zone: its own node, or the pattern that stands for it.
    #[must_use]
    pub fn find(&self, name: &LowerName) -> Option<&Node> {
        if let Some(node) = self.nodes.get(name) {
            return Some(node);
        }
        let mut encloser = name.base_name();
        while !self.nodes.contains_key(&encloser) {
            if encloser.is_root() {
                return None;
            }
            encloser = encloser.base_name();
        }
        let pattern = Name::from(&encloser).prepend_label("*").ok()?;
        self.nodes.get(&LowerName::from(pattern))
    }
}

impl Node {
    /// Its records of a type.
    #[must_use]
    pub fn set(&self, kind: RecordType) -> Option<&Set> {
        self.sets.iter().find(|set| set.kind == kind)
    }
}

/// The newest view, and the older ones that are still in use.
#[derive(Debug)]
pub struct Views {
    newest: ArcSwap<View>,
    serial: watch::Sender<u32>,
    old: Mutex<Vec<Weak<View>>>,
    gone: Arc<Notify>,
}

impl Views {
    /// Begins with `view`.
    #[must_use]
    pub fn new(mut view: View) -> Views {
        let gone = Arc::new(Notify::new());
        view.gone = Some(Arc::clone(&gone));
        let (serial, _) = watch::channel(view.serial);
        Views { newest: ArcSwap::from_pointee(view), serial, old: Mutex::new(Vec::new()), gone }
    }

    /// The newest view, for an answer that is given at once.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<View>> {
        self.newest.load()
    }

    /// The newest view, for an answer that may take a while.
    #[must_use]
    pub fn load_full(&self) -> Arc<View> {
        self.newest.load_full()
    }

    /// Every answer that begins from now on is given by `view`.
    pub fn publish(&self, mut view: View) {
        view.gone = Some(Arc::clone(&self.gone));
        let serial = view.serial;
        let old = self.newest.swap(Arc::new(view));
        let mut in_use = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|view| view.strong_count() > 0);
        in_use.push(Arc::downgrade(&old));
        drop(in_use);
        self.serial.send_replace(serial);
    }

    /// Waits until no answer of a view older than the newest is under way.
    ///
    /// # Errors
    /// One still is, after [`ANSWER_MS_MAX`].
    pub async fn settled(&self) -> Result<(), Elapsed> {
        timeout(Duration::from_millis(ANSWER_MS_MAX), async {
            loop {
                let gone = self.gone.notified();
                tokio::pin!(gone);
                // From here on no notice is missed.
                gone.as_mut().enable();
                if !self.old_is_in_use() {
                    return;
                }
                gone.await;
            }
        })
        .await
    }

    /// Returns when there is a newer view than that of `serial`.
    pub async fn outdated(&self, serial: u32) {
        // An error means that the sender is gone, and with it whoever could publish.
        let _ = self.serial.subscribe().wait_for(|newest| *newest != serial).await;
    }

    fn old_is_in_use(&self) -> bool {
        let mut old = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        old.retain(|view| view.strong_count() > 0);
        !old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    fn view(config: &Config, serial_at_s: u64) -> View {
        let steering = Steering::default().under(&config.steered, serial_at_s).unwrap();
        View::of(config, &steering)
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_is_settled_once_nobody_holds_an_older_one() {
        let config = config();
        let views = Arc::new(Views::new(view(&config, 1_000)));
        views.settled().await.unwrap();
        let (held, guarded) = (views.load_full(), views.load());
        views.publish(view(&config, 2_000));
        views.outdated(held.serial).await;
        assert!(views.settled().await.is_err(), "two hold the old one");
        let waiting = tokio::spawn({
            let views = Arc::clone(&views);
            async move { views.settled().await }
        });
        drop(held);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one holds the old one");
        drop(guarded);
        waiting.await.unwrap().unwrap();
        assert_eq!(views.load().serial, 2_000);
    }
}
