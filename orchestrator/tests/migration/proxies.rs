//! Model proxies: epochs by the real rules, and the grants that stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hypervisor::CallTrouble;
use hypervisor::model::ModelAgent;
use orchestrator::migration::{Parties, ProxyPort};
use orchestrator_api::{Place, Refusal};
use placement::{Authority, End, Epoch, PartName, SiteName, VmName, Watermark};
use proxy_api::{
    AtHome, Card, Claim, FlowId, GrantChannel, Home, Neighbour, Networks, PinnedFlow, PinnedPage,
    Places, Reclaim, Reclaimed, Redirect, Stage, Tunnel, TunnelPeer, Vm, VmWay, WayKind,
};
use proxy_api::{Backend, BackendAddress, Health, Protocol, Service, Services};

use crate::name_servers::ModelNameServer;

/// Where there is an agent and a proxy, each proxy connected with each.
pub(crate) const SITES: [&str; 3] = ["a", "b", "c"];

#[derive(Default)]
struct Inner {
    marks: BTreeMap<VmName, Watermark>,
    grants: BTreeSet<String>,
    /// What was noted for the ledger, by epoch.
    noted: BTreeMap<Epoch, Vec<PinnedFlow>>,
    is_silent: bool,
    /// How the VM's application is, where there is a service with it.
    health: Option<Health>,
    /// What stands here for the VM, and of which move.
    way: Option<(WayKind, Epoch)>,
    /// Flows towards it that live.
    live: BTreeSet<FlowId>,
    /// So often it says yet that something comes through the tunnel.
    still_comes: u32,
    /// Who is on its network.
    neighbours: Vec<Neighbour>,
}

/// One proxy.
#[derive(Clone, Default)]
pub(crate) struct ModelProxy(Arc<Mutex<Inner>>);

impl ModelProxy {
    pub(crate) fn grants(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().grants.clone()
    }

    /// It has noted these flows of a move, and nothing of others; or forgets what it had.
    pub(crate) fn notes(&self, epoch: Epoch, flows: Option<Vec<PinnedFlow>>) {
        let mut inner = self.0.lock().unwrap();
        inner.noted.clear();
        inner.noted.extend(flows.map(|flows| (epoch, flows)));
    }

    /// This stands here for the VM.
    pub(crate) fn stands(&self, kind: WayKind, epoch: Epoch) {
        self.0.lock().unwrap().way = Some((kind, epoch));
    }

    pub(crate) fn way(&self) -> Option<(WayKind, Epoch)> {
        self.0.lock().unwrap().way
    }

    /// These flows live here from now on, and no others.
    pub(crate) fn carries(&self, numbers: impl IntoIterator<Item = u64>) {
        let flows = numbers.into_iter().map(|number| FlowId { boot_us: 7, number });
        self.0.lock().unwrap().live = flows.collect();
    }

    /// It serves the VM, and has found it so.
    pub(crate) fn finds(&self, health: Health) {
        self.0.lock().unwrap().health = Some(health);
    }

    /// So often it says from now on that something comes through the tunnel.
    pub(crate) fn hears(&self, times: u32) {
        self.0.lock().unwrap().still_comes = times;
    }

    /// This one is on its network.
    pub(crate) fn has_neighbour(&self, address: &str, mac: &str, is_gateway: bool) {
        let (address, mac) = (address.parse().unwrap(), Some(mac.parse().unwrap()));
        let neighbour = Neighbour { address, mac, is_gateway, is_there_too: false };
        self.0.lock().unwrap().neighbours.push(neighbour);
    }

    /// It answers nothing about flows, or does again.
    pub(crate) fn is_silent(&self, is_silent: bool) {
        self.0.lock().unwrap().is_silent = is_silent;
    }
}

/// Flows on one page of a model's: few, so that there are several.
pub(crate) const PAGE: usize = 3;

fn refused(code: &str) -> CallTrouble {
    let (message, remedy) = (format!("the model says {code}"), "ask another".to_owned());
    let refusal = Refusal { code: code.to_owned(), message, remedy };
    CallTrouble::Refused { party: "model proxy".to_owned(), refusal }
}

fn stale(why: &placement::Stale) -> CallTrouble {
    let refusal = Refusal {
        code: "stale_epoch".to_owned(),
        message: why.to_string(),
        remedy: "claim anew".to_owned(),
    };
    CallTrouble::Refused { party: "model proxy".to_owned(), refusal }
}

impl ProxyPort for ModelProxy {
    async fn claim(&self, vm: &VmName, claim: &Claim) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        let raised = mark.raised(&claim.authority).map_err(|why| stale(&why))?;
        if raised.epoch() > mark.epoch() {
            *mark = raised;
            inner.grants.clear();
        }
        Ok(())
    }

    async fn give_back(&self, vm: &VmName, authority: &Authority) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        mark.admit(authority).or_else(|why| match why {
            placement::Stale::Ended { .. } => Ok(()),
            why => Err(stale(&why)),
        })?;
        *mark = mark.ending(authority.epoch);
        inner.grants.clear();
        Ok(())
    }

    async fn grant(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        mark.admit(&grant.authority).map_err(|why| stale(&why))?;
        inner.grants.insert(format!("{vm}.{}.{channel}", grant.authority.epoch));
        Ok(())
    }

    async fn revoke(
        &self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        mark.admit(&grant.authority).map_err(|why| stale(&why))?;
        inner.grants.remove(&format!("{vm}.{}.{channel}", grant.authority.epoch));
        Ok(())
    }

    async fn stage(&self, vm: &VmName, stage: &Stage) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        mark.admit(&stage.authority).map_err(|why| stale(&why))?;
        inner.grants.insert(format!("{vm}.{} staged", stage.authority.epoch));
        Ok(())
    }

    async fn unstage(&self, vm: &VmName, authority: &Authority) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        mark.admit(authority).map_err(|why| stale(&why))?;
        inner.grants.remove(&format!("{vm}.{} staged", authority.epoch));
        Ok(())
    }

    async fn redirect(&self, vm: &VmName, redirect: &Redirect) -> Result<(), CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        *mark = mark.raised(&redirect.authority).map_err(|why| stale(&why))?;
        Ok(())
    }

    /// As the proxy does: it must host the VM by that very move, or have let go of it before.
    async fn home(&self, _: &VmName, home: &Home) -> Result<AtHome, CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        if inner.is_silent {
            return Err(refused("ending"));
        }
        match inner.way {
            Some((WayKind::Hosting, epoch)) if epoch == home.epoch => {}
            None => {}
            _ => return Err(refused("not_here")),
        }
        if inner.still_comes > 0 && !home.force {
            inner.still_comes -= 1;
            return Err(refused("still_comes"));
        }
        inner.way = None;
        Ok(AtHome { neighbours: inner.neighbours.clone() })
    }

    async fn elsewhere(&self, _: &VmName) -> Result<Places, CallTrouble> {
        Ok(Places { places: Vec::new() })
    }

    async fn networks(&self) -> Result<Networks, CallTrouble> {
        Ok(Networks { legs: Vec::new() })
    }

    async fn services(&self) -> Result<Services, CallTrouble> {
        let address = "10.9.2.1:80".parse().unwrap();
        let backend = |health| Backend {
            name: "web".parse().unwrap(),
            vm: Some("web".parse().unwrap()),
            draining: false,
            addresses: vec![BackendAddress { address, health, flows_active: 0 }],
        };
        let backends = self.0.lock().unwrap().health.map(backend).into_iter().collect();
        let service = Service {
            name: "web".parse().unwrap(),
            protocol: Protocol::Tcp,
            listen: Vec::new(),
            draining: false,
            flows_active: 0,
            flows_opened: 0,
            refused: BTreeMap::new(),
            backends,
        };
        Ok(Services { services: vec![service] })
    }

    async fn tunnel(&self) -> Result<Tunnel, CallTrouble> {
        let peer = |site: &str| TunnelPeer {
            identity: format!("causeway://site/{site}/role/proxy/name/p1").parse().unwrap(),
            is_connected: true,
            bulk_connected: 1,
            rtt_us: Some(20_000),
            channels: Vec::new(),
            carries_packets: true,
            wire: Default::default(),
        };
        Ok(Tunnel { peers: SITES.map(peer).into(), dropped: Vec::new() })
    }

    async fn cutover(
        &self,
        _: &VmName,
        epoch: Epoch,
        after: Option<FlowId>,
    ) -> Result<PinnedPage, CallTrouble> {
        let inner = self.0.lock().unwrap();
        if inner.is_silent {
            return Err(refused("ending"));
        }
        let noted = inner.noted.get(&epoch).ok_or_else(|| refused("not_noted"))?;
        let rest = noted.iter().filter(|pinned| after.is_none_or(|after| pinned.flow.id > after));
        let rest: Vec<PinnedFlow> = rest.cloned().collect();
        let flows: Vec<PinnedFlow> = rest.iter().take(PAGE).cloned().collect();
        let last = flows.last().map(|pinned| pinned.flow.id);
        let more_after = last.filter(|_| rest.len() > PAGE);
        let (stragglers, left_out) = (Vec::new(), 0);
        Ok(PinnedPage { epoch, as_of_ms: 1_000, flows, stragglers, left_out, more_after })
    }

    async fn vm(&self, vm: &VmName) -> Result<Vm, CallTrouble> {
        let inner = self.0.lock().unwrap();
        if inner.is_silent {
            return Err(refused("ending"));
        }
        let mark = inner.marks.get(vm).ok_or_else(|| refused("unknown_vm"))?;
        let card = Card { mac: "02:00:00:00:02:01".parse().unwrap(), addresses: Vec::new() };
        let way = inner.way.map(|(kind, epoch)| {
            let (peers, packets) = (Vec::new(), None);
            VmWay { kind, epoch, peers, card, packets }
        });
        let (vm, owner) = (vm.clone(), mark.owner().cloned());
        Ok(Vm { vm, epoch: mark.epoch(), owner, ended: mark.ended(), placement: None, way })
    }

    /// As the proxy does: flows count only where the VM is away.
    async fn reclaim(&self, _: &VmName, wish: &Reclaim) -> Result<Reclaimed, CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let is_away = matches!(inner.way, Some((WayKind::Away, _)));
        if is_away && !wish.force && !inner.live.is_empty() {
            return Err(refused("flows_live"));
        }
        if inner.way.is_some_and(|(_, epoch)| epoch > wish.release) {
            return Err(refused("later_move"));
        }
        let broken_off = if is_away { std::mem::take(&mut inner.live) } else { BTreeSet::new() };
        inner.way = None;
        Ok(Reclaimed { broken_off: broken_off.into_iter().collect() })
    }
}

/// Everybody in a trial.
#[derive(Clone, Default)]
pub(crate) struct ModelParties {
    pub(crate) agents: BTreeMap<Place, ModelAgent>,
    pub(crate) proxies: BTreeMap<(SiteName, PartName), ModelProxy>,
    pub(crate) name_servers: BTreeMap<(SiteName, PartName), ModelNameServer>,
}

impl Parties for ModelParties {
    type Agent = ModelAgent;
    type Proxy = ModelProxy;
    type NameServer = ModelNameServer;

    fn agent(&self, end: &End) -> Option<&ModelAgent> {
        self.agents.get(&Place::from(end))
    }

    fn proxy(&self, end: &End) -> Option<&ModelProxy> {
        self.proxies.get(&(end.site.clone(), end.proxy.clone()))
    }

    fn proxies(&self) -> Vec<(&(SiteName, PartName), &ModelProxy)> {
        self.proxies.iter().collect()
    }

    fn name_servers(&self) -> Vec<(&(SiteName, PartName), &ModelNameServer)> {
        self.name_servers.iter().collect()
    }
}
