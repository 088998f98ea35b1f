//! TCP over the emulator: what a cut does to it, and what is counted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use wan::{Delivery, Pair};

use crate::world::{PATIENCE, World, eventually, v4, v6};

/// A prime, so that a piece that is missing or repeated cannot go unseen.
const PATTERN_BYTES: u64 = 251;

/// A stream from site a to site b that sends until told to stop, and checks every byte.
struct Stream {
    received: Arc<AtomicU64>,
    is_enough: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<()>,
}

impl Stream {
    fn start(world: &World, address: String) -> Self {
        let listener =
            world.sites[1].enter(move || TcpListener::bind(format!("{address}:0")).unwrap());
        let target = listener.local_addr().unwrap();
        let (received, is_enough) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&received), Arc::clone(&is_enough));
        let sender =
            world.sites[0].spawn(move || send(&TcpStream::connect(target).unwrap(), &stop));
        let receiver = world.sites[1].spawn(move || receive(&listener.accept().unwrap().0, &count));
        Self { received, is_enough, sender, receiver }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Waits until more has arrived.
    fn wait_for_more(&self, bytes: u64) {
        let goal = self.received() + bytes;
        eventually("bytes arrive", || self.received() >= goal);
    }

    /// Ends it, and checks that all that was sent has arrived.
    fn finish(self) {
        self.is_enough.store(true, Ordering::Release);
        let sent = self.sender.join().unwrap();
        self.receiver.join().unwrap();
        assert_eq!(self.received.load(Ordering::Acquire), sent);
    }
}

fn pattern(offset: u64, length: usize) -> Vec<u8> {
    (offset..).take(length).map(|at| u8::try_from(at % PATTERN_BYTES).unwrap()).collect()
}

fn send(mut stream: &TcpStream, is_enough: &AtomicBool) -> u64 {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut sent = 0;
    while !is_enough.load(Ordering::Acquire) {
        let piece = pattern(sent, 8192);
        stream.write_all(&piece).unwrap();
        sent += piece.len() as u64;
    }
    sent
}

fn receive(mut stream: &TcpStream, count: &AtomicU64) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 65_536];
    let mut received = 0;
    loop {
        let length = stream.read(&mut buffer).unwrap();
        if length == 0 {
            return;
        }
        assert_eq!(buffer[..length], pattern(received, length), "from byte {received} on");
        received += length as u64;
        count.store(received, Ordering::Release);
    }
}

#[test]
fn nothing_passes_a_cut_and_streams_resume_after_the_heal() {
    let world = World::new(2, "delay_us=2000,rate_bits_per_s=100000000");
    let both = Pair::both_ways("a", "b").unwrap();
    let delivery = |from, to| world.counters().direction(from, to).unwrap().delivery;
    for address in [v4(1), v6(1)] {
        let stream = Stream::start(&world, address);
        stream.wait_for_more(1_000_000);
        world.client().cut(&both).unwrap();
        let at_cut = [delivery("a", "b"), delivery("b", "a")];
        let [forth, back] = at_cut.map(|delivery: Delivery| delivery.delivered);
        eventually("the sender has tried again into the dark", || {
            delivery("a", "b").cut.packets > at_cut[0].cut.packets + 1
        });
        assert_eq!(delivery("a", "b").delivered, forth);
        assert_eq!(delivery("b", "a").delivered, back);
        world.client().heal(&both).unwrap();
        stream.wait_for_more(1_000_000);
        stream.finish();
    }
    let counters = world.audited();
    assert!(counters.direction("a", "b").unwrap().delivery.cut.packets > 0);
}

#[test]
fn a_stream_over_a_bad_line_is_whole_and_every_packet_accounted_for() {
    let world = World::new(
        2,
        "delay_us=1000,jitter_us=500,loss_ppm=10000,rate_bits_per_s=50000000,queue_bytes_max=30000",
    );
    let stream = Stream::start(&world, v6(1));
    stream.wait_for_more(3_000_000);
    stream.finish();
    let counters = world.audited();
    let forth = counters.direction("a", "b").unwrap().delivery;
    assert!(forth.lost.packets > 0, "{forth:?}");
    assert!(forth.delivered.bytes > 3_000_000, "{forth:?}");
}
