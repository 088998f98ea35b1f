//! A whole installation in one file, from which all configurations are made. Written by an
//! operator, then checked: what it comes to can be told to every daemon.
//!
//! ```toml
//! [serve]                            # the service that drives moves, and who may ask it
//! site = "hq"
//! name = "serve"
//! address = "192.0.2.10:7400"
//! operators = ["ada"]
//!
//! [[site]]                           # each site, any number
//! name = "a"
//!
//! [[site.proxy]]
//! name = "p1"
//! control = "192.0.2.20:7401"        # where service and agents call it
//! tunnel = "198.51.100.20:7403"      # where other sites' proxies reach it; without it, it dials all
//! tunnel_listen = "192.0.2.20:7403"  # where `tunnel` arrives, if something translates in between
//! network = "app"                    # what VMs' cards are connected to; the same name at all sites
//! leg = "eth1"                       # an interface of its own on it
//! gateway = ["10.0.0.1", "fd10::1", "fe80::1"]
//! sockets = "/run/causeway/agent"    # a folder that it shares with the agent; this one if left out
//!
//! [[site.host]]                      # a hypervisor host
//! name = "hv1"
//! address = "192.0.2.20:7402"
//! bridge = "br0"                     # of the proxy's network
//! proxy = "p1"                       # where the site has several
//! user = "causeway-qemu"             # this and the next two may be left out
//! accelerator = "kvm"
//! disks = "/var/lib/causeway/disks"
//!
//! [[site.name_server]]
//! name = "ns1"
//! control = "192.0.2.20:7404"
//! host = "ns1.example.net"           # what zones call it
//! dns = ["198.51.100.20:53"]
//!
//! [[image]]                          # on every hypervisor host
//! name = "debian"
//! kernel = "/var/lib/causeway/images/vmlinuz"
//! initramfs = "/var/lib/causeway/images/initrd"
//!
//! [[vm]]
//! site = "a"                         # where it runs first
//! [vm.definition]                    # as `causeway vm start` wants it
//! # ...
//!
//! [[service]]
//! name = "web"
//! protocol = "tcp"
//! vms = ["web"]                      # its backends, at their addresses and this port
//! port = 80
//! health_port = 80                   # checked by TCP connections; without it, not at all
//! idle_timeout_ms = 60000            # TCP: unset, never; UDP: unset, 60000
//!
//! [[service.at]]
//! site = "a"
//! proxy = "p1"                       # where the site has several
//! listen = ["198.51.100.80:80"]      # its VIPs here
//!
//! [[service.at.backend]]             # what is no VM, and stays
//! name = "old"
//! address = ["10.0.0.80:80"]
//!
//! [[zone]]                           # served by all name servers
//! name = "example.net"
//! contact = "hostmaster@example.net"
//!
//! [[zone.record]]                    # as the name server has it
//! name = "mail.example.net"
//! type = "A"
//! data = ["203.0.113.25"]
//!
//! [[steered]]                        # a name that follows the VMs of these services
//! name = "www.example.net"
//! services = ["web"]
//! ```

mod names;
mod services;
mod sites;
mod written;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use daemon::config::{ConfigError, Problems, Told, read};
use orchestrator_api::VmDefinition;
use placement::{Identity, PartName, Role, SiteName, VmName};
use serde::Serialize;
use toml::Spanned;

use self::written::{Text, Written, WrittenImage, WrittenServe};

/// Most of anything that is listed.
const LISTED_MAX: usize = 256;

/// A whole installation.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) serve: Serve,
    pub(super) sites: Vec<Site>,
    pub(super) images: Vec<Image>,
    pub(super) vms: Vec<Vm>,
    pub(super) services: Vec<Service>,
    pub(super) zones: Vec<Zone>,
    pub(super) steered: Vec<Steered>,
}

/// The service that drives moves.
#[derive(Debug)]
pub(super) struct Serve {
    pub(super) site: SiteName,
    pub(super) name: PartName,
    pub(super) address: SocketAddr,
    pub(super) operators: Vec<PartName>,
}

/// A data center.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: SiteName,
    pub(super) proxies: Vec<Proxy>,
    pub(super) hosts: Vec<HypervisorHost>,
    pub(super) name_servers: Vec<NameServer>,
}

#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) name: PartName,
    pub(super) control: SocketAddr,
    /// Where peers reach it, and where that arrives.
    pub(super) tunnel: Option<(SocketAddr, SocketAddr)>,
    pub(super) network: PartName,
    pub(super) leg: String,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) sockets: String,
}

#[derive(Debug)]
pub(super) struct HypervisorHost {
    pub(super) name: PartName,
    pub(super) address: SocketAddr,
    pub(super) bridge: String,
    pub(super) proxy: PartName,
    pub(super) user: String,
    pub(super) accelerator: String,
    pub(super) disks: String,
}

#[derive(Debug)]
pub(super) struct NameServer {
    pub(super) name: PartName,
    pub(super) control: SocketAddr,
    pub(super) host: String,
    pub(super) dns: Vec<SocketAddr>,
}

#[derive(Debug, Serialize)]
pub(super) struct Image {
    pub(super) name: PartName,
    pub(super) kernel: String,
    pub(super) initramfs: String,
}

#[derive(Debug)]
pub(super) struct Vm {
    pub(super) site: SiteName,
    pub(super) definition: VmDefinition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: PartName,
    pub(super) protocol: Protocol,
    pub(super) vms: Vec<VmName>,
    pub(super) health_port: Option<u16>,
    pub(super) idle_timeout_ms: Option<u64>,
    pub(super) at: Vec<ServiceAt>,
}

/// A service at one site's proxy.
#[derive(Debug)]
pub(super) struct ServiceAt {
    pub(super) site: SiteName,
    pub(super) proxy: PartName,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) backends: Vec<Backend>,
}

#[derive(Debug, Serialize)]
pub(super) struct Backend {
    pub(super) name: PartName,
    pub(super) address: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vm: Option<VmName>,
}

#[derive(Debug)]
pub(super) struct Zone {
    pub(super) name: String,
    pub(super) contact: String,
    pub(super) ttl_s: Option<u32>,
    pub(super) negative_ttl_s: Option<u32>,
    /// Those of name servers among them.
    pub(super) records: Vec<Record>,
}

#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) data: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl_s: Option<u32>,
}

/// A name that follows VMs.
#[derive(Debug)]
pub(super) struct Steered {
    pub(super) name: String,
    pub(super) vms: Vec<VmName>,
    pub(super) initial_site: SiteName,
    pub(super) ttl_s: Option<u32>,
    pub(super) ttl_moving_s: Option<u32>,
    pub(super) at: Vec<(SiteName, Vec<IpAddr>)>,
}

impl Description {
    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Description, ConfigError> {
        read(path, check)
    }

    /// Every name server of every site.
    pub(super) fn name_servers(&self) -> impl Iterator<Item = &NameServer> {
        self.sites.iter().flat_map(|site| &site.name_servers)
    }
}

impl Site {
    /// Who a part of it is.
    pub(super) fn identity(&self, role: Role, name: &PartName) -> Identity {
        Identity { site: self.name.clone(), role, name: name.clone() }
    }

    /// Its proxy of this name.
    pub(super) fn proxy(&self, name: &PartName) -> Option<&Proxy> {
        self.proxies.iter().find(|proxy| proxy.name == *name)
    }

    /// The proxy that is named, or the only one.
    fn named_proxy(
        &self,
        of: &Text,
        named: Option<&Text>,
        field: &str,
        problems: &mut Problems<'_>,
    ) -> Result<&Proxy, Told> {
        match (named, &self.proxies[..]) {
            (Some(named), _) => {
                let name = problems.parse(field, named)?;
                self.proxy(&name).ok_or_else(|| {
                    let message = format!(
                        "is no proxy of site {}; add it there as [[site.proxy]], or correct the name",
                        self.name
                    );
                    problems.at(named.span(), field, message)
                })
            }
            (None, [proxy]) => Ok(proxy),
            (None, several) => {
                let message = format!(
                    "site {} has {} proxies, and it must be said which one; add proxy = \"NAME\"",
                    self.name,
                    several.len()
                );
                Err(problems.at(of.span(), field, message))
            }
        }
    }
}

fn check(written: Written, problems: &mut Problems<'_>) -> Result<Description, Told> {
    let Written { serve, site, image, vm, service, zone, steered } = written;
    let sites = sites::check_all(&serve, &site, problems);
    let serve = check_serve(&serve, problems);
    let images = each(&image, "image", problems, check_image);
    // What follows names sites and images: without them, each mention would be a mistake of its own.
    let (serve, sites, images) = (serve?, sites?, images?);
    let vms = services::check_vms(&vm, &sites, &images, problems)?;
    let services = services::check_all(&service, &sites, &vms, problems)?;
    let zones = names::check_zones(&zone, &sites, problems)?;
    let steered = names::check_steered(&steered, &zones, &services, &vms, problems)?;
    Ok(Description { serve, sites, images, vms, services, zones, steered })
}

fn check_serve(written: &WrittenServe, problems: &mut Problems<'_>) -> Result<Serve, Told> {
    let site = problems.parse("serve.site", &written.site);
    let name = problems.parse("serve.name", &written.name);
    let at = address("serve.address", &written.address, problems);
    let operators = each(
        written.operators.get_ref(),
        "serve.operators",
        problems,
        |operator, earlier, problems| {
            let checked = problems.parse("serve.operators", operator)?;
            once(earlier.contains(&checked), "serve.operators", operator, problems)?;
            Ok(checked)
        },
    );
    Ok(Serve { site: site?, name: name?, address: at?, operators: operators? })
}

fn check_image(
    written: &WrittenImage,
    earlier: &[Image],
    problems: &mut Problems<'_>,
) -> Result<Image, Told> {
    let name: PartName = problems.parse("image.name", &written.name)?;
    once(earlier.iter().any(|image| image.name == name), "image.name", &written.name, problems)?;
    let kernel = path("image.kernel", &written.kernel, problems);
    let initramfs = path("image.initramfs", &written.initramfs, problems);
    Ok(Image { name, kernel: kernel?, initramfs: initramfs? })
}

/// Checks each of a list beside those before it; every problem is recorded, not only the first.
fn each<W, C>(
    written: &[W],
    field: &str,
    problems: &mut Problems<'_>,
    mut check: impl FnMut(&W, &[C], &mut Problems<'_>) -> Result<C, Told>,
) -> Result<Vec<C>, Told> {
    if written.len() > LISTED_MAX {
        let message = format!("has {} entries; keep it to {LISTED_MAX}", written.len());
        return Err(problems.whole(field, message));
    }
    let mut checked = Vec::new();
    let mut told = None;
    for one in written {
        match check(one, &checked, problems) {
            Ok(one) => checked.push(one),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(checked), Err)
}

fn once(
    is_known: bool,
    field: &str,
    written: &Text,
    problems: &mut Problems<'_>,
) -> Result<(), Told> {
    if is_known {
        let message = "stands twice; give each a name of its own";
        return Err(problems.at(written.span(), field, message));
    }
    Ok(())
}

fn address(field: &str, written: &Text, problems: &mut Problems<'_>) -> Result<SocketAddr, Told> {
    let parsed = written.get_ref().parse::<SocketAddr>().ok();
    let fit =
        parsed.filter(|at| at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast());
    fit.ok_or_else(|| {
        let message = "is no address of one host with a port, and others are told it; \
                       write 192.0.2.10:7401 or [2001:db8::10]:7401";
        problems.at(written.span(), field, message)
    })
}

fn addresses(
    field: &str,
    written: &Spanned<Vec<Text>>,
    problems: &mut Problems<'_>,
) -> Result<Vec<SocketAddr>, Told> {
    if written.get_ref().is_empty() {
        return Err(problems.at(written.span(), field, "is empty; write at least one address"));
    }
    each(written.get_ref(), field, problems, |text, earlier, problems| {
        let checked = address(field, text, problems)?;
        if earlier.contains(&checked) {
            return Err(problems.at(text.span(), field, "is there twice; write it once"));
        }
        Ok(checked)
    })
}

fn path(field: &str, written: &Text, problems: &mut Problems<'_>) -> Result<String, Told> {
    if Path::new(written.get_ref()).is_absolute() {
        return Ok(written.get_ref().clone());
    }
    let message = "is no absolute path; it is on another host: write it from / on";
    Err(problems.at(written.span(), field, message))
}

fn unknown(
    what: impl fmt::Display,
    field: &str,
    written: &Text,
    problems: &mut Problems<'_>,
) -> Told {
    let message = format!("is no {what} of this description; add it, or correct the name");
    problems.at(written.span(), field, message)
}

#[cfg(test)]
mod tests;
