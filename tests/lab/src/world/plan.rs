//! What a world is to be: how many sites, who stands around them, what lies between.

use std::path::PathBuf;

use wan::{Change, PORTS_MAX};

use crate::LabError;

/// The management emulator has a port for the desk besides one for each site.
pub const SITES_MAX: usize = PORTS_MAX - 1;
/// So many have an address in the plan of addresses.
pub const NEIGHBOURS_MAX: u8 = 9;
/// So many have a link to each site in the plan of addresses.
pub const CLIENTS_MAX: u8 = 50;
/// A longer name would not fit into the names of interfaces.
const SITE_NAME_BYTES_MAX: usize = 12;
/// Names of the places around the sites.
pub(super) const AROUND: [&str; 3] = ["clients", "wan", "management"];

/// What a world is to be. `WorldPlan::default()` is the usual one: sites a and b.
#[derive(Debug, Clone)]
pub struct WorldPlan {
    /// The sites, each linked with each.
    pub sites: Vec<SitePlan>,
    /// How many client machines there are, each linked to every site.
    pub clients: u8,
    /// How many VIPs each site has.
    pub vips: u8,
    /// What the sites' gateways on the application subnet are called.
    pub gateway: Gateway,
    /// What the links between sites are like at first.
    pub wan: Change,
    /// What the links between sites and management are like at first.
    pub management: Change,
    /// Decides all chance in both.
    pub seed: u64,
    /// Folders of the machine that sites see though they lie below a covered one; read-only.
    pub kept: Vec<PathBuf>,
}

/// What a site is to be.
#[derive(Debug, Clone)]
pub struct SitePlan {
    /// Its name, also its host name and its ports' in both emulators: a to z, 0 to 9, '-'.
    pub name: String,
    /// How many neighbours its VMs have on the application subnet.
    pub neighbours: u8,
}

/// Whether a VM that has moved finds a gateway of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// Each site has the same address, link-local address and MAC, as anycast and VRRP give.
    Same,
    /// Each site has its own.
    Own,
}

impl Default for WorldPlan {
    fn default() -> Self {
        Self::with_sites(&["a", "b"])
    }
}

impl WorldPlan {
    /// Sites of these names with one neighbour each, and one client; perfect links.
    pub fn with_sites(names: &[&str]) -> Self {
        let site = |name: &&str| SitePlan { name: (*name).to_owned(), neighbours: 1 };
        Self {
            sites: names.iter().map(site).collect(),
            clients: 1,
            vips: 2,
            gateway: Gateway::Same,
            wan: Change::default(),
            management: Change::default(),
            seed: 1,
            kept: Vec::new(),
        }
    }

    pub(super) fn check(&self) -> Result<(), LabError> {
        let bad = |reason: String| Err(LabError::BadPlan { reason });
        if self.sites.is_empty() || self.sites.len() > SITES_MAX {
            let count = self.sites.len();
            return bad(format!("it has {count} sites; give 1 to {SITES_MAX}"));
        }
        if self.clients > CLIENTS_MAX {
            return bad(format!("it has {} clients; give at most {CLIENTS_MAX}", self.clients));
        }
        for (index, site) in self.sites.iter().enumerate() {
            let name = &site.name;
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || name.len() > SITE_NAME_BYTES_MAX || !name.bytes().all(allowed) {
                return bad(format!(
                    "a site is called '{name}'; give 1 to {SITE_NAME_BYTES_MAX} of a-z, 0-9 and '-'"
                ));
            }
            if AROUND.contains(&name.as_str()) {
                return bad(format!("a site is called '{name}', as what stands around the sites"));
            }
            if self.sites[..index].iter().any(|earlier| earlier.name == *name) {
                return bad(format!("two sites are called '{name}'; name each differently"));
            }
            if site.neighbours > NEIGHBOURS_MAX {
                let count = site.neighbours;
                return bad(format!(
                    "site {name} has {count} neighbours; give at most {NEIGHBOURS_MAX}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(plan: &WorldPlan) -> String {
        plan.check().unwrap_err().to_string()
    }

    #[test]
    fn one_site_and_fifteen_are_worlds_and_sixteen_are_not() {
        assert!(WorldPlan::with_sites(&["only"]).check().is_ok());
        let names: Vec<_> = (0..=SITES_MAX).map(|n| format!("s{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(WorldPlan::with_sites(&names[..SITES_MAX]).check().is_ok());
        assert!(refusal(&WorldPlan::with_sites(&names)).contains("1 to 15"));
        assert!(refusal(&WorldPlan::with_sites(&[])).contains("0 sites"));
    }

    #[test]
    fn names_that_would_collide_or_not_fit_are_refused() {
        assert!(refusal(&WorldPlan::with_sites(&["a", "a"])).contains("two sites are called 'a'"));
        assert!(refusal(&WorldPlan::with_sites(&["wan"])).contains("'wan'"));
        for name in ["", "A", "a site", "thirteen-long"] {
            assert!(refusal(&WorldPlan::with_sites(&[name])).contains("1 to 12"), "{name}");
        }
    }
}
