//! Proxies with their ways, a VM that runs at one of them or nowhere, and what lies between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use placement::{Epoch, Identity, VmName};
use tunnel::protocol::Moment;
use tunnel::protocol::packets::{
    LeftInPort, Outlet, OwnSite, PacketMessage, Stand, Talks, Tuple, Way, WayCounts, Ways,
};

use crate::packet::{ip, packet, read};

pub(crate) const DELAY_MS: u64 = 10;
/// Messages that a stream carries in a millisecond.
const MESSAGES_PER_MS: usize = 2;

pub(crate) fn vm() -> VmName {
    "web".parse().unwrap()
}

pub(crate) fn vm_ip() -> IpAddr {
    ip(2, 1)
}

pub(crate) fn leg(site: usize) -> IpAddr {
    ip(1, u8::try_from(site + 1).unwrap())
}

pub(crate) fn proxy(site: usize) -> Identity {
    format!("causeway://site/{}/role/proxy/name/p1", ["a", "b", "c"][site]).parse().unwrap()
}

/// splitmix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

#[derive(Default)]
struct Out {
    device: Vec<Vec<u8>>,
    datagrams: Vec<(Identity, Vec<u8>)>,
}

impl Outlet for Out {
    fn device(&mut self, packet: &[u8]) {
        self.device.push(packet.to_vec());
    }
    fn datagram(&mut self, peer: &Identity, packet: &[u8]) {
        self.datagrams.push((peer.clone(), packet.to_vec()));
    }
    fn nudge(&mut self, _peer: &Identity) {}
}

pub(crate) struct World {
    pub(crate) ms: u64,
    pub(crate) dice: Dice,
    pub(crate) loss_percent: u64,
    pub(crate) ways: Vec<Ways>,
    /// Where the VM runs.
    pub(crate) runs_at: Option<usize>,
    /// What has come to it: by protocol and flow, the numbers in order.
    pub(crate) seen: BTreeMap<(u8, u16), Vec<u32>>,
    /// What has come from it, by site.
    pub(crate) answered: Vec<BTreeMap<(u8, u16), Vec<u32>>>,
    /// The site where it has stopped, and its port is still open.
    pub(crate) port_at: Option<usize>,
    /// What lies in the port.
    pub(crate) unread: Vec<Vec<u8>>,
    /// What reached a port with nobody behind it.
    pub(crate) dead: Vec<Vec<u8>>,
    pub(crate) lost: u64,
    streams: BTreeMap<(usize, usize), VecDeque<(u64, PacketMessage)>>,
    datagrams: VecDeque<(u64, usize, usize, Vec<u8>)>,
    /// Links that pass nothing.
    pub(crate) is_cut: bool,
}

impl World {
    pub(crate) fn new(sites: usize, seed: u64) -> World {
        let ways = |site: usize| {
            let proxies = BTreeSet::from([leg(site), ip(100, u8::try_from(site).unwrap())]);
            Ways::new(OwnSite { proxies, machines: BTreeSet::from([ip(0, 1)]) }, seed + site as u64)
        };
        World {
            ms: 0,
            dice: Dice(seed),
            loss_percent: 0,
            ways: (0..sites).map(ways).collect(),
            runs_at: Some(0),
            seen: BTreeMap::new(),
            answered: vec![BTreeMap::new(); sites],
            port_at: None,
            unread: Vec::new(),
            dead: Vec::new(),
            lost: 0,
            streams: BTreeMap::new(),
            datagrams: VecDeque::new(),
            is_cut: false,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::from_micros(self.ms * 1_000)
    }

    pub(crate) fn set(&mut self, site: usize, epoch: u64, stand: Option<Stand>) {
        let addresses = BTreeSet::from([vm_ip()]);
        let way = stand.map(|stand| Way { epoch: Epoch::new(epoch), addresses, stand });
        let now = self.now();
        self.act(site, |ways, out| ways.set(&vm(), way, now, out).unwrap());
    }

    /// The site's kernel sends this into the tunnel.
    pub(crate) fn kernel_sends(&mut self, site: usize, packet: &[u8]) {
        self.act(site, |ways, out| ways.from_device(packet, out));
    }

    pub(crate) fn leftovers(
        &mut self,
        site: usize,
        epoch: u64,
        part: u32,
        packets: &[Vec<u8>],
    ) -> u64 {
        let packets = packets.iter().cloned().map(Into::into).collect();
        let (epoch, is_last) = (Epoch::new(epoch), part > 0);
        let left = LeftInPort { epoch, part, packets, tuples: vec![], is_last };
        self.act(site, |ways, out| ways.leftovers(&vm(), left, out).unwrap())
    }

    pub(crate) fn datagram(&mut self, from: usize, to: usize, packet: &[u8]) {
        let (now, peer) = (self.now(), proxy(from));
        self.act(to, |ways, out| ways.from_peer(&peer, packet, now, out));
    }

    pub(crate) fn tell(&mut self, from: usize, to: usize, message: PacketMessage) {
        let (now, peer) = (self.now(), proxy(from));
        self.act(to, |ways, out| ways.arrived(&peer, message, now, out));
    }

    pub(crate) fn counts(&self, site: usize) -> WayCounts {
        self.ways[site].counts(&vm()).unwrap()
    }

    /// A proxy's new life towards a peer: what is under way between them is gone, and both know.
    pub(crate) fn forget(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.streams.remove(&(from, to));
            self.ways[from].forgotten_by(&proxy(to));
        }
    }

    /// A proxy dies and comes back with nothing in its memory.
    pub(crate) fn restart(&mut self, site: usize, epoch: u64, stand: Stand) {
        let life = self.dice.below(u64::MAX);
        let proxies = BTreeSet::from([leg(site)]);
        self.ways[site] = Ways::new(OwnSite { proxies, machines: BTreeSet::new() }, life);
        for peer in 0..self.ways.len() {
            if peer != site {
                self.streams.remove(&(site, peer));
                self.streams.remove(&(peer, site));
                self.ways[peer].forgotten_by(&proxy(site));
            }
        }
        self.set(site, epoch, Some(stand));
    }

    /// One millisecond passes.
    pub(crate) fn pass(&mut self) {
        self.ms += 1;
        if self.is_cut {
            // Streams stand still and go on, each message later by as long.
            self.streams.values_mut().flatten().for_each(|(due, _)| *due += 1);
            self.lost += self.datagrams.len() as u64;
            self.datagrams.clear();
            return;
        }
        for site in 0..self.ways.len() {
            let now = self.now();
            self.act(site, |ways, out| ways.tick(now, out));
        }
        for (from, to) in self.pairs() {
            for _ in 0..MESSAGES_PER_MS {
                let Some(message) = self.ways[from].next_message(&proxy(to)) else { break };
                let due = self.ms + DELAY_MS;
                self.streams.entry((from, to)).or_default().push_back((due, message));
            }
            let is_due =
                |stream: &VecDeque<(u64, _)>, ms| stream.front().is_some_and(|it| it.0 <= ms);
            while self.streams.get(&(from, to)).is_some_and(|stream| is_due(stream, self.ms)) {
                let (_, message) = self.streams.get_mut(&(from, to)).unwrap().pop_front().unwrap();
                self.tell(from, to, message);
            }
        }
        while self.datagrams.front().is_some_and(|(due, ..)| *due <= self.ms) {
            let (_, from, to, packet) = self.datagrams.pop_front().unwrap();
            self.datagram(from, to, &packet);
        }
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.pass();
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.ways.len();
        all.clone().flat_map(|a| all.clone().map(move |b| (a, b))).filter(|(a, b)| a != b).collect()
    }

    fn act<T>(&mut self, site: usize, act: impl FnOnce(&mut Ways, &mut Out) -> T) -> T {
        let mut out = Out::default();
        let done = act(&mut self.ways[site], &mut out);
        for (peer, packet) in out.datagrams {
            let to = (0..self.ways.len()).find(|to| proxy(*to) == peer).unwrap();
            if self.is_cut || self.dice.below(100) < self.loss_percent {
                self.lost += 1;
            } else {
                self.datagrams.push_back((self.ms + DELAY_MS, site, to, packet));
            }
        }
        for packet in out.device {
            self.at_port(site, packet);
        }
        done
    }

    /// A site's kernel gives this to whom it is for.
    pub(crate) fn at_port(&mut self, site: usize, packet: Vec<u8>) {
        let (protocol, flow, number) = read(&packet);
        let is_for_vm = packet[16..20] == [10, 9, 2, 1];
        match (is_for_vm, self.runs_at) {
            (false, _) => {
                self.answered[site].entry((protocol, flow)).or_default().push(number);
            }
            (true, Some(at)) if at == site => {
                self.seen.entry((protocol, flow)).or_default().push(number);
                self.answer(site, protocol, flow, number);
            }
            (true, _) if self.port_at == Some(site) => self.unread.push(packet),
            (true, _) => self.dead.push(packet),
        }
    }

    /// The VM answers to the leg of the site that the flow is pinned at, which is in its number.
    fn answer(&mut self, site: usize, protocol: u8, flow: u16, number: u32) {
        let pinned_at = usize::from(flow / 1_000);
        let answer = packet(protocol, vm_ip(), leg(pinned_at), flow, number);
        match pinned_at == site {
            true => self.at_port(site, answer),
            false => self.kernel_sends(site, &answer),
        }
    }
}

pub(crate) fn talks(sites: &[usize]) -> Vec<Talks> {
    let place = |site: &usize| Talks {
        peer: proxy(*site),
        addresses: BTreeSet::from([leg(*site), ip(3, u8::try_from(*site).unwrap())]),
        tuples: BTreeSet::from([Tuple {
            is_tcp: false,
            vm: vm_ip(),
            vm_port: 80,
            peer: ip(0, 1),
            peer_port: 7,
        }]),
    };
    sites.iter().map(place).collect()
}
