//! `[[service]]`, from written to checked: all that is nonsense is named with its place.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use daemon::config::{Problems, Told};
use placement::PartName;
use proxy_api::Protocol;
use toml::Spanned;

use super::written::{WrittenBackend, WrittenHealth, WrittenProtocol, WrittenService};
use super::{BackendConfig, HealthConfig, PER_SERVICE_MAX, PerFamily, SERVICES_MAX, ServiceConfig};

const CONNECT_TIMEOUT_MS_DEFAULT: u64 = 5_000;
const UDP_IDLE_TIMEOUT_MS_DEFAULT: u64 = 60_000;
const FLOWS_MAX_DEFAULT: u64 = 50_000;
const INTERVAL_MS_DEFAULT: u64 = 2_000;
const CHECK_TIMEOUT_MS_DEFAULT: u64 = 1_000;
const RISE_DEFAULT: u64 = 2;
const FALL_DEFAULT: u64 = 3;

const CONNECT_TIMEOUT_MS: RangeInclusive<u64> = 10..=120_000;
const IDLE_TIMEOUT_MS: RangeInclusive<u64> = 100..=7 * 86_400_000;
const FLOWS_MAX: RangeInclusive<u64> = 1..=10_000_000;
const INTERVAL_MS: RangeInclusive<u64> = 50..=3_600_000;
const CHECK_TIMEOUT_MS: RangeInclusive<u64> = 10..=60_000;
const STREAK: RangeInclusive<u64> = 1..=100;

/// Checks all services, each by itself and against the others.
pub(in crate::config) fn check_all(
    written: &[WrittenService],
    problems: &mut Problems<'_>,
) -> Result<Vec<ServiceConfig>, Told> {
    let mut taken = Taken::default();
    let mut services = Vec::new();
    let mut told = None;
    for (index, service) in written.iter().enumerate() {
        if index == SERVICES_MAX {
            let span = service.name.span();
            let message = format!("is one service too many; keep it to {SERVICES_MAX}");
            return Err(problems.at(span, "service", message));
        }
        let mut check = Check { at: format!("service.{index}"), problems };
        match check.service(service, &mut taken) {
            Ok(service) => services.push(service),
            Err(wrong) => told = Some(wrong),
        }
    }
    told.map_or(Ok(services), Err)
}

/// What services before this one have.
#[derive(Default)]
struct Taken {
    names: HashMap<PartName, ()>,
    vips: HashMap<(Protocol, SocketAddr), PartName>,
}

/// Checks one service; `at` is where it stands in the file.
struct Check<'p, 't> {
    at: String,
    problems: &'p mut Problems<'t>,
}

impl Check<'_, '_> {
    fn service(
        &mut self,
        written: &WrittenService,
        taken: &mut Taken,
    ) -> Result<ServiceConfig, Told> {
        let protocol = match written.protocol {
            WrittenProtocol::Tcp => Protocol::Tcp,
            WrittenProtocol::Udp => Protocol::Udp,
        };
        let name = self.name(&written.name, taken);
        let vips = self.vips(written, protocol, name.as_ref().ok(), taken);
        let source = self.source(&written.source);
        let connect_timeout = self.connect_timeout(written, protocol);
        let idle =
            self.bounded("idle_timeout_ms", written.idle_timeout_ms.as_ref(), &IDLE_TIMEOUT_MS);
        let flows_max = self.bounded("flows_max", written.flows_max.as_ref(), &FLOWS_MAX);
        let health =
            written.health.as_ref().map(|health| self.health(health, protocol)).transpose();
        let backends = self.backends(written);
        let (vips, backends) = self.paired(written, vips, backends)?;
        let idle_ms = match (idle?, protocol) {
            (None, Protocol::Udp) => Some(UDP_IDLE_TIMEOUT_MS_DEFAULT),
            (idle, _) => idle,
        };
        Ok(ServiceConfig {
            name: name?,
            protocol,
            vips,
            source: source?,
            connect_timeout: connect_timeout?,
            idle_timeout: idle_ms.map(Duration::from_millis),
            flows_max: flows_max?.unwrap_or(FLOWS_MAX_DEFAULT),
            when_all_down: written.when_all_down,
            health: health?,
            backends,
        })
    }

    fn name(&mut self, written: &Spanned<String>, taken: &mut Taken) -> Result<PartName, Told> {
        let field = self.field("name");
        let name: PartName = self.problems.parse(&field, written)?;
        if taken.names.insert(name.clone(), ()).is_some() {
            let message = format!("'{name}' is the name of an earlier service; choose another");
            return Err(self.problems.at(written.span(), &field, message));
        }
        Ok(name)
    }

    fn vips(
        &mut self,
        written: &WrittenService,
        protocol: Protocol,
        name: Option<&PartName>,
        taken: &mut Taken,
    ) -> Result<Vec<SocketAddr>, Told> {
        self.counted("listen", written.listen.span(), written.listen.get_ref().len())?;
        let mut vips = Vec::new();
        let mut told = None;
        for vip in written.listen.get_ref() {
            match self.endpoint("listen", vip) {
                Ok(address) => {
                    let Some(name) = name else { continue };
                    let earlier = taken.vips.insert((protocol, address), name.clone());
                    if let Some(earlier) = earlier {
                        let protocol = protocol.as_str();
                        let message = format!(
                            "service '{earlier}' listens on {protocol} {address} already; \
                             choose another address or port"
                        );
                        told = Some(self.at(vip.span(), "listen", message));
                    }
                    vips.push(address);
                }
                Err(wrong) => told = Some(wrong),
            }
        }
        told.map_or(Ok(vips), Err)
    }

    fn source(&mut self, written: &[Spanned<String>]) -> Result<PerFamily<IpAddr>, Told> {
        let mut source = PerFamily::default();
        for text in written {
            let address = text.get_ref().parse::<IpAddr>().ok().filter(|ip| is_one_hosts(*ip));
            let Some(address) = address else {
                let message = "is no address to dial from; write one of this host, as 192.0.2.2";
                return Err(self.at(text.span(), "source", message));
            };
            self.fill("source", text.span(), &mut source, address.is_ipv4(), address)?;
        }
        Ok(source)
    }

    fn connect_timeout(
        &mut self,
        written: &WrittenService,
        protocol: Protocol,
    ) -> Result<Duration, Told> {
        let given = written.connect_timeout_ms.as_ref();
        if let (Some(given), Protocol::Udp) = (given, protocol) {
            let message = "is for TCP alone: UDP connects to nobody; leave it out";
            return Err(self.at(given.span(), "connect_timeout_ms", message));
        }
        let given_ms = self.bounded("connect_timeout_ms", given, &CONNECT_TIMEOUT_MS)?;
        Ok(Duration::from_millis(given_ms.unwrap_or(CONNECT_TIMEOUT_MS_DEFAULT)))
    }

    fn health(
        &mut self,
        written: &Spanned<WrittenHealth>,
        protocol: Protocol,
    ) -> Result<HealthConfig, Told> {
        let WrittenHealth { interval_ms, timeout_ms, rise, fall, port } = written.get_ref();
        let interval = self.bounded("health.interval_ms", interval_ms.as_ref(), &INTERVAL_MS);
        let timeout = self.bounded("health.timeout_ms", timeout_ms.as_ref(), &CHECK_TIMEOUT_MS);
        let rise = self.bounded("health.rise", rise.as_ref(), &STREAK);
        let fall = self.bounded("health.fall", fall.as_ref(), &STREAK);
        let port = match port {
            Some(port) if *port.get_ref() == 0 => {
                let message = "is 0; write the port that takes TCP connections";
                return Err(self.at(port.span(), "health.port", message));
            }
            None if protocol == Protocol::Udp => {
                let message = "needs 'port': checks are TCP connections, and the service is UDP; \
                               name a TCP port of the backends, or leave health out";
                return Err(self.at(written.span(), "health", message));
            }
            port => port.as_ref().map(|port| *port.get_ref()),
        };
        let streak = |given: Option<u64>, default| {
            u32::try_from(given.unwrap_or(default)).unwrap_or(u32::MAX)
        };
        Ok(HealthConfig {
            interval: Duration::from_millis(interval?.unwrap_or(INTERVAL_MS_DEFAULT)),
            timeout: Duration::from_millis(timeout?.unwrap_or(CHECK_TIMEOUT_MS_DEFAULT)),
            rise: streak(rise?, RISE_DEFAULT),
            fall: streak(fall?, FALL_DEFAULT),
            port,
        })
    }

    fn backends(&mut self, written: &WrittenService) -> Result<Vec<BackendConfig>, Told> {
        self.counted("backend", written.name.span(), written.backend.len())?;
        let mut backends: Vec<BackendConfig> = Vec::new();
        let mut told = None;
        for backend in &written.backend {
            match self.backend(backend, &backends) {
                Ok(backend) => backends.push(backend),
                Err(wrong) => told = Some(wrong),
            }
        }
        told.map_or(Ok(backends), Err)
    }

    fn backend(
        &mut self,
        written: &WrittenBackend,
        earlier: &[BackendConfig],
    ) -> Result<BackendConfig, Told> {
        let field = self.field("backend.name");
        let name = self.problems.parse::<PartName>(&field, &written.name).and_then(|name| {
            if earlier.iter().any(|backend| backend.name == name) {
                let message = format!("'{name}' is an earlier backend's name; choose another");
                return Err(self.problems.at(written.name.span(), &field, message));
            }
            Ok(name)
        });
        let field = self.field("backend.vm");
        let vm = written.vm.as_ref().map(|vm| self.problems.parse(&field, vm)).transpose();
        let listed = written.address.get_ref();
        self.counted("backend.address", written.address.span(), listed.len())?;
        let mut addresses = PerFamily::default();
        for text in listed {
            let address = self.endpoint("backend.address", text)?;
            let mut known = earlier.iter().flat_map(|backend| backend.addresses.each());
            if known.any(|known| *known == address) {
                let message = format!("an earlier backend is at {address}; name each place once");
                return Err(self.at(text.span(), "backend.address", message));
            }
            self.fill("backend.address", text.span(), &mut addresses, address.is_ipv4(), address)?;
        }
        Ok(BackendConfig { name: name?, vm: vm?, addresses })
    }

    /// Each VIP has a backend of its family, and each backend address a VIP; and no service leads
    /// to itself.
    fn paired(
        &mut self,
        written: &WrittenService,
        vips: Result<Vec<SocketAddr>, Told>,
        backends: Result<Vec<BackendConfig>, Told>,
    ) -> Result<(Vec<SocketAddr>, Vec<BackendConfig>), Told> {
        let (vips, backends) = (vips?, backends?);
        let mut told = None;
        for (vip, text) in vips.iter().zip(written.listen.get_ref()) {
            if !backends.iter().any(|backend| backend.addresses.of(vip).is_some()) {
                let message = format!(
                    "no backend has an {} address, so that nobody can serve this VIP; \
                     give one, or take the VIP out",
                    family(vip)
                );
                told = Some(self.at(text.span(), "listen", message));
            }
        }
        let texts = written.backend.iter().flat_map(|backend| backend.address.get_ref());
        for text in texts {
            let Ok(address) = text.get_ref().parse::<SocketAddr>() else { continue };
            let message = if vips.contains(&address) {
                "is a VIP of this very service, which would call itself; write the backend's own \
                 address"
                    .to_owned()
            } else if !vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4()) {
                let family = family(&address);
                format!(
                    "no VIP of the service is {family}, so that no flow would go there; \
                         add such a VIP, or take this address out"
                )
            } else {
                continue;
            };
            told = Some(self.at(text.span(), "backend.address", message));
        }
        told.map_or(Ok((vips, backends)), Err)
    }

    /// An address and port that one host can have.
    fn endpoint(&mut self, field: &str, written: &Spanned<String>) -> Result<SocketAddr, Told> {
        let message = match written.get_ref().parse::<SocketAddr>() {
            Err(_) => "is no address with a port; write 192.0.2.1:80 or [2001:db8::1]:80",
            Ok(address) if address.port() == 0 => "has port 0; write the port itself",
            Ok(address) if !is_one_hosts(address.ip()) => {
                "is no address of one host; write a unicast address"
            }
            Ok(address) => return Ok(address),
        };
        Err(self.at(written.span(), field, message))
    }

    fn fill<T>(
        &mut self,
        field: &str,
        span: Range<usize>,
        places: &mut PerFamily<T>,
        is_v4: bool,
        value: T,
    ) -> Result<(), Told> {
        let place = if is_v4 { &mut places.v4 } else { &mut places.v6 };
        if place.replace(value).is_some() {
            return Err(self.at(span, field, "is a second one of its family; keep one of each"));
        }
        Ok(())
    }

    fn counted(&mut self, field: &str, span: Range<usize>, count: usize) -> Result<(), Told> {
        if (1..=PER_SERVICE_MAX).contains(&count) {
            return Ok(());
        }
        let message = format!("has {count} entries; write 1 to {PER_SERVICE_MAX}");
        Err(self.at(span, field, message))
    }

    fn bounded(
        &mut self,
        field: &str,
        written: Option<&Spanned<u64>>,
        allowed: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, Told> {
        let field = self.field(field);
        bounded(&field, written, allowed, self.problems)
    }

    fn at(&mut self, span: Range<usize>, field: &str, message: impl Into<String>) -> Told {
        let field = self.field(field);
        self.problems.at(span, &field, message)
    }

    fn field(&self, field: &str) -> String {
        format!("{}.{field}", self.at)
    }
}

/// A number that is not written, or one within bounds.
pub(in crate::config) fn bounded(
    field: &str,
    written: Option<&Spanned<u64>>,
    allowed: &RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> Result<Option<u64>, Told> {
    let Some(written) = written else { return Ok(None) };
    let value = *written.get_ref();
    if allowed.contains(&value) {
        return Ok(Some(value));
    }
    let message = format!("is {value}; write {} to {}", allowed.start(), allowed.end());
    Err(problems.at(written.span(), field, message))
}

/// Wildcards, groups and scopes are no place where one host can be reached.
fn is_one_hosts(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let is_scoped = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !(address.is_unspecified() || address.is_multicast() || is_broadcast || is_scoped)
}

fn family(address: &SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
