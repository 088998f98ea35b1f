//! Whether backends take connections: a TCP connection to each of their addresses, now and then.
//!
//! Checks begin before the first client is let in, so that health is known before the first
//! connection. What is unknown counts as up. While a VM cannot answer ([`Held`]), its checks count
//! nothing.

mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use placement::{PartName, VmName};
use proxy_api::Health;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::tally::Tally;
use crate::config::{HealthConfig, ServiceConfig};
use crate::dial;
use crate::flow::break_off;
use crate::held::Held;
use crate::leg::Ground;
use crate::service::{Backend, Service, Services, Target};

/// Checks are up to one part in so many earlier or later than their interval, so that many of them
/// do not fall on one instant.
const JITTER_PARTS: u32 = 10;

/// All checks of a proxy.
#[derive(Debug, Default)]
pub struct Checks {
    running: Mutex<HashMap<Subject, Check>>,
    held: Arc<Held>,
    ground: Ground,
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    service: PartName,
    backend: PartName,
    address: SocketAddr,
}

/// One address under check.
#[derive(Debug)]
struct Check {
    target: Arc<Target>,
    config: ServiceConfig,
    vm: Option<VmName>,
    task: JoinHandle<()>,
    /// Set once a check has ended.
    first: watch::Receiver<bool>,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    /// No checks yet; backends will be reached from `ground`, and those of VMs that are `held` count
    /// nothing.
    #[must_use]
    pub fn of(ground: Ground, held: Arc<Held>) -> Checks {
        Checks { ground, held, running: Mutex::default() }
    }

    /// Checks what `services` want checked and nothing else. What is checked in the same way as
    /// before goes on undisturbed.
    pub fn follow(&self, services: &Services) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for service in services.all() {
            let Some(health) = service.config.health else { continue };
            for backend in &service.backends {
                for target in backend.targets() {
                    let subject = Subject::of(service, backend, target);
                    let same = before.remove(&subject).filter(|check| {
                        Arc::ptr_eq(&check.target, target)
                            && check.vm == backend.config.vm
                            && check.config.health == service.config.health
                            && check.config.source == service.config.source
                    });
                    let check = same
                        .unwrap_or_else(|| self.begin(&subject, service, backend, target, health));
                    running.insert(subject, check);
                }
            }
        }
        for subject in before.keys().filter(|gone| !running.contains_key(gone)) {
            // Nothing is known of it any more.
            subject.gauge().set(f64::NAN);
        }
    }

    /// Waits until each address under check has been checked once, at most `bound`.
    pub async fn first(&self, bound: Duration) {
        let firsts: Vec<watch::Receiver<bool>> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.values().map(|check| check.first.clone()).collect()
        };
        let all = async {
            for mut first in firsts {
                // An error means that the check is gone already.
                let _ = first.wait_for(|done| *done).await;
            }
        };
        if timeout(bound, all).await.is_err() {
            tracing::warn!("not every backend was checked yet; those count as up");
        }
    }

    fn begin(
        &self,
        subject: &Subject,
        service: &Service,
        backend: &Backend,
        target: &Arc<Target>,
        health: HealthConfig,
    ) -> Check {
        let (told, first) = watch::channel(false);
        let checker = Checker {
            subject: subject.clone(),
            target: Arc::clone(target),
            config: service.config.clone(),
            health,
            vm: backend.config.vm.clone(),
            held: Arc::clone(&self.held),
            ground: self.ground.clone(),
        };
        Check {
            target: Arc::clone(target),
            config: service.config.clone(),
            vm: backend.config.vm.clone(),
            task: tokio::spawn(checker.check_all(told)),
            first,
        }
    }
}

impl Subject {
    fn of(service: &Service, backend: &Backend, target: &Target) -> Subject {
        Subject {
            service: service.config.name.clone(),
            backend: backend.config.name.clone(),
            address: target.address,
        }
    }

    fn gauge(&self) -> metrics::Gauge {
        let Subject { service, backend, address } = self;
        gauge!(
            "causeway_backend_up",
            "service" => service.to_string(),
            "backend" => backend.to_string(),
            "address" => address.to_string(),
        )
    }
}

/// Checks one address for ever.
struct Checker {
    subject: Subject,
    target: Arc<Target>,
    config: ServiceConfig,
    health: HealthConfig,
    vm: Option<VmName>,
    held: Arc<Held>,
    ground: Ground,
}

impl Checker {
    async fn check_all(self, first: watch::Sender<bool>) {
        let mut tally = Tally::of(self.target.health());
        self.tell(tally);
        let mut chance = Chance::new(&self.subject);
        loop {
            if let Some(is_good) = self.counted().await {
                let next = tally.after(is_good, &self.health);
                if next.health() != tally.health() {
                    self.target.set_health(next.health());
                    self.changed(next.health());
                }
                tally = next;
                self.tell(tally);
                first.send_replace(true);
            }
            sleep(chance.about(self.health.interval)).await;
        }
    }

    /// How one check went; none where it does not count, the VM being held at its begin or end.
    async fn counted(&self) -> Option<bool> {
        if self.held.has(self.vm.as_ref()) {
            return None;
        }
        let is_good = self.check().await;
        (!self.held.has(self.vm.as_ref())).then_some(is_good)
    }

    async fn check(&self) -> bool {
        let mut address = self.target.address;
        address.set_port(self.health.port.unwrap_or(address.port()));
        let connecting = async {
            let socket = self.ground.open(|| dial::socket(&self.config, &address))?;
            socket.connect(address).await
        };
        match timeout(self.health.timeout, connecting).await {
            Ok(Ok(stream)) => {
                // Nobody has to wait for the end of a connection that carried nothing.
                break_off(&stream);
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn tell(&self, tally: Tally) {
        self.subject.gauge().set(if tally.health().is_usable() { 1.0 } else { 0.0 });
    }

    fn changed(&self, health: Health) {
        let Subject { service, backend, address } = &self.subject;
        if health == Health::Down {
            tracing::warn!(%service, %backend, %address, "backend is down");
        } else {
            tracing::info!(%service, %backend, %address, "backend is up");
        }
    }
}

/// Chance for the times of checks: of one process's, and not worth more than this.
struct Chance(u64);

impl Chance {
    fn new(subject: &Subject) -> Chance {
        use std::hash::BuildHasher;
        // Keyed anew by each process.
        Chance(std::hash::RandomState::new().hash_one(subject) | 1)
    }

    /// `interval`, up to a part in [`JITTER_PARTS`] more or less.
    fn about(&mut self, interval: Duration) -> Duration {
        // xorshift64: never 0 from a seed that is not.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let span = interval / JITTER_PARTS;
        let thousandth = u32::try_from(self.0 % 2_001).unwrap_or(0);
        interval - span + span * thousandth / 1_000
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::service::tests::config;

    fn services(address: SocketAddr, vm: &str) -> Services {
        let mut web = config(&[&address.to_string()]);
        web.backends[0].vm = Some(vm.parse().unwrap());
        let interval = Duration::from_millis(10);
        web.health = web.health.map(|health| HealthConfig { interval, fall: 1, ..health });
        Services::following(&[web], &Services::default())
    }

    fn health(services: &Services) -> Health {
        services.all()[0].backends[0].targets().next().unwrap().health()
    }

    async fn until(what: impl Fn() -> bool) {
        let wait = async {
            while !what() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), wait).await.expect("it comes to be");
    }

    #[tokio::test]
    async fn a_backend_falls_and_rises_and_the_first_check_decides() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let services = services(address, "web");
        assert_eq!(health(&services), Health::Unknown);
        let checks = Checks::default();
        checks.follow(&services);
        checks.first(Duration::from_secs(30)).await;
        assert_eq!(health(&services), Health::Up);
        drop(listener);
        until(|| health(&services) == Health::Down).await;
        let listener = std::net::TcpListener::bind(address).unwrap();
        until(|| health(&services) == Health::Up).await;
        drop(listener);
    }

    #[tokio::test]
    async fn checks_of_a_vm_that_is_held_count_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let services = services(listener.local_addr().unwrap(), "held");
        let checks = Checks::default();
        checks.follow(&services);
        checks.first(Duration::from_secs(30)).await;
        let (held, other) = ("held".parse().unwrap(), "other".parse().unwrap());
        checks.held.stand_still(&held);
        checks.held.stand_still(&other);
        drop(listener);
        // Ten times the interval: without the hold one bad check would do.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(health(&services), Health::Up);
        checks.held.go_on(&held);
        until(|| health(&services) == Health::Down).await;
    }

    #[tokio::test]
    async fn what_nobody_wants_checked_any_more_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let services = services(listener.local_addr().unwrap(), "web");
        let checks = Checks::default();
        checks.follow(&services);
        checks.follow(&services);
        assert_eq!(checks.running.lock().unwrap().len(), 1);
        checks.follow(&Services::default());
        assert!(checks.running.lock().unwrap().is_empty());
    }

    #[test]
    fn times_are_spread_around_the_interval() {
        let subject = Subject {
            service: "web".parse().unwrap(),
            backend: "b".parse().unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
        };
        let mut chance = Chance::new(&subject);
        let second = Duration::from_secs(1);
        let times: Vec<Duration> = (0..1_000).map(|_| chance.about(second)).collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*least >= second * 9 / 10 && *most <= second * 11 / 10);
        assert!(*least < second * 92 / 100 && *most > second * 108 / 100);
    }
}
