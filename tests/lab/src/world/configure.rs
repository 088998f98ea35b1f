//! What each machine of a world is given once its wires are there: addresses and routes, as lines
//! for one run of `ip -batch`.

use std::fmt::Write as _;

use super::addresses::{self, APPLICATION_BITS, Dual, DualSubnet, LINK_BITS, Station};
use super::plan::Gateway;
use super::{MANAGEMENT_DEVICE, WAN_DEVICE};

/// The hypervisor host: the bridge of the application subnet with its ports.
pub(super) fn hypervisor(site: u8, neighbours: u8) -> String {
    let mut lines = Lines::default();
    // An address of its own, or the bridge would take a new one with its ports.
    lines.add(format_args!(
        "link add br0 address 02:10:10:00:ff:{site:02x} type bridge forward_delay 0 mcast_snooping 0"
    ));
    lines.silent("br0");
    let others = (1..=neighbours).map(|number| format!("to-neighbour{number}"));
    for port in ["to-proxy", "to-router"].map(ToOwned::to_owned).into_iter().chain(others) {
        lines.port(&port, "br0");
    }
    lines.up("outside");
    lines.address("outside", addresses::hypervisor(site), LINK_BITS);
    lines.default_route(addresses::router(site), "outside");
    lines.0
}

/// The proxy host: its leg, its outside interface, and the VIPs, which its router sends to it.
pub(super) fn proxy(site: u8, vips: u8) -> String {
    let mut lines = Lines::default();
    lines.up("leg");
    lines.address("leg", addresses::leg(site).ip, APPLICATION_BITS);
    lines.up("outside");
    lines.address("outside", addresses::proxy(site), LINK_BITS);
    lines.default_route(addresses::router(site), "outside");
    for number in 1..=vips {
        lines.address("lo", addresses::vip(site, number), (32, 128));
    }
    lines.0
}

/// A neighbour: one interface on the application subnet.
pub(super) fn neighbour(station: Station, gateway: Dual) -> String {
    let mut lines = Lines::default();
    lines.up("eth0");
    lines.address("eth0", station.ip, APPLICATION_BITS);
    lines.default_route(gateway, "eth0");
    lines.0
}

/// A site's router: the gateway of the application subnet, of the hosts, and the way to clients,
/// to the other sites and to management.
pub(super) fn router(site: u8, sites: u8, clients: u8, gateway: Gateway) -> String {
    let mut lines = Lines::default();
    lines.silent("inside");
    lines.address("inside", addresses::gateway(gateway, site).ip, APPLICATION_BITS);
    let link_local = addresses::gateway_link_local(gateway, site);
    lines.add(format_args!("addr add {link_local}/64 dev inside nodad"));
    lines.add(format_args!(
        "link add hosts address 02:10:10:00:fe:{site:02x} type bridge forward_delay 0 mcast_snooping 0"
    ));
    lines.up("hosts");
    lines.port("to-proxy", "hosts");
    lines.port("to-hypervisor", "hosts");
    lines.address("hosts", addresses::router(site), LINK_BITS);
    lines.route(addresses::vips(site), Some(addresses::proxy(site)), "hosts", None);
    for client in 1..=clients {
        let (ours, theirs) = addresses::client_link(client, site);
        let device = format!("to-client{client}");
        lines.up(&device);
        lines.address(&device, ours, LINK_BITS);
        let client = DualSubnet::only(addresses::client(client));
        lines.route(client, Some(theirs), &device, None);
    }
    lines.up(WAN_DEVICE);
    lines.address(WAN_DEVICE, addresses::wan_end(site), (32, 128));
    for other in (1..=sites).filter(|other| *other != site) {
        for subnet in beyond(other) {
            lines.route(subnet, None, WAN_DEVICE, Some(addresses::router(site)));
        }
    }
    lines.up(MANAGEMENT_DEVICE);
    lines.address(MANAGEMENT_DEVICE, addresses::management_end(site), (32, 128));
    let desk = DualSubnet::only(addresses::desk());
    lines.route(desk, None, MANAGEMENT_DEVICE, Some(addresses::router(site)));
    lines.0
}

/// A client machine: one address towards all sites, and the VIPs and hosts of each by its own link.
/// The application subnet, which is at every site, is where the first site has it.
pub(super) fn client(number: u8, sites: &[String]) -> String {
    let mut lines = Lines::default();
    let own = addresses::client(number);
    lines.address("lo", own, (32, 128));
    for (index, name) in sites.iter().enumerate() {
        let site = site_number(index);
        let (theirs, ours) = addresses::client_link(number, site);
        let device = format!("to-{name}");
        lines.up(&device);
        lines.address(&device, ours, LINK_BITS);
        for subnet in [addresses::vips(site), addresses::hosts(site)] {
            lines.route(subnet, Some(theirs), &device, Some(own));
        }
        if index == 0 {
            lines.route(addresses::application(), Some(theirs), &device, Some(own));
        }
    }
    lines.0
}

/// Management's desk: the hosts of every site, over the second emulator.
pub(super) fn desk(sites: u8) -> String {
    let mut lines = Lines::default();
    lines.up(MANAGEMENT_DEVICE);
    lines.address(MANAGEMENT_DEVICE, addresses::desk(), (32, 128));
    for site in 1..=sites {
        for subnet in [addresses::hosts(site), DualSubnet::only(addresses::management_end(site))] {
            lines.route(subnet, None, MANAGEMENT_DEVICE, None);
        }
    }
    lines.0
}

/// What of a site the other sites reach over the WAN. Not its application subnet, which each has.
pub(super) fn beyond(site: u8) -> [DualSubnet; 3] {
    [addresses::hosts(site), addresses::vips(site), DualSubnet::only(addresses::wan_end(site))]
}

/// Sites are numbered from 1 in the order of the plan, which bounds their count below 256.
pub(super) fn site_number(index: usize) -> u8 {
    u8::try_from(index + 1).expect("a checked plan has at most fifteen sites")
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{line}");
    }

    fn up(&mut self, device: &str) {
        self.add(format_args!("link set {device} up"));
    }

    /// Up, with no link-local address of its own.
    fn silent(&mut self, device: &str) {
        self.add(format_args!("link set {device} addrgenmode none"));
        self.up(device);
    }

    fn port(&mut self, device: &str, bridge: &str) {
        self.add(format_args!("link set {device} addrgenmode none"));
        self.add(format_args!("link set {device} master {bridge} up"));
    }

    fn address(&mut self, device: &str, address: Dual, (v4_bits, v6_bits): (u8, u8)) {
        self.add(format_args!("addr add {}/{v4_bits} dev {device}", address.v4));
        self.add(format_args!("addr add {}/{v6_bits} dev {device} nodad", address.v6));
    }

    fn default_route(&mut self, via: Dual, device: &str) {
        for via in via.each() {
            self.add(format_args!("route add default via {via} dev {device}"));
        }
    }

    fn route(&mut self, to: DualSubnet, via: Option<Dual>, device: &str, source: Option<Dual>) {
        let [via4, via6] = part("via", via);
        let [source4, source6] = part("src", source);
        let [to4, to6] = to.each();
        self.add(format_args!("route add {to4}{via4} dev {device}{source4}"));
        self.add(format_args!("route add {to6}{via6} dev {device}{source6}"));
    }
}

fn part(word: &str, address: Option<Dual>) -> [String; 2] {
    match address {
        Some(address) => address.each().map(|address| format!(" {word} {address}")),
        None => [String::new(), String::new()],
    }
}
