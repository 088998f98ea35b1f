//! Two sites, a VM, and the order of a move: what the agents and the proxies will do, step by step.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use lab::snapshot::Snapshot;
use lab::vm::namespace::NamespaceVm;
use lab::world::{Gateway, Site, World, WorldPlan, addresses};
use network::leg::{self, Away, Hosting, Leg, LegPlan, Otherwise, Peer, VmWanted};
use network::port::{Announced, Seen, announce};
use network::{Mac, Port, PortWanted, TapQueue};
use tempfile::TempDir;

use crate::hand::Hand;
use crate::relay::{DELAY, Lane};
use scenarios::flows::{Flows, Server};
pub(crate) use scenarios::vm_port::{A, B, Ends, guest};
use scenarios::vm_port::{Tap, alone, at_port, set_port, web};

/// What one site has.
pub(crate) struct End {
    name: String,
    pub(crate) hand: Hand,
    plan: LegPlan,
    leg: Arc<Mutex<Leg>>,
    pub(crate) leg_mac: Mac,
    tap: Option<Tap>,
    wanted: VmWanted,
}

pub(crate) struct Rig {
    lanes: [Lane; 2],
    pub(crate) vm: NamespaceVm,
    pub(crate) ends: [End; 2],
    /// Addresses of A's that somebody at B has too.
    pub(crate) twins: Vec<IpAddr>,
    _server: Server,
    _folder: TempDir,
    before: [Snapshot; 2],
    pub(crate) world: World,
    _one: MutexGuard<'static, ()>,
}

impl Rig {
    /// The VM runs at A.
    pub(crate) fn new(gateway: Gateway) -> Rig {
        let one = alone();
        let plan = WorldPlan { gateway, ..WorldPlan::default() };
        let world = World::build(&plan).unwrap();
        world.clients().add_hosts(&["vm"]).unwrap();
        let host = world.clients().host(Some("vm"));
        let vm = NamespaceVm::make(&host, addresses::vm(1), world.site("a").gateway().ip).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let before = ["a", "b"].map(|site| Snapshot::take(world.site(site).place()).unwrap());
        let ((a, tun_a), (b, tun_b)) =
            (End::up(world.site("a"), &folder), End::up(world.site("b"), &folder));
        let (tun_a, tun_b) = (Arc::new(tun_a), Arc::new(tun_b));
        let addresses = guest().addresses;
        let lanes =
            [Lane::between(&addresses, &tun_a, &tun_b), Lane::between(&addresses, &tun_b, &tun_a)];
        let server = Server::on(&host);
        let mut rig = Rig {
            lanes,
            vm,
            ends: [a, b],
            twins: Vec::new(),
            _server: server,
            _folder: folder,
            before,
            world,
            _one: one,
        };
        rig.open_tap(A);
        rig.set_port(A, true, PortWanted::default());
        rig.vm.cont(rig.ends[A].tap().end).unwrap();
        rig
    }

    pub(crate) fn site(&self, at: usize) -> &Site {
        self.world.site(&self.ends[at].name)
    }

    /// Flows from a proxy's own sockets.
    pub(crate) fn proxied(&self, at: usize) -> Flows {
        let leg = Arc::clone(&self.ends[at].leg);
        self.ends[at].hand.call(move || {
            let leg = leg.lock().unwrap();
            let _inside = leg.namespace().enter().unwrap();
            Flows::start("proxied", &guest().addresses)
        })
    }

    pub(crate) fn seen(&self, at: usize) -> Vec<Seen> {
        let leg = self.ends[at].leg_mac;
        self.port(at, move |port| port.seen(Some(leg)).unwrap())
    }

    /// A hold of the VM, from the stage to what `ends` says; the VM runs at `from`.
    pub(crate) fn go(&mut self, from: usize, to: usize, ends: Ends) {
        self.stage(from, to);
        let leftovers = self.hold_and_stop(from);
        match ends {
            Ends::AtTarget => {
                self.start(from, to, &leftovers);
                self.leave(from);
            }
            Ends::CancelledAfter(time) => {
                std::thread::sleep(time);
                self.cancel(from, &leftovers);
                self.unstage(to);
            }
        }
    }

    fn stage(&mut self, from: usize, to: usize) {
        self.port(from, |port| port.make_turn().unwrap());
        self.open_tap(to);
        let leg = self.ends[to].leg_mac;
        let both = PortWanted { turn_round: Some(leg), take_over: Some(leg) };
        self.set_port(to, true, both);
        let otherwise = if to == A { Otherwise::Here } else { Otherwise::There };
        let peers = self.peers(from);
        self.set_leg(to, |wanted| wanted.hosting = Some(Hosting { peers, otherwise }));
    }

    /// Everybody at the site that the VM speaks with.
    fn peers(&self, at: usize) -> Vec<Peer> {
        let site = self.site(at);
        let own = guest().addresses;
        let seen = self.seen(at).into_iter().map(|seen| seen.tuple.peer);
        // The VM also spoke with those elsewhere, from here.
        let hosting = self.ends[at].wanted.hosting.as_ref();
        let elsewhere = hosting.into_iter().flat_map(|hosting| &hosting.peers);
        let elsewhere: Vec<IpAddr> =
            elsewhere.filter(|peer| !peer.is_here_too).map(|peer| peer.address).collect();
        let is_here = |ip: &IpAddr| !own.contains(ip) && !elsewhere.contains(ip);
        let subnet = seen.filter(|ip| is_on_subnet(*ip) && is_here(ip));
        let peer = |address| Peer {
            address,
            is_router: false,
            is_here_too: self.twins.contains(&address),
        };
        let mut peers: Vec<Peer> = subnet.chain(site.leg().ip.each()).map(peer).collect();
        let gateway = self.world.plan().gateway;
        if gateway == Gateway::Own {
            let link_local = addresses::gateway_link_local(gateway, site.number()).into();
            let routers = site.gateway().ip.each().into_iter().chain([link_local]);
            peers.extend(routers.map(|address| Peer { is_router: true, ..peer(address) }));
        }
        peers
    }

    /// What is left of the tap, once the VM is stopped.
    fn hold_and_stop(&mut self, from: usize) -> Vec<Vec<u8>> {
        let to = 1 - from;
        let leg = self.ends[from].leg_mac;
        // What the other site's proxy still sends is sent back from here on.
        self.lanes[to].hold();
        self.lanes[from].hold();
        self.set_leg(from, |wanted| wanted.away = Some(Away { diverts: true, stands_in: false }));
        let take_over = (from != A || self.ends[from].wanted.hosting.is_some()).then_some(leg);
        self.set_port(from, true, PortWanted { turn_round: Some(leg), take_over });
        self.set_leg(from, |wanted| wanted.away = Some(Away { diverts: true, stands_in: true }));
        self.ends[from].tap().stop(&self.vm)
    }

    fn start(&mut self, from: usize, to: usize, leftovers: &[Vec<u8>]) {
        // The last of the memory and its confirmation take a round trip, so that what the VM sent
        // before the stop is there before it.
        std::thread::sleep(2 * DELAY);
        let leg = Arc::clone(&self.ends[from].leg);
        let began_here =
            self.ends[from].hand.call(move || leg.lock().unwrap().began_here(&web()).unwrap());
        if to == A {
            let leg = Arc::clone(&self.ends[to].leg);
            self.ends[to].hand.call(move || {
                leg.lock().unwrap().add_began_there(&web(), &began_here).unwrap();
            });
        }
        let tap = self.ends[to].tap();
        let (name, end) = (tap.name.clone(), tap.end);
        self.port(to, |port| port.pin_to(&name).unwrap());
        self.vm.cont(end).unwrap();
        println!("held: {} there, {} back", self.lanes[from].held(), self.lanes[to].held());
        if self.ends[to].wanted.away.is_some() {
            // What was under way to the old place comes back here, and then our own.
            self.lanes[to].give_back(leftovers);
            self.lanes[from].release(&[]);
            self.come_back(to);
            self.lanes[to].pass();
            self.set_port(
                to,
                true,
                PortWanted { turn_round: None, take_over: Some(self.ends[to].leg_mac) },
            );
            self.port(to, |port| port.unpin(&name).unwrap());
        } else {
            self.lanes[from].release(leftovers);
            self.lanes[to].pass();
        }
    }

    /// The source's process ends; its neighbours' packets go on finding the VM.
    fn leave(&mut self, from: usize) {
        self.port(from, |port| port.pin_to_turn().unwrap());
        let tap = self.ends[from].tap.take().unwrap();
        self.vm.close(tap.end);
        drop(tap);
        let leg = self.ends[from].leg_mac;
        self.set_port(from, false, PortWanted { turn_round: Some(leg), take_over: None });
        self.set_leg(from, |wanted| wanted.hosting = None);
    }

    fn cancel(&mut self, from: usize, leftovers: &[Vec<u8>]) {
        let end = self.ends[from].tap().end;
        self.vm.cont(end).unwrap();
        self.lanes[from].give_back(leftovers);
        self.lanes[1 - from].release(&[]);
        self.come_back(from);
        let take_over = self.ends[from].wanted.hosting.is_some().then_some(self.ends[from].leg_mac);
        self.set_port(from, true, PortWanted { turn_round: None, take_over });
        self.lanes[from].pass();
    }

    /// What is given back is followed by what goes to the leg again.
    fn come_back(&mut self, at: usize) {
        self.lanes[at].wait_given_back();
        self.set_leg(at, |wanted| wanted.away = Some(Away { diverts: false, stands_in: true }));
        self.lanes[at].wait_given_back();
        self.set_leg(at, |wanted| wanted.away = None);
    }

    fn unstage(&mut self, to: usize) {
        let tap = self.ends[to].tap.take().unwrap();
        self.vm.close(tap.end);
        drop(tap);
        if self.ends[to].wanted.away.is_some() {
            let leg = self.ends[to].leg_mac;
            self.set_port(to, false, PortWanted { turn_round: Some(leg), take_over: None });
        } else {
            self.port(to, |port| port.clear().unwrap());
        }
        self.set_leg(to, |wanted| wanted.hosting = None);
    }

    /// The drain at home is over: the VM is told where everybody is, and nothing stands any more.
    pub(crate) fn drained(&mut self) {
        let those: Vec<Announced> = self.neighbours_of_a();
        let tap = self.ends[A].tap().name.clone();
        self.site(A).hypervisor().inside(|| announce(&tap, &guest(), &those).unwrap()).unwrap();
        self.set_port(A, true, PortWanted::default());
        self.port(A, |port| port.remove_turn().unwrap());
        self.set_leg(A, |wanted| wanted.hosting = None);
        for at in [A, B] {
            let leg = Arc::clone(&self.ends[at].leg);
            self.ends[at].hand.call(move || leg.lock().unwrap().set(&web(), None).unwrap());
        }
        self.port(B, |port| port.clear().unwrap());
    }

    fn neighbours_of_a(&self) -> Vec<Announced> {
        let site = self.site(A);
        let gateway = self.world.plan().gateway;
        let told = |station: lab::world::Station, is_router| {
            let mac = Mac(station.mac.0);
            station.ip.each().map(|address| Announced { address, mac, is_router })
        };
        let link_local = addresses::gateway_link_local(gateway, site.number()).into();
        let router = Mac(site.gateway().mac.0);
        let router = Announced { address: link_local, mac: router, is_router: true };
        let mut all = Vec::from(told(site.gateway(), true));
        all.push(router);
        all.extend(told(site.neighbour_station(1), false));
        all.extend(told(site.leg(), false));
        all
    }

    /// Both sites hold again what they held before all.
    pub(crate) fn assert_as_before(&self) {
        for (at, before) in [A, B].into_iter().zip(&self.before) {
            // A leg that has just come back carries a moment later, and has its link-local address then.
            scenarios::site::eventually(|| {
                let after = Snapshot::take(self.site(at).place()).unwrap();
                let difference = before.compare(&after, &[]);
                if difference.unexplained.is_empty() { Ok(()) } else { Err(difference.to_string()) }
            });
        }
    }

    pub(crate) fn leg_standing(&self, at: usize) -> Vec<String> {
        let leg = Arc::clone(&self.ends[at].leg);
        self.ends[at].hand.call(move || leg.lock().unwrap().standing().unwrap())
    }

    /// Everything goes, in whatever state it is; what stands of ours after that.
    pub(crate) fn down(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for at in [A, B] {
            if let Some(tap) = self.ends[at].tap.take() {
                self.vm.close(tap.end);
            }
            self.port(at, |port| port.clear().unwrap());
            left.extend(self.port(at, |port| port.standing().unwrap()));
            let plan = self.ends[at].plan.clone();
            self.ends[at].hand.call(move || leg::down(&plan).unwrap());
        }
        left
    }

    fn open_tap(&mut self, at: usize) {
        self.ends[at].tap = Some(Tap::open(self.site(at), &self.vm));
    }

    /// The VM's tap, by name.
    pub(crate) fn tap(&self, at: usize) -> &str {
        &self.ends[at].tap().name
    }

    /// What waits in the VM's tap.
    pub(crate) fn queue(&self, at: usize) -> &TapQueue {
        &self.ends[at].tap().queue
    }

    /// Everything that the proxy and the agent do for a VM that is elsewhere.
    pub(crate) fn stand_in(&mut self, at: usize) {
        let leg = self.ends[at].leg_mac;
        self.set_leg(at, |wanted| wanted.away = Some(Away { diverts: true, stands_in: true }));
        self.set_port(at, true, PortWanted { turn_round: Some(leg), take_over: None });
    }

    fn set_port(&self, at: usize, has_tap: bool, wanted: PortWanted) {
        set_port(self.site(at), has_tap.then(|| self.ends[at].tap()), wanted);
    }

    fn port<T: Send>(&self, at: usize, work: impl FnOnce(&Port) -> T + Send) -> T {
        at_port(self.site(at), work)
    }

    fn set_leg(&mut self, at: usize, change: impl FnOnce(&mut VmWanted)) {
        let end = &mut self.ends[at];
        change(&mut end.wanted);
        let (leg, wanted) = (Arc::clone(&end.leg), end.wanted.clone());
        end.hand.call(move || leg.lock().unwrap().set(&web(), Some(wanted)).unwrap());
    }
}

impl End {
    fn up(site: &Site, folder: &TempDir) -> (End, OwnedFd) {
        let plan = LegPlan {
            namespace: "causeway-app".to_owned(),
            interface: "leg".to_owned(),
            gateways: site.gateway().ip.each().to_vec(),
            record: folder.path().join(site.name()),
        };
        let (hand, up) = (Hand::on(&site.proxy()), plan.clone());
        let (leg, tun) = hand.call(move || {
            let (mut leg, tun) = Leg::up(&up).unwrap();
            leg.set_all(BTreeMap::new()).unwrap();
            (leg, tun)
        });
        let leg_mac = leg.mac();
        let wanted = VmWanted { guest: guest(), away: None, hosting: None };
        let leg = Arc::new(Mutex::new(leg));
        let name = site.name().to_owned();
        (End { name, hand, plan, leg, leg_mac, tap: None, wanted }, tun)
    }

    fn tap(&self) -> &Tap {
        self.tap.as_ref().unwrap()
    }
}

fn is_on_subnet(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..2] == [10, 10],
        IpAddr::V6(v6) => v6.segments()[..4] == [0xfd10, 0x10, 0, 0],
    }
}
