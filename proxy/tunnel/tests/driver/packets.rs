//! Packets between two ends, over real sockets.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use placement::{Epoch, VmName};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tunnel::driver::{PacketDevice, PacketError, PacketPlan};
use tunnel::protocol::bounds::Limits;
use tunnel::protocol::packets::{LeftInPort, OwnSite, Stand, Talks, Way};

use crate::sites::{Sites, proxy, soon, until};

const LEG_A: &str = "10.9.1.1";
const VM: &str = "10.9.2.1";
const LONG: usize = 1_500;

/// A kernel that the test stands in for.
struct Device {
    to_tunnel: Mutex<mpsc::Receiver<Vec<u8>>>,
    from_tunnel: mpsc::UnboundedSender<Vec<u8>>,
}

impl PacketDevice for Device {
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.to_tunnel.lock().unwrap().poll_recv(cx).map(|packet| {
            let packet = packet.ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer[..packet.len()].copy_from_slice(&packet);
            Ok(packet.len())
        })
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.from_tunnel.send(packet.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Kernel {
    into: mpsc::Sender<Vec<u8>>,
    out: mpsc::UnboundedReceiver<Vec<u8>>,
}

fn kernel(leg: &str) -> (PacketPlan, Kernel) {
    let (into, to_tunnel) = mpsc::channel(64);
    let (from_tunnel, out) = mpsc::unbounded_channel();
    let device = Device { to_tunnel: Mutex::new(to_tunnel), from_tunnel };
    let proxies = BTreeSet::from([leg.parse().unwrap()]);
    let site = OwnSite { proxies, machines: BTreeSet::new() };
    (PacketPlan { device: Arc::new(device), site }, Kernel { into, out })
}

fn vm() -> VmName {
    "web".parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A UDP packet of so many bytes, with a number in it.
fn packet(from: &str, to: &str, number: u32, bytes: usize) -> Vec<u8> {
    let length = u16::try_from(bytes).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0];
    for address in [from, to] {
        let IpAddr::V4(v4) = ip(address) else { panic!("IPv4 here") };
        packet.extend(v4.octets());
    }
    packet.extend([0, 7, 0, 80]);
    packet.extend(number.to_be_bytes());
    packet.resize(bytes, u8::try_from(number % 251).unwrap());
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[24..28].try_into().unwrap())
}

fn way(stand: Stand) -> Option<Way> {
    Some(Way { epoch: Epoch::new(2), addresses: BTreeSet::from([ip(VM)]), stand })
}

fn talks_with_a() -> Vec<Talks> {
    let addresses = BTreeSet::from([ip(LEG_A)]);
    vec![Talks { peer: proxy("a"), addresses, tuples: BTreeSet::new() }]
}

struct World {
    sites: Sites,
    a: Kernel,
    b: Kernel,
    sent: u32,
}

impl World {
    async fn new() -> World {
        let ((plan_a, a), (plan_b, b)) = (kernel(LEG_A), kernel("10.9.1.2"));
        let plans = [Some(plan_a), Some(plan_b)];
        let sites = Sites::with_packets(Limits::default(), &[], plans).await;
        until(|| {
            sites.a.can_carry_to(&proxy("b")).is_ok() && sites.b.can_carry_to(&proxy("a")).is_ok()
        })
        .await;
        World { sites, a, b, sent: 0 }
    }

    fn stage(&self) {
        let staged = Stand::Staged { from: proxy("a"), away: None, talks: talks_with_a() };
        self.sites.b.set_way(&vm(), way(staged)).unwrap();
    }

    fn hold(&self) {
        let holding = Stand::Holding { to: proxy("b"), talks: vec![] };
        self.sites.a.set_way(&vm(), way(holding)).unwrap();
    }

    fn release(&self) {
        let left = LeftInPort {
            epoch: Epoch::new(2),
            part: 0,
            packets: vec![packet(LEG_A, VM, u32::MAX, 100).into()],
            tuples: vec![],
            is_last: true,
        };
        assert_eq!(self.sites.a.leftovers(&vm(), left).unwrap(), 1);
        self.sites.b.set_way(&vm(), way(Stand::Here { talks: talks_with_a() })).unwrap();
    }

    async fn send(&mut self, count: u32) {
        for _ in 0..count {
            let bytes = if self.sent.is_multiple_of(3) { LONG } else { 200 };
            self.a.into.send(packet(LEG_A, VM, self.sent, bytes)).await.unwrap();
            self.sent += 1;
        }
    }

    /// Every packet up to the last that was sent, whole, in order.
    async fn arrived(&mut self, from: u32) {
        for expected in from..self.sent {
            let got = soon(self.b.out.recv()).await.unwrap();
            let bytes = if expected.is_multiple_of(3) { LONG } else { 200 };
            assert_eq!((number(&got), got.len()), (expected, bytes));
            assert!(got == packet(LEG_A, VM, expected, bytes), "packet {expected} has changed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_packets_come_in_order_through_a_cut_and_then_by_datagram_both_ways() {
    let mut world = World::new().await;
    world.stage();
    world.hold();
    world.send(500).await;
    world.sites.wan.fall_silent();
    world.send(500).await;
    world.sites.a.device_is_empty().await;
    assert_eq!(world.sites.a.way_counts(&vm()).unwrap().held, 1_000);
    world.sites.wan.break_and_heal();
    until(|| world.sites.b.way_counts(&vm()).is_some_and(|counts| counts.held == 1_000)).await;
    assert!(world.b.out.try_recv().is_err(), "the vm does not run there yet");
    world.release();
    let first = soon(world.b.out.recv()).await.unwrap();
    assert_eq!(number(&first), u32::MAX, "what was left in the port goes first");
    world.arrived(0).await;
    world.sites.a.set_way(&vm(), way(Stand::Away { to: proxy("b"), next: None })).unwrap();
    until(|| world.sites.a.way_counts(&vm()).unwrap().held_bytes_now == 0).await;

    let before = world.sites.peer_of_a().datagrams.unwrap();
    let from = world.sent;
    for _ in 0..20 {
        world.send(10).await;
        sleep(Duration::from_millis(1)).await;
    }
    world.arrived(from).await;
    let after = world.sites.peer_of_a().datagrams.unwrap();
    // A third of them goes in two.
    assert!((266..270 + 10).contains(&(after.sent - before.sent)), "{before:?} {after:?}");
    world.b.into.send(packet(VM, LEG_A, 9, LONG)).await.unwrap();
    assert_eq!(soon(world.a.out.recv()).await.unwrap(), packet(VM, LEG_A, 9, LONG));
    for tunnel in [&world.sites.a, &world.sites.b] {
        assert!(tunnel.dropped().iter().all(|(_, count)| *count == 0), "{:?}", tunnel.dropped());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_bring_new_keys_and_packets_go_on() {
    let mut world = World::new().await;
    world.stage();
    world.hold();
    world.release();
    soon(world.b.out.recv()).await.unwrap();
    until(|| world.sites.a.way_counts(&vm()).unwrap().held_bytes_now == 0).await;
    for _ in 0..3 {
        let from = world.sent;
        world.send(50).await;
        world.arrived(from).await;
        world.sites.wan.break_and_heal();
        until(|| world.sites.peer_of_a().tally.resumptions > 0).await;
        until(|| world.sites.a.can_carry_to(&proxy("b")).is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_called_off_gives_back_here_and_voids_there() {
    let mut world = World::new().await;
    world.stage();
    world.hold();
    world.send(300).await;
    world.sites.a.device_is_empty().await;
    until(|| world.sites.b.way_counts(&vm()).is_some_and(|counts| counts.held == 300)).await;
    world.sites.a.set_way(&vm(), None).unwrap();
    for expected in 0..300 {
        assert_eq!(number(&soon(world.a.out.recv()).await.unwrap()), expected);
    }
    until(|| world.sites.b.way_counts(&vm()).unwrap().held_bytes_now == 0).await;
    assert!(world.b.out.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_waits_for_leftovers_of_a_site_that_is_out_of_reach_and_not_for_ever() {
    let mut world = World::new().await;
    world.stage();
    world.hold();
    world.send(10).await;
    until(|| world.sites.b.way_counts(&vm()).is_some_and(|counts| counts.held == 10)).await;
    world.sites.wan.fall_silent();
    world.sites.b.set_way(&vm(), way(Stand::Here { talks: talks_with_a() })).unwrap();
    assert!(world.b.out.try_recv().is_err());
    world.arrived(0).await;
}

#[tokio::test]
async fn an_end_without_a_device_says_so() {
    let sites = Sites::new(Limits::default(), &[]).await;
    let stood = sites.a.set_way(&vm(), way(Stand::Away { to: proxy("b"), next: None }));
    assert!(matches!(stood, Err(PacketError::NoPackets)), "{stood:?}");
    let carries = sites.a.can_carry_to(&proxy("b"));
    assert!(matches!(carries, Err(PacketError::NoPackets)), "{carries:?}");
    sites.a.set_way(&vm(), None).unwrap();
}
