//! What a plan says of names: which follow the VM, and which name servers cannot be asked. None of it
//! forbids a move: whoever is told the old address is served through the tunnel.

use gslb_api::{Name, Names};
use orchestrator_api::{Finding, Move, PlannedName, Weight};
use placement::{Epoch, PartName, SiteName};
use tokio::time::timeout;

use super::name_servers::{NAME_CALL_MAX, NameServerPort};
use super::parties::Parties;
use crate::report::together;

/// What name servers know of a VM.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    /// Each name that depends on it, once.
    pub(super) names: Vec<PlannedName>,
    /// The highest epoch that one has seen of it: a move must go beyond it to be heard.
    pub(super) seen: Option<Epoch>,
}

/// Asks all name servers at the same time, each within [`NAME_CALL_MAX`].
pub(super) async fn names<P: Parties>(
    parties: &P,
    wanted: &Move,
    findings: &mut Vec<Finding>,
) -> KnownNames {
    let servers = parties.name_servers();
    let asking = servers.iter().map(|(_, server)| timeout(NAME_CALL_MAX, server.names()));
    let answers = together(asking).await;
    let mut known = KnownNames::default();
    for (((site, name), _), answer) in servers.iter().zip(answers) {
        match answer {
            Ok(Ok(names)) => known.heard((site, name), &names, wanted, findings),
            Ok(Err(trouble)) => {
                findings.push(silent(site, name, &daemon::with_causes(&trouble)));
            }
            Err(_) => {
                let why = format!("no answer within {NAME_CALL_MAX:?}");
                findings.push(silent(site, name, &why));
            }
        }
    }
    known
}

impl KnownNames {
    fn heard(
        &mut self,
        (site, server): (&SiteName, &PartName),
        told: &Names,
        wanted: &Move,
        findings: &mut Vec<Finding>,
    ) {
        let of_vm = told.vms.iter().find(|vm| vm.vm == wanted.vm);
        self.seen = self.seen.max(of_vm.map(|vm| vm.epoch));
        let to = &wanted.pair.to.site;
        for name in told.names.iter().filter(|name| name.vms.contains(&wanted.vm)) {
            if !name.sites.contains(to) {
                let what = format!("has no address for {} at site {to}", name.name);
                let remedy = "give the name its addresses there, or it stays where it is";
                findings.push(warns(called(site, server), what, remedy));
            }
            let follows = follows(name, wanted);
            match self.names.iter_mut().find(|known| known.name == name.name) {
                // It follows where all who answer it let it.
                Some(known) => known.follows &= follows,
                None => {
                    let (name, site) = (name.name.clone(), name.site.clone());
                    self.names.push(PlannedName { name, site, follows });
                }
            }
        }
    }
}

/// A name is where all of its VMs run.
fn follows(name: &Name, wanted: &Move) -> bool {
    let to = &wanted.pair.to.site;
    let others = name.vms.iter().filter(|vm| **vm != wanted.vm);
    let mut apart = others.filter(|vm| name.site != *to || name.elsewhere.contains(vm));
    name.sites.contains(to) && apart.next().is_none()
}

fn silent(site: &SiteName, name: &PartName, why: &str) -> Finding {
    let what = format!("cannot be asked: {why}");
    let remedy = "see that it runs; until it confirms, it answers with the old site";
    warns(called(site, name), what, remedy)
}

fn called(site: &SiteName, name: &PartName) -> String {
    format!("name server {name} of site {site}")
}

fn warns(thing: String, what: String, remedy: &str) -> Finding {
    Finding { weight: Weight::Warns, thing, what, remedy: remedy.to_owned() }
}
