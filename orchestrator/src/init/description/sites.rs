//! `[[site]]`, from written to checked: who stands there, and how the others reach it.

use std::net::{IpAddr, SocketAddr};

use daemon::config::{Problems, Told};
use placement::{PartName, SiteName};
use toml::Spanned;

use super::written::{
    Text, WrittenHost, WrittenNameServer, WrittenProxy, WrittenServe, WrittenSite,
};
use super::{HypervisorHost, NameServer, Proxy, Site, address, addresses, each, once, path};
use crate::serve::config::SITES_MAX;

/// Where agents and proxies of one host meet, unless the description says otherwise.
const SOCKETS: &str = "/run/causeway/agent";
const DISKS: &str = "/var/lib/causeway/disks";
const USER: &str = "causeway-qemu";
const ACCELERATOR: &str = "kvm";
/// Longest name of a network interface, in bytes.
const INTERFACE_BYTES_MAX: usize = 15;

pub(super) fn check_all(
    serve: &WrittenServe,
    written: &Spanned<Vec<WrittenSite>>,
    problems: &mut Problems<'_>,
) -> Result<Vec<Site>, Told> {
    let sites = written.get_ref();
    if !(1..=SITES_MAX).contains(&sites.len()) {
        let message = format!("there must be 1 to {SITES_MAX}; add [[site]], or leave some out");
        return Err(problems.at(written.span(), "site", message));
    }
    let checked = each(sites, "site", problems, check_site)?;
    distinct_addresses(serve, sites, problems)?;
    somebody_listens(sites, problems)?;
    Ok(checked)
}

fn check_site(
    written: &WrittenSite,
    earlier: &[Site],
    problems: &mut Problems<'_>,
) -> Result<Site, Told> {
    let name: SiteName = problems.parse("site.name", &written.name)?;
    once(earlier.iter().any(|site| site.name == name), "site.name", &written.name, problems)?;
    let proxies = each(&written.proxy, "site.proxy", problems, check_proxy);
    let servers = each(&written.name_server, "site.name_server", problems, check_name_server);
    let mut site = Site { name, proxies: proxies?, hosts: Vec::new(), name_servers: servers? };
    site.hosts = each(&written.host, "site.host", problems, |host, earlier, problems| {
        check_host(host, earlier, &site, problems)
    })?;
    Ok(site)
}

fn check_proxy(
    written: &WrittenProxy,
    earlier: &[Proxy],
    problems: &mut Problems<'_>,
) -> Result<Proxy, Told> {
    let name: PartName = problems.parse("site.proxy.name", &written.name)?;
    let is_known = earlier.iter().any(|proxy| proxy.name == name);
    once(is_known, "site.proxy.name", &written.name, problems)?;
    let control = address("site.proxy.control", &written.control, problems);
    let tunnel = tunnel(written, problems);
    let network = problems.parse("site.proxy.network", &written.network);
    let leg = interface("site.proxy.leg", &written.leg, problems);
    let gateways = each(&written.gateway, "site.proxy.gateway", problems, check_gateway);
    let sockets = written.sockets.as_ref();
    let sockets = sockets.map(|text| path("site.proxy.sockets", text, problems)).transpose();
    Ok(Proxy {
        name,
        control: control?,
        tunnel: tunnel?,
        network: network?,
        leg: leg?,
        gateways: gateways?,
        sockets: sockets?.unwrap_or_else(|| SOCKETS.to_owned()),
    })
}

/// Where peers reach a proxy, and where that arrives.
fn tunnel(
    written: &WrittenProxy,
    problems: &mut Problems<'_>,
) -> Result<Option<(SocketAddr, SocketAddr)>, Told> {
    match (&written.tunnel, &written.tunnel_listen) {
        (None, None) => Ok(None),
        (Some(reached), None) => {
            let reached = address("site.proxy.tunnel", reached, problems)?;
            Ok(Some((reached, reached)))
        }
        (Some(reached), Some(listen)) => {
            let reached = address("site.proxy.tunnel", reached, problems);
            let listen = address("site.proxy.tunnel_listen", listen, problems);
            Ok(Some((reached?, listen?)))
        }
        (None, Some(listen)) => {
            let message = "is of no use without 'tunnel', where other proxies reach it; add that";
            Err(problems.at(listen.span(), "site.proxy.tunnel_listen", message))
        }
    }
}

fn check_gateway(
    written: &Text,
    earlier: &[IpAddr],
    problems: &mut Problems<'_>,
) -> Result<IpAddr, Told> {
    let is_on_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let kind = |ip: &IpAddr| (ip.is_ipv4(), is_on_link(ip));
    let message = match written.get_ref().parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() => {
            "is no address of a router; write the subnet's gateway"
        }
        Ok(ip) if earlier.iter().any(|known| kind(known) == kind(&ip)) => {
            "is a second one of its kind; write one IPv4, one IPv6 and one link-local address"
        }
        Ok(ip) => return Ok(ip),
        Err(_) => "is no address; write 10.0.0.1, fd10::1 or fe80::1",
    };
    Err(problems.at(written.span(), "site.proxy.gateway", message))
}

fn check_host(
    written: &WrittenHost,
    earlier: &[HypervisorHost],
    site: &Site,
    problems: &mut Problems<'_>,
) -> Result<HypervisorHost, Told> {
    let name: PartName = problems.parse("site.host.name", &written.name)?;
    once(earlier.iter().any(|host| host.name == name), "site.host.name", &written.name, problems)?;
    let at = address("site.host.address", &written.address, problems);
    let bridge = interface("site.host.bridge", &written.bridge, problems);
    let disks = written.disks.as_ref();
    let disks = disks.map(|disks| path("site.host.disks", disks, problems)).transpose();
    let proxy =
        site.named_proxy(&written.name, written.proxy.as_ref(), "site.host.proxy", problems)?;
    if let Some(other) = earlier.iter().find(|host| host.proxy == proxy.name) {
        let message = format!(
            "would share proxy {} with host {}: agent and proxy meet in a folder of one machine; \
             give this host a proxy of its own",
            proxy.name, other.name
        );
        return Err(problems.at(written.name.span(), "site.host.name", message));
    }
    Ok(HypervisorHost {
        name,
        address: at?,
        bridge: bridge?,
        proxy: proxy.name.clone(),
        user: user(written, problems)?,
        accelerator: accelerator(written, problems)?,
        disks: disks?.unwrap_or_else(|| DISKS.to_owned()),
    })
}

fn user(written: &WrittenHost, problems: &mut Problems<'_>) -> Result<String, Told> {
    match &written.user {
        None => Ok(USER.to_owned()),
        Some(user) if ["", "root"].contains(&user.get_ref().as_str()) => {
            let message = "cannot run QEMU; name a user of the host who may do nothing else";
            Err(problems.at(user.span(), "site.host.user", message))
        }
        Some(user) => Ok(user.get_ref().clone()),
    }
}

fn accelerator(written: &WrittenHost, problems: &mut Problems<'_>) -> Result<String, Told> {
    match &written.accelerator {
        None => Ok(ACCELERATOR.to_owned()),
        Some(text) if ["kvm", "tcg"].contains(&text.get_ref().as_str()) => {
            Ok(text.get_ref().clone())
        }
        Some(text) => {
            let message = "is no accelerator; write kvm, or tcg where guests cannot run on it";
            Err(problems.at(text.span(), "site.host.accelerator", message))
        }
    }
}

fn check_name_server(
    written: &WrittenNameServer,
    earlier: &[NameServer],
    problems: &mut Problems<'_>,
) -> Result<NameServer, Told> {
    let name: PartName = problems.parse("site.name_server.name", &written.name)?;
    let is_known = earlier.iter().any(|server| server.name == name);
    once(is_known, "site.name_server.name", &written.name, problems)?;
    let control = address("site.name_server.control", &written.control, problems);
    let host = super::names::domain("site.name_server.host", &written.host, problems);
    let dns = addresses("site.name_server.dns", &written.dns, problems);
    Ok(NameServer { name, control: control?, host: host?, dns: dns? })
}

fn interface(field: &str, written: &Text, problems: &mut Problems<'_>) -> Result<String, Told> {
    let name = written.get_ref();
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_length = (1..=INTERFACE_BYTES_MAX).contains(&name.len());
    if is_length && name.bytes().all(is_fit) && !name.starts_with('.') {
        return Ok(name.clone());
    }
    let message = format!(
        "is no interface's name; write 1 to {INTERFACE_BYTES_MAX} of a-z, A-Z, 0-9, '-', '_' and \
         inner '.'"
    );
    Err(problems.at(written.span(), field, message))
}

/// Two that listen at one place: the second would not start.
fn distinct_addresses(
    serve: &WrittenServe,
    sites: &[WrittenSite],
    problems: &mut Problems<'_>,
) -> Result<(), Told> {
    let proxies = sites.iter().flat_map(|site| &site.proxy);
    let proxies = proxies.flat_map(|proxy| {
        let tunnel = proxy.tunnel.as_ref().map(|text| ("site.proxy.tunnel", text));
        [Some(("site.proxy.control", &proxy.control)), tunnel].into_iter().flatten()
    });
    let hosts = sites.iter().flat_map(|site| &site.host);
    let hosts = hosts.map(|host| ("site.host.address", &host.address));
    let servers = sites.iter().flat_map(|site| &site.name_server);
    let servers = servers.map(|server| ("site.name_server.control", &server.control));
    let serve = [("serve.address", &serve.address)];
    let mut known: Vec<&str> = Vec::new();
    let mut told = None;
    for (field, text) in serve.into_iter().chain(proxies).chain(hosts).chain(servers) {
        if known.contains(&text.get_ref().as_str()) {
            let message = "is another one's address as well; give each its own";
            told = Some(problems.at(text.span(), field, message));
        }
        known.push(text.get_ref());
    }
    told.map_or(Ok(()), Err)
}

/// Of two proxies one must be there to be dialled.
fn somebody_listens(sites: &[WrittenSite], problems: &mut Problems<'_>) -> Result<(), Told> {
    let mut dialling: Option<&str> = None;
    for site in sites {
        for proxy in site.proxy.iter().filter(|proxy| proxy.tunnel.is_none()) {
            match dialling {
                Some(other) if other != site.name.get_ref() => {
                    let message = format!(
                        "has no 'tunnel', and neither has a proxy of site {other}: neither can dial \
                         the other; add it to one"
                    );
                    return Err(problems.at(proxy.name.span(), "site.proxy.name", message));
                }
                _ => dialling = Some(site.name.get_ref()),
            }
        }
    }
    Ok(())
}
