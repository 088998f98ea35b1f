//! Services as they run: one snapshot of what there is, and the counts and marks that outlive it.
//!
//! A reload builds the next snapshot beside the running one. What has the same name goes on with
//! the same counts, drain marks and health, so that nothing is forgotten by a reload that changed
//! something else. Flows hold the service that they were opened under.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use placement::PartName;
use proxy_api::{Health, Protocol, RefusedFor};

use crate::config::{BackendConfig, PerFamily, ServiceConfig};
use crate::measures::Measures;

/// A place where clients arrive.
pub type Vip = (Protocol, SocketAddr);

/// All services of one generation.
#[derive(Debug, Default)]
pub struct Services {
    all: Vec<Arc<Service>>,
    by_vip: HashMap<Vip, Arc<Service>>,
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// What it is told to be.
    pub config: ServiceConfig,
    /// What goes on over reloads.
    pub standing: Arc<Standing>,
    /// Who serves it, in the order of the configuration.
    pub backends: Vec<Backend>,
    /// Whose turn it is.
    pub(crate) turn: AtomicUsize,
}

/// What a service keeps over reloads.
#[derive(Debug)]
pub struct Standing {
    is_draining: AtomicBool,
    active: AtomicU64,
    opened: AtomicU64,
    refused: [AtomicU64; RefusedFor::ALL.len()],
    pub(crate) measures: Measures,
}

/// One backend of a service.
#[derive(Debug)]
pub struct Backend {
    /// What it is told to be.
    pub config: BackendConfig,
    is_draining: Arc<AtomicBool>,
    targets: PerFamily<Arc<Target>>,
}

/// One address of a backend.
#[derive(Debug)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    health: AtomicU8,
    active: AtomicU64,
}

impl Services {
    /// What `configs` describe; what `earlier` has of the same names goes on.
    #[must_use]
    pub fn following(configs: &[ServiceConfig], earlier: &Services) -> Services {
        let all: Vec<Arc<Service>> = configs
            .iter()
            .map(|config| {
                let same = |service: &&Arc<Service>| {
                    service.config.name == config.name && service.config.protocol == config.protocol
                };
                Arc::new(Service::following(config, earlier.all.iter().find(same)))
            })
            .collect();
        let vips = |service: &Arc<Service>| {
            let protocol = service.config.protocol;
            let service = Arc::clone(service);
            service
                .config
                .vips
                .clone()
                .into_iter()
                .map(move |vip| ((protocol, vip), Arc::clone(&service)))
        };
        let by_vip = all.iter().flat_map(vips).collect();
        Services { all, by_vip }
    }

    /// In the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Arc<Service>] {
        &self.all
    }

    /// By its name.
    #[must_use]
    pub fn named(&self, name: &PartName) -> Option<&Arc<Service>> {
        self.all.iter().find(|service| service.config.name == *name)
    }

    /// Who serves clients that arrive there.
    #[must_use]
    pub fn at(&self, vip: Vip) -> Option<&Arc<Service>> {
        self.by_vip.get(&vip)
    }

    /// Where clients may arrive.
    pub fn vips(&self) -> impl Iterator<Item = Vip> {
        self.by_vip.keys().copied()
    }
}

impl Service {
    fn following(config: &ServiceConfig, earlier: Option<&Arc<Service>>) -> Service {
        let standing = match earlier {
            Some(service) => Arc::clone(&service.standing),
            None => Arc::new(Standing::new(config)),
        };
        let before = earlier.map(|service| &service.backends[..]).unwrap_or_default();
        let is_checked = config.health.is_some();
        let backends = config
            .backends
            .iter()
            .map(|config| Backend::following(config, before, is_checked))
            .collect();
        Service { config: config.clone(), standing, backends, turn: AtomicUsize::new(0) }
    }

    /// A backend by its name.
    #[must_use]
    pub fn backend(&self, name: &PartName) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.config.name == *name)
    }
}

impl Standing {
    fn new(config: &ServiceConfig) -> Standing {
        Standing {
            is_draining: AtomicBool::new(false),
            active: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            refused: Default::default(),
            measures: Measures::of(config),
        }
    }

    /// Whether the service takes no new flows.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Begins or ends a drain.
    pub fn drain(&self, draining: bool) {
        self.is_draining.store(draining, Ordering::Relaxed);
    }

    /// Flows that live.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Flows since the service came to be.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Clients turned away for `why`.
    #[must_use]
    pub fn refused(&self, why: RefusedFor) -> u64 {
        self.refused.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts a client that was turned away.
    pub(crate) fn refuse(&self, why: RefusedFor) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.measures.refused(why);
    }

    /// Takes one of at most `max` places; false where there is none.
    pub(crate) fn enter(&self, max: u64) -> bool {
        if self.active.fetch_add(1, Ordering::Relaxed) >= max {
            self.active.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    pub(crate) fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.measures.opened();
    }
}

impl Backend {
    fn following(config: &BackendConfig, earlier: &[Backend], is_checked: bool) -> Backend {
        let same = earlier.iter().find(|backend| backend.config.name == config.name);
        let is_draining = same.map(|backend| Arc::clone(&backend.is_draining)).unwrap_or_default();
        let target = |address: &SocketAddr| {
            let known = earlier.iter().flat_map(|backend| backend.targets.each());
            let known = known.into_iter().find(|target| target.address == *address);
            match known {
                // Between checked and unchecked, what was known means nothing any more.
                Some(target) if (target.health() != Health::Unchecked) == is_checked => {
                    Arc::clone(target)
                }
                _ => Arc::new(Target::new(*address, is_checked)),
            }
        };
        let PerFamily { v4, v6 } = &config.addresses;
        let targets = PerFamily { v4: v4.as_ref().map(target), v6: v6.as_ref().map(target) };
        Backend { config: config.clone(), is_draining, targets }
    }

    /// Whether it gets no new flows.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Begins or ends a drain.
    pub fn drain(&self, draining: bool) {
        self.is_draining.store(draining, Ordering::Relaxed);
    }

    /// Its address of the family of `vip`.
    #[must_use]
    pub fn target(&self, vip: &SocketAddr) -> Option<&Arc<Target>> {
        self.targets.of(vip)
    }

    /// Its addresses, IPv4 first.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.each()
    }
}

const HEALTHS: [Health; 4] = [Health::Unchecked, Health::Unknown, Health::Up, Health::Down];

impl Target {
    fn new(address: SocketAddr, is_checked: bool) -> Target {
        let health = if is_checked { Health::Unknown } else { Health::Unchecked };
        Target { address, health: AtomicU8::new(health as u8), active: AtomicU64::new(0) }
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        let index = usize::from(self.health.load(Ordering::Relaxed));
        HEALTHS.get(index).copied().unwrap_or(Health::Unknown)
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }

    /// Flows that live.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{HealthConfig, WhenAllDown};

    pub(crate) fn config(backends: &[&str]) -> ServiceConfig {
        ServiceConfig {
            name: "web".parse().unwrap(),
            protocol: Protocol::Tcp,
            vips: vec!["192.0.2.1:80".parse().unwrap()],
            source: PerFamily::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: None,
            flows_max: 3,
            when_all_down: WhenAllDown::Refuse,
            health: Some(HealthConfig {
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                rise: 2,
                fall: 2,
                port: None,
            }),
            backends: backends.iter().enumerate().map(backend).collect(),
        }
    }

    fn backend((index, address): (usize, &&str)) -> BackendConfig {
        let v4 = Some(address.parse().unwrap());
        let addresses = PerFamily { v4, v6: None };
        BackendConfig { name: format!("b{index}").parse().unwrap(), vm: None, addresses }
    }

    #[test]
    fn what_has_the_same_name_goes_on_over_a_reload() {
        let first =
            Services::following(&[config(&["10.0.0.1:1", "10.0.0.2:1"])], &Services::default());
        let web = &first.all()[0];
        web.standing.drain(true);
        web.backends[1].drain(true);
        let vip = web.config.vips[0];
        web.backends[0].target(&vip).unwrap().set_health(Health::Down);
        assert!(web.standing.enter(3));

        let next =
            Services::following(&[config(&["10.0.0.1:1", "10.0.0.9:1", "10.0.0.3:1"])], &first);
        let web = &next.all()[0];
        assert!(web.standing.is_draining() && web.standing.active() == 1);
        let healths: Vec<_> =
            web.backends.iter().map(|backend| backend.target(&vip).unwrap().health()).collect();
        assert_eq!(healths, [Health::Down, Health::Unknown, Health::Unknown]);
        let drains: Vec<_> = web.backends.iter().map(Backend::is_draining).collect();
        assert_eq!(drains, [false, true, false]);
        assert!(next.at((Protocol::Tcp, vip)).is_some() && next.at((Protocol::Udp, vip)).is_none());
    }

    #[test]
    fn health_of_before_means_nothing_once_nobody_checks() {
        let checked = config(&["10.0.0.1:1"]);
        let unchecked = ServiceConfig { health: None, ..checked.clone() };
        let first = Services::following(&[checked], &Services::default());
        let vip = first.all()[0].config.vips[0];
        first.all()[0].backends[0].target(&vip).unwrap().set_health(Health::Down);
        let next = Services::following(&[unchecked], &first);
        let target = next.all()[0].backends[0].target(&vip).unwrap();
        assert_eq!(target.health(), Health::Unchecked);
    }

    #[test]
    fn a_service_has_as_many_places_as_it_says() {
        let services = Services::following(&[config(&["10.0.0.1:1"])], &Services::default());
        let standing = &services.all()[0].standing;
        assert!((0..3).all(|_| standing.enter(3)));
        assert!(!standing.enter(3));
        standing.leave();
        assert!(standing.enter(3));
    }
}
