//! `[[vm]]` and `[[service]]`, from written to checked: what is served, where, and by whom.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use daemon::config::{Problems, Told};
use orchestrator_api::VmDefinition;
use placement::{PartName, SiteName, VmName};

use super::written::{WrittenBackend, WrittenService, WrittenServiceAt, WrittenVm};
use super::{
    Backend, Image, Protocol, Proxy, Service, ServiceAt, Site, Vm, addresses, each, once, unknown,
};

/// How long a flow may be silent: the bounds of a proxy's configuration.
const IDLE_TIMEOUT_MS: RangeInclusive<u64> = 100..=7 * 86_400_000;

pub(super) fn check_vms(
    written: &[WrittenVm],
    sites: &[Site],
    images: &[Image],
    problems: &mut Problems<'_>,
) -> Result<Vec<Vm>, Told> {
    each(written, "vm", problems, |vm, earlier: &[Vm], problems| {
        let name: SiteName = problems.parse("vm.site", &vm.site)?;
        let Some(site) = sites.iter().find(|site| site.name == name) else {
            return Err(unknown("site", "vm.site", &vm.site, problems));
        };
        let definition = vm.definition.get_ref();
        let mut wrong =
            |message: String| Err(problems.at(vm.definition.span(), "vm.definition", message));
        if earlier.iter().any(|known| known.definition.name == definition.name) {
            return wrong(format!("VM {} stands twice; write it once", definition.name));
        }
        if let Some((mac, other)) = same_mac(definition, earlier) {
            return wrong(format!("MAC {mac} is VM {other}'s as well; give each its own"));
        }
        let image = &definition.boot.image;
        if !images.iter().any(|known| known.name == *image) {
            return wrong(format!("boots '{image}', which is no [[image]] of this description"));
        }
        if site.hosts.is_empty() {
            return wrong(format!("site {name} has no [[site.host]] where it could run"));
        }
        let networks: Vec<&PartName> = site.proxies.iter().map(|proxy| &proxy.network).collect();
        let lost = definition.cards.iter().find(|card| !networks.contains(&&card.network));
        if let Some(card) = lost {
            let network = &card.network;
            return wrong(format!(
                "has a card on '{network}', and no proxy of site {name} is there"
            ));
        }
        Ok(Vm { site: name, definition: definition.clone() })
    })
}

fn same_mac(definition: &VmDefinition, earlier: &[Vm]) -> Option<(String, VmName)> {
    earlier.iter().find_map(|vm| {
        let theirs = vm.definition.cards.iter().map(|card| card.mac);
        let mine = |mac| definition.cards.iter().any(|card| card.mac == mac);
        let same = theirs.into_iter().find(|mac| mine(*mac))?;
        Some((same.to_string(), vm.definition.name.clone()))
    })
}

pub(super) fn check_all(
    written: &[WrittenService],
    sites: &[Site],
    vms: &[Vm],
    problems: &mut Problems<'_>,
) -> Result<Vec<Service>, Told> {
    each(written, "service", problems, |service, earlier, problems| {
        check_service(service, earlier, sites, vms, problems)
    })
}

fn check_service(
    written: &WrittenService,
    earlier: &[Service],
    sites: &[Site],
    vms: &[Vm],
    problems: &mut Problems<'_>,
) -> Result<Service, Told> {
    let name: PartName = problems.parse("service.name", &written.name)?;
    let is_known = earlier.iter().any(|service| service.name == name);
    once(is_known, "service.name", &written.name, problems)?;
    let protocol = match written.protocol.get_ref().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => {
            let message = "is no protocol that is served; write tcp or udp";
            return Err(problems.at(written.protocol.span(), "service.protocol", message));
        }
    };
    let behind = each(&written.vms, "service.vms", problems, |text, earlier: &[&Vm], problems| {
        let name: VmName = problems.parse("service.vms", text)?;
        let is_known = earlier.iter().any(|vm| vm.definition.name == name);
        once(is_known, "service.vms", text, problems)?;
        let found = vms.iter().find(|vm| vm.definition.name == name);
        found.ok_or_else(|| unknown("VM", "service.vms", text, problems))
    });
    let ports = ports(written, problems);
    let (behind, port) = (behind?, ports?);
    let places = Places { sites, behind: &behind, port, protocol, earlier };
    let at = each(written.at.get_ref(), "service.at", problems, |at, known, problems| {
        places.check(at, known, problems)
    })?;
    if at.is_empty() {
        let message = "is empty; add [[service.at]] for each site that has VIPs for it";
        return Err(problems.at(written.at.span(), "service.at", message));
    }
    let vms = behind.iter().map(|vm| vm.definition.name.clone()).collect();
    let health_port = written.health_port.as_ref().map(|port| *port.get_ref());
    let idle_timeout_ms = idle_timeout_ms(written, problems)?;
    Ok(Service { name, protocol, vms, health_port, idle_timeout_ms, at })
}

/// As proxies take it.
fn idle_timeout_ms(
    written: &WrittenService,
    problems: &mut Problems<'_>,
) -> Result<Option<u64>, Told> {
    let Some(idle_ms) = &written.idle_timeout_ms else { return Ok(None) };
    if IDLE_TIMEOUT_MS.contains(idle_ms.get_ref()) {
        return Ok(Some(*idle_ms.get_ref()));
    }
    let (least, most) = IDLE_TIMEOUT_MS.into_inner();
    let message = format!("is {}; write {least} to {most}", idle_ms.get_ref());
    Err(problems.at(idle_ms.span(), "service.idle_timeout_ms", message))
}

/// The port of its VMs; needed where there are some.
fn ports(written: &WrittenService, problems: &mut Problems<'_>) -> Result<u16, Told> {
    let given = [("service.port", &written.port), ("service.health_port", &written.health_port)];
    for (field, port) in given {
        if let Some(port) = port.as_ref().filter(|port| *port.get_ref() == 0) {
            return Err(problems.at(port.span(), field, "is 0; write a port"));
        }
    }
    match &written.port {
        Some(port) => Ok(*port.get_ref()),
        None if written.vms.is_empty() => Ok(0),
        None => {
            let message = "has VMs, and 'port' is missing, at which they serve; add it";
            Err(problems.at(written.name.span(), "service.port", message))
        }
    }
}

/// Where one service can be.
struct Places<'a> {
    sites: &'a [Site],
    behind: &'a [&'a Vm],
    port: u16,
    protocol: Protocol,
    earlier: &'a [Service],
}

impl Places<'_> {
    fn check(
        &self,
        written: &WrittenServiceAt,
        known: &[ServiceAt],
        problems: &mut Problems<'_>,
    ) -> Result<ServiceAt, Told> {
        let name: SiteName = problems.parse("service.at.site", &written.site)?;
        let Some(site) = self.sites.iter().find(|site| site.name == name) else {
            return Err(unknown("site", "service.at.site", &written.site, problems));
        };
        let named = written.proxy.as_ref();
        let proxy = site.named_proxy(&written.site, named, "service.at.proxy", problems)?;
        let is_known = known.iter().any(|at| at.site == name && at.proxy == proxy.name);
        once(is_known, "service.at.site", &written.site, problems)?;
        let listen = self.listen(written, &name, proxy, problems)?;
        let fixed = each(&written.backend, "service.at.backend", problems, check_backend)?;
        let mut backends = self.moving(proxy);
        for (backend, text) in fixed.into_iter().zip(&written.backend) {
            let is_known = backends.iter().any(|other| other.name == backend.name);
            once(is_known, "service.at.backend.name", &text.name, problems)?;
            backends.push(backend);
        }
        for (family, is_it) in [("IPv4", true), ("IPv6", false)] {
            let has = |at: &[SocketAddr]| at.iter().any(|at| at.is_ipv4() == is_it);
            let (in_front, behind) =
                (has(&listen), backends.iter().any(|backend| has(&backend.address)));
            let message = match (in_front, behind) {
                (true, false) => format!("no backend has an {family} address here"),
                (false, true) => format!("no VIP here is {family}, and a backend is"),
                _ => continue,
            };
            let message = format!("{message}; write both ends, or neither");
            return Err(problems.at(written.listen.span(), "service.at.listen", message));
        }
        Ok(ServiceAt { site: name, proxy: proxy.name.clone(), listen, backends })
    }

    fn listen(
        &self,
        written: &WrittenServiceAt,
        site: &SiteName,
        proxy: &Proxy,
        problems: &mut Problems<'_>,
    ) -> Result<Vec<SocketAddr>, Told> {
        let listen = addresses("service.at.listen", &written.listen, problems)?;
        let same = self.earlier.iter().filter(|other| other.protocol == self.protocol);
        for other in same {
            let here = other.at.iter().filter(|at| at.site == *site && at.proxy == proxy.name);
            let taken = here.flat_map(|at| &at.listen).find(|at| listen.contains(at));
            if let Some(taken) = taken {
                let message = format!(
                    "service '{}' listens on {taken} here already; choose another address or port",
                    other.name
                );
                return Err(problems.at(written.listen.span(), "service.at.listen", message));
            }
        }
        Ok(listen)
    }

    /// The VMs as this proxy reaches them: on its own network, by one address of each family.
    fn moving(&self, proxy: &Proxy) -> Vec<Backend> {
        let backend = |vm: &&Vm| {
            let cards = vm.definition.cards.iter().filter(|card| card.network == proxy.network);
            let ips: Vec<_> = cards.flat_map(|card| card.addresses.iter().copied()).collect();
            let first = |is_v4| ips.iter().find(|ip| ip.is_ipv4() == is_v4);
            let both = [first(true), first(false)].into_iter().flatten();
            let address: Vec<_> = both.map(|ip| SocketAddr::new(*ip, self.port)).collect();
            let vm = vm.definition.name.clone();
            let name = vm.as_str().parse().expect("VMs' names and parts' have one alphabet");
            (!address.is_empty()).then_some(Backend { name, address, vm: Some(vm) })
        };
        self.behind.iter().filter_map(backend).collect()
    }
}

fn check_backend(
    written: &WrittenBackend,
    _: &[Backend],
    problems: &mut Problems<'_>,
) -> Result<Backend, Told> {
    let name = problems.parse("service.at.backend.name", &written.name);
    let address = addresses("service.at.backend.address", &written.address, problems);
    Ok(Backend { name: name?, address: address?, vm: None })
}
