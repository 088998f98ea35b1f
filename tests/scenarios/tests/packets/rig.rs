//! Two sites with their real proxies and the tunnel between them, a VM in a namespace, and the order
//! of a move: what orchestrator and agents do, step by step, the rules at the VM's port set by the
//! agent's own code.

use std::net::IpAddr;
use std::sync::MutexGuard;
use std::time::Duration;

use daemon::identity::Credentials;
use lab::vm::namespace::NamespaceVm;
use lab::world::{Gateway, Site, World, WorldPlan, addresses};
use network::port::{Announced, Seen, announce};

use network::{Mac, Port, PortWanted};
use placement::Epoch;
use proxy_api::{
    AtHome, AtPort, CallError, Card, Claim, Conversation, Elsewhere, Home, Leftovers,
    LeftoversHead, Neighbour, OfMove, Place, Protocol, Reclaim, Redirect, Stage, Tunnel, VmWay,
    WayPackets,
};
use scenarios::flows::Server;
use scenarios::site::eventually;
pub(crate) use scenarios::vm_port::{A, B, Ends, guest};
use scenarios::vm_port::{Tap, alone, at_port, set_port};

use crate::calls::{authority, pair, place, vm};
use crate::proxies::{PORT, Papers, Proxy};

/// Leftovers in one part: its bytes are bounded.
const PART_PACKETS: usize = 300;
/// One way of the WAN.
pub(crate) const DELAY: Duration = Duration::from_millis(10);

/// From the stop to the start: what a small real VM takes at least.
const PAUSE: Duration = Duration::from_millis(150);

/// What one site has.
struct End {
    name: &'static str,
    proxy: Proxy,
    leg: Mac,
    tap: Option<Tap>,
    /// The VM's frames go to the proxy's leg.
    takes_over: bool,
    /// The VM is elsewhere, and was here.
    is_away: bool,
}

pub(crate) struct Rig {
    papers: Papers,
    pub(crate) vm: NamespaceVm,
    ends: [End; 2],
    epoch: u64,
    _server: Server,
    pub(crate) world: World,
    _one: MutexGuard<'static, ()>,
}

impl Rig {
    /// The VM runs at A.
    pub(crate) fn new(gateway: Gateway) -> Rig {
        let one = alone();
        let wan = format!("delay_us={},rate_bits_per_s=1000000000", DELAY.as_micros());
        let plan = WorldPlan { gateway, wan: wan.parse().unwrap(), ..WorldPlan::default() };
        let (world, papers) = (World::build(&plan).unwrap(), Papers::new());
        world.clients().add_hosts(&["vm"]).unwrap();
        let host = world.clients().host(Some("vm"));
        let vm = NamespaceVm::make(&host, addresses::vm(1), world.site("a").gateway().ip).unwrap();
        let server = Server::on(&host);
        let backends = addresses::vm(1).ip.each().map(|ip| (ip, PORT).into());
        let end = |name: &'static str| {
            let mut proxy = Proxy::prepare(&world, name, &papers, &backends);
            proxy.start();
            let viewer = papers.credentials(name, "viewer", "eyes");
            let networks = proxy.call(&viewer, async |c| c.networks().await).unwrap();
            let leg = Mac(networks.legs[0].mac.0);
            End { name, proxy, leg, tap: None, takes_over: false, is_away: false }
        };
        let ends = [end("a"), end("b")];
        let mut rig = Rig { papers, vm, ends, epoch: 1, _server: server, world, _one: one };
        rig.open_tap(A);
        rig.set_port(A, PortWanted::default());
        rig.vm.cont(rig.tap(A).end).unwrap();
        for at in [A, B] {
            eventually(|| {
                let tunnel = rig.tunnel(at);
                if tunnel.peers[0].carries_packets { Ok(()) } else { Err(format!("{tunnel:?}")) }
            });
        }
        rig
    }

    pub(crate) fn site(&self, at: usize) -> &Site {
        self.world.site(self.ends[at].name)
    }

    pub(crate) fn proxy(&mut self, at: usize) -> &mut Proxy {
        &mut self.ends[at].proxy
    }

    pub(crate) fn tunnel(&self, at: usize) -> Tunnel {
        let viewer = self.papers.credentials(self.ends[at].name, "viewer", "eyes");
        self.ends[at].proxy.call(&viewer, async |c| c.tunnel().await).unwrap()
    }

    pub(crate) fn way(&self, at: usize) -> Option<VmWay> {
        let viewer = self.papers.credentials(self.ends[at].name, "viewer", "eyes");
        let told = self.ends[at].proxy.call(&viewer, async |c| c.vm(&vm()).await);
        told.unwrap().way
    }

    pub(crate) fn packets(&self, at: usize) -> WayPackets {
        self.way(at).and_then(|way| way.packets).unwrap()
    }

    /// A move of the VM that runs at `from`, from the claim to what `ends` says.
    pub(crate) fn go(&mut self, from: usize, to: usize, ends: Ends) {
        self.stage(from, to);
        self.hold_and_stop(from);
        match ends {
            Ends::AtTarget => {
                self.start(to);
                self.leave(from, to);
            }
            Ends::CancelledAfter(time) => {
                std::thread::sleep(time);
                self.cancel(from);
                self.unstage(to);
            }
        }
        self.give_back();
    }

    pub(crate) fn stage(&mut self, from: usize, to: usize) {
        self.epoch += 1;
        self.port(from, |port| port.make_turn().unwrap());
        self.open_tap(to);
        let leg = self.ends[to].leg;
        self.set_port(to, PortWanted { turn_round: Some(leg), take_over: Some(leg) });
        let claim = Claim { authority: authority(self.epoch), pair: pair() };
        let stage = self.stage_of(from, to);
        let serve = self.serve();
        for end in &self.ends {
            end.proxy.call(&serve, async |c| c.claim(&vm(), &claim).await).unwrap();
            end.proxy.call(&serve, async |c| c.stage(&vm(), &stage).await).unwrap();
        }
    }

    fn stage_of(&self, from: usize, to: usize) -> Stage {
        let (site, seen) = (self.site(from), self.seen(from));
        // The VM also spoke with those elsewhere, from here; whoever is known there is not here. At
        // home it did before, through the leg.
        let viewer = self.papers.credentials(self.ends[from].name, "viewer", "eyes");
        let proxy = &self.ends[from].proxy;
        // Before the first move its name says nothing there.
        let known = proxy.call(&viewer, async |c| c.elsewhere(&vm()).await);
        let places = known.map(|known| known.places).unwrap_or_default();
        let others: Vec<IpAddr> = places
            .iter()
            .flat_map(|place| {
                let neighbours = place.neighbours.iter().map(|neighbour| neighbour.address);
                place.leg.iter().copied().chain(neighbours)
            })
            .collect();
        let is_here = |seen: &&Seen| seen.mac.is_some() || !places.is_empty();
        let mut neighbours: Vec<Neighbour> = Vec::new();
        for peer in seen.iter().filter(is_here).map(|seen| seen.tuple.peer) {
            let is_known = neighbours.iter().any(|known| known.address == peer);
            if !others.contains(&peer) && !is_known {
                let mac = Some(proxy_api::Mac(site.neighbour_station(1).mac.0));
                neighbours.push(Neighbour {
                    address: peer,
                    mac,
                    is_gateway: false,
                    is_there_too: false,
                });
            }
        }
        let link_local =
            addresses::gateway_link_local(self.world.plan().gateway, site.number()).into();
        let gateways = site.gateway().ip.each().into_iter().chain([link_local]).collect();
        let here = Elsewhere {
            place: place(self.ends[from].name),
            leg: site.leg().ip.each().to_vec(),
            gateways,
            neighbours,
            conversations: seen.iter().map(conversation).collect(),
        };
        let vm = addresses::vm(1);
        let to: Place = place(self.ends[to].name);
        Stage {
            authority: authority(self.epoch),
            from: here.place.clone(),
            to,
            card: Card { mac: proxy_api::Mac(vm.mac.0), addresses: vm.ip.each().to_vec() },
            elsewhere: vec![here],
        }
    }

    pub(crate) fn hold_and_stop(&mut self, from: usize) {
        let (agent, at) = (self.agent(from), AtPort { authority: authority(self.epoch) });
        let end = &self.ends[from];
        end.proxy.call(&agent, async |c| c.divert(&vm(), &at).await).unwrap();
        let take_over = end.takes_over.then_some(end.leg);
        self.set_port(from, PortWanted { turn_round: Some(end.leg), take_over });
        end.proxy.call(&agent, async |c| c.stand_in(&vm(), &at).await).unwrap();
        let packets = self.tap(from).stop(&self.vm);
        let conversations: Vec<_> = self.seen(from).iter().map(conversation).collect();
        let parts: Vec<&[Vec<u8>]> = match packets.is_empty() {
            true => vec![&[]],
            false => packets.chunks(PART_PACKETS).collect(),
        };
        for (number, packets) in (0..).zip(&parts) {
            let head = LeftoversHead {
                authority: authority(self.epoch),
                part: number,
                conversations: if number == 0 { conversations.clone() } else { vec![] },
                is_last: number as usize + 1 == parts.len(),
            };
            let part = Leftovers { head, packets: packets.to_vec() }.encode().unwrap();
            // Said twice, it is taken once.
            for _ in 0..2 {
                let body = part.clone();
                end.proxy.call(&agent, async |c| c.leftovers(&vm(), body).await).unwrap();
            }
        }
    }

    pub(crate) fn start(&mut self, to: usize) {
        // The last of the memory and its confirmation take round trips.
        std::thread::sleep(PAUSE);
        let (name, end) = (self.tap(to).name.clone(), self.tap(to).end);
        self.port(to, |port| port.pin_to(&name).unwrap());
        self.vm.cont(end).unwrap();
        let (agent, at) = (self.agent(to), AtPort { authority: authority(self.epoch) });
        let proxy = &self.ends[to].proxy;
        let released = proxy.call(&agent, async |c| c.release(&vm(), &at).await).unwrap();
        println!("released: {}, {:?}", released.packets, self.way(to));
        self.ends[to].takes_over = true;
        if std::mem::take(&mut self.ends[to].is_away) {
            let take_over = Some(self.ends[to].leg);
            self.set_port(to, PortWanted { turn_round: None, take_over });
            self.port(to, |port| port.unpin(&name).unwrap());
        }
    }

    /// Every proxy hears where the VM is; the source's process ends, and its neighbours' packets go on
    /// finding the VM.
    pub(crate) fn leave(&mut self, from: usize, to: usize) {
        let placement = place(self.ends[to].name);
        let redirect = Redirect { authority: authority(self.epoch), placement };
        let serve = self.serve();
        for end in &self.ends {
            end.proxy.call(&serve, async |c| c.redirect(&vm(), &redirect).await).unwrap();
        }
        self.port(from, |port| port.pin_to_turn().unwrap());
        self.close_tap(from);
        let leg = self.ends[from].leg;
        self.set_port(from, PortWanted { turn_round: Some(leg), take_over: None });
        (self.ends[from].takes_over, self.ends[from].is_away) = (false, true);
    }

    /// Nothing stands at a place that the VM has left.
    pub(crate) fn reclaim(&mut self, at: usize) {
        let wish = Reclaim { release: Epoch::new(self.epoch), force: false };
        let (serve, end) = (self.serve(), &self.ends[at]);
        end.proxy.call(&serve, async |c| c.reclaim(&vm(), &wish).await).unwrap();
        self.port(at, |port| port.clear().unwrap());
        self.ends[at].is_away = false;
    }

    /// Tells the proxy where the VM runs that it came home by this move.
    pub(crate) fn home_by(&self, at: usize, epoch: u64) -> Result<AtHome, CallError> {
        let peers = self.seen(at).iter().map(|seen| seen.tuple.peer).collect();
        let home = Home { epoch: Epoch::new(epoch), peers, force: false };
        let serve = self.serve();
        self.ends[at].proxy.call(&serve, async |c| c.home(&vm(), &home).await)
    }

    /// The same, by the last move.
    pub(crate) fn home(&self, at: usize) -> Result<AtHome, CallError> {
        self.home_by(at, self.epoch)
    }

    /// The VM is told of those, and its port is its own.
    pub(crate) fn lift(&mut self, at: usize, told: &AtHome) {
        let announced = |neighbour: &Neighbour| Announced {
            address: neighbour.address,
            mac: Mac(neighbour.mac.unwrap().0),
            is_router: neighbour.is_gateway,
        };
        let those: Vec<Announced> = told.neighbours.iter().map(announced).collect();
        let tap = self.tap(at).name.clone();
        // What turns round what is for the VM would turn that round, too.
        let take_over = Some(self.ends[at].leg);
        self.set_port(at, PortWanted { turn_round: None, take_over });
        self.port(at, |port| port.unpin(&tap).unwrap());
        let announcing = || announce(&tap, &guest(), &those).unwrap();
        self.site(at).hypervisor().inside(announcing).unwrap();
        self.set_port(at, PortWanted::default());
        self.ends[at].takes_over = false;
    }

    fn cancel(&mut self, from: usize) {
        let end = self.tap(from).end;
        self.vm.cont(end).unwrap();
        let (agent, at) = (self.agent(from), AtPort { authority: authority(self.epoch) });
        let end = &self.ends[from];
        let released = end.proxy.call(&agent, async |c| c.release(&vm(), &at).await).unwrap();
        println!("given back: {}", released.packets);
        assert!(released.packets > 0);
        let take_over = end.takes_over.then_some(end.leg);
        self.set_port(from, PortWanted { turn_round: None, take_over });
    }

    fn unstage(&mut self, to: usize) {
        let (serve, of) = (self.serve(), OfMove { authority: authority(self.epoch) });
        for end in &self.ends {
            end.proxy.call(&serve, async |c| c.unstage(&vm(), &of).await).unwrap();
        }
        self.close_tap(to);
        if self.ends[to].is_away {
            let leg = self.ends[to].leg;
            self.set_port(to, PortWanted { turn_round: Some(leg), take_over: None });
        } else {
            self.port(to, |port| port.clear().unwrap());
        }
    }

    pub(crate) fn give_back(&self) {
        let (serve, of) = (self.serve(), OfMove { authority: authority(self.epoch) });
        for end in &self.ends {
            end.proxy.call(&serve, async |c| c.give_back(&vm(), &of).await).unwrap();
        }
    }

    fn serve(&self) -> Credentials {
        self.papers.credentials("a", "orchestrator", "serve")
    }

    fn agent(&self, at: usize) -> Credentials {
        self.papers.credentials(self.ends[at].name, "agent", "hv1")
    }

    fn seen(&self, at: usize) -> Vec<Seen> {
        let leg = self.ends[at].leg;
        self.port(at, move |port| port.seen(Some(leg)).unwrap())
    }

    fn tap(&self, at: usize) -> &Tap {
        self.ends[at].tap.as_ref().unwrap()
    }

    fn open_tap(&mut self, at: usize) {
        self.ends[at].tap = Some(Tap::open(self.site(at), &self.vm));
    }

    fn close_tap(&mut self, at: usize) {
        let tap = self.ends[at].tap.take().unwrap();
        self.vm.close(tap.end);
    }

    fn set_port(&self, at: usize, wanted: PortWanted) {
        set_port(self.site(at), self.ends[at].tap.as_ref(), wanted);
    }

    fn port<T: Send>(&self, at: usize, work: impl FnOnce(&Port) -> T + Send) -> T {
        at_port(self.site(at), work)
    }
}

fn conversation(seen: &Seen) -> Conversation {
    let network::Tuple { vm, vm_port, peer, peer_port } = seen.tuple;
    let protocol = match seen.protocol {
        network::port::Protocol::Tcp => Protocol::Tcp,
        network::port::Protocol::Udp => Protocol::Udp,
    };
    Conversation { protocol, vm, vm_port, peer, peer_port }
}
