//! A world: sites, the WAN between them, clients and management around them, all from namespaces.
//!
//! ```text
//!                 clients (place)                     management (place)
//!              client1 ... clientN                           desk
//!                 |  a link to each site                      |
//!                 |                             causeway-wan "management", cut by itself
//!   site a (place)|                                           |     site b, c, ... alike
//!   +-------------+-------------------------------------------+-----------------+
//!   |  router ----+---- hosts 10.(100+i).0.0/24 ----+---------------+           |
//!   |   | | wan                                   proxy        hypervisor        |
//!   |   | |                                         | leg           | br0       |
//!   |   | |  application subnet 10.10.0.0/16        |               |           |
//!   |   +-|-----------------------------------------+----- br0 -----+-- neighbours
//!   +-----+----------------------------------------------------------------------+
//!         |
//!      causeway-wan "wan", between all sites (place wan)
//! ```
//!
//! br0 is in the hypervisor's namespace, not in one of its own: the agent owns a VM's tap there, and
//! a tap can be a port of a bridge of its own namespace only.
//!
//! A VIP is an address of the proxy host's loopback, and the router sends all VIPs of its site
//! there. The proxy's outside address is the tunnel's end; routers send other sites' host subnets
//! into the WAN, so that nothing passes from site to site but through the emulator. Management's
//! emulator joins the desk with each site and no site with another.
//!
//! The addresses are in [`addresses`].

pub mod addresses;
mod build;
mod configure;
mod emulator;
mod links;
mod plan;
mod settings;

pub use addresses::{APPLICATION_BITS, Dual, DualSubnet, Mac, Station};
pub use emulator::{Emulator, EmulatorError};
pub use plan::{CLIENTS_MAX, Gateway, NEIGHBOURS_MAX, SITES_MAX, SitePlan, WorldPlan};

use std::thread;

use crate::LabError;
use crate::host::Host;
use crate::sandbox::Place;

const PROXY: &str = "proxy";
const HYPERVISOR: &str = "hypervisor";
const ROUTER: &str = "router";
const DESK: &str = "desk";
/// A router's way to the other sites.
const WAN_DEVICE: &str = "wan";
/// A router's way to management, and the desk's to all sites; also the name of the desk's port.
const MANAGEMENT_DEVICE: &str = "management";

/// How much of each log a failed test shows.
const LOG_LINES_TOLD_MAX: usize = 40;

/// A world that stands. It ends with its handle, or with the harness.
pub struct World {
    plan: WorldPlan,
    sites: Vec<Site>,
    clients: Place,
    management_place: Place,
    wan: Emulator,
    management: Emulator,
    between: Place,
}

impl World {
    /// Builds a world.
    pub fn build(plan: &WorldPlan) -> Result<Self, LabError> {
        build::build(plan)
    }

    /// What it was built from.
    pub fn plan(&self) -> &WorldPlan {
        &self.plan
    }

    /// All sites, in the order of the plan.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// A site by its name. Panics where there is none, which is an error in the test.
    #[track_caller]
    pub fn site(&self, name: &str) -> &Site {
        let found = self.sites.iter().find(|site| site.name() == name);
        found.unwrap_or_else(|| panic!("this world has no site {name}"))
    }

    /// A client machine, numbered from 1.
    pub fn client(&self, number: u8) -> Host {
        self.clients.host(Some(&client_name(number)))
    }

    /// The place of the clients.
    pub fn clients(&self) -> &Place {
        &self.clients
    }

    /// Where management works from.
    pub fn desk(&self) -> Host {
        self.management_place.host(Some(DESK))
    }

    /// What lies between the sites; its ports are called as the sites.
    pub fn wan(&self) -> &Emulator {
        &self.wan
    }

    /// What lies between management and the sites.
    pub fn management(&self) -> &Emulator {
        &self.management
    }

    /// Cuts management off from a site.
    pub fn cut_management(&self, site: &str) -> Result<(), EmulatorError> {
        self.management.cut(MANAGEMENT_DEVICE, site)
    }

    /// Ends such a cut.
    pub fn heal_management(&self, site: &str) -> Result<(), EmulatorError> {
        self.management.heal(MANAGEMENT_DEVICE, site)
    }

    /// Every place, sites first.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let around = [&self.clients, &self.management_place, &self.between];
        self.sites.iter().map(Site::place).chain(around)
    }

    /// The ends of all logs, for the reader of a failed test: they go with the world.
    fn tell_logs(&self) {
        for place in self.places() {
            for (name, text) in place.logs().unwrap_or_default() {
                let lines: Vec<&str> = text.lines().collect();
                let begin = lines.len().saturating_sub(LOG_LINES_TOLD_MAX);
                if !lines.is_empty() {
                    println!("{}, end of log {name}:\n{}", place.name(), lines[begin..].join("\n"));
                }
            }
        }
    }

    /// Ends all places now, whoever still holds handles to them.
    pub fn end(&self) -> Result<(), LabError> {
        self.places().map(Place::end).fold(Ok(()), Result::and)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell_logs();
        }
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

/// A data center.
pub struct Site {
    number: u8,
    neighbours: u8,
    gateway: Gateway,
    place: Place,
}

impl Site {
    /// Its name.
    pub fn name(&self) -> &str {
        self.place.name()
    }

    /// Its number in the plan of addresses, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its place: files and processes of all its hosts.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The proxy host.
    pub fn proxy(&self) -> Host {
        self.place.host(Some(PROXY))
    }

    /// The hypervisor host, with the bridge.
    pub fn hypervisor(&self) -> Host {
        self.place.host(Some(HYPERVISOR))
    }

    /// The router.
    pub fn router(&self) -> Host {
        self.place.host(Some(ROUTER))
    }

    /// A neighbour of the VMs, numbered from 1.
    pub fn neighbour(&self, number: u8) -> Host {
        self.place.host(Some(&neighbour_name(number)))
    }

    /// How many neighbours there are.
    pub fn neighbours(&self) -> u8 {
        self.neighbours
    }

    /// The proxy host's address outside: control, and the tunnel's end.
    pub fn proxy_address(&self) -> Dual {
        addresses::proxy(self.number)
    }

    /// The hypervisor host's address.
    pub fn hypervisor_address(&self) -> Dual {
        addresses::hypervisor(self.number)
    }

    /// An address for clients.
    pub fn vip(&self, number: u8) -> Dual {
        addresses::vip(self.number, number)
    }

    /// The proxy's leg on the application subnet.
    pub fn leg(&self) -> Station {
        addresses::leg(self.number)
    }

    /// A neighbour on the application subnet.
    pub fn neighbour_station(&self, number: u8) -> Station {
        addresses::neighbour(self.number, number)
    }

    /// The application subnet's gateway here.
    pub fn gateway(&self) -> Station {
        addresses::gateway(self.gateway, self.number)
    }
}

fn client_name(number: u8) -> String {
    format!("client{number}")
}

fn neighbour_name(number: u8) -> String {
    format!("neighbour{number}")
}
