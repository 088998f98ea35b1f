//! Measures the emulator: how fast one TCP stream goes over it, and how late packets are.
//!
//! `cargo run -p wan --example throughput -- [SECONDS] [DELAY_US] [RATE_BITS_PER_S] [LOSS_PPM]`, as
//! root. Sender, receiver and emulator share this machine, as they do in the lab.

#[path = "../tests/emulator/sandbox.rs"]
mod sandbox;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use sandbox::Namespace;
use wan::{Change, Client, Counters, Emulator, Settings, WanPlan};

/// Both ends' socket buffers: what 1 Gbit/s needs over a round trip of 200 ms.
const BUFFER_BYTES: &str = "4096 1048576 50000000";
const PIECE_BYTES: usize = 256 * 1024;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let mut number = |default: u64| {
        let word = words.next().map_or(Ok(default), |word| word.parse());
        word.context("write whole numbers: SECONDS DELAY_US RATE_BITS_PER_S LOSS_PPM")
    };
    let seconds = Duration::from_secs(number(10)?);
    let change = Change {
        delay_us: Some(number(50_000)?),
        rate_bits_per_s: Some(number(1_000_000_000)?),
        loss_ppm: Some(u32::try_from(number(0)?)?),
        queue_bytes_max: Some(12_500_000),
        ..Change::default()
    };
    let (a, b) = (Namespace::new()?, Namespace::new()?);
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("wan.sock");
    let emulator = Emulator::open(&plan(&a, &b, change)?, &control)?;
    let quitter = emulator.quitter();
    let running = thread::spawn(move || emulator.run());
    set_up(&a, "10.255.1.1", "10.255.2.0/24")?;
    set_up(&b, "10.255.2.1", "10.255.1.0/24")?;
    measure(&a, &b, &control, seconds)?;
    quitter.quit();
    running.join().expect("the emulator does not panic")?;
    Ok(())
}

fn plan(a: &Namespace, b: &Namespace, change: Change) -> anyhow::Result<WanPlan> {
    let port = |text: String| text.parse();
    Ok(WanPlan {
        seed: 1,
        ports: vec![
            port(format!("a={}:wan0:10.255.1.0/24", a.path().display()))?,
            port(format!("b={}:wan0:10.255.2.0/24", b.path().display()))?,
        ],
        mtu_bytes: 1500,
        settings: Settings::default().changed(change)?,
        links: Vec::new(),
    })
}

fn set_up(site: &Namespace, address: &str, far: &str) -> anyhow::Result<()> {
    site.ip(&["address", "add", &format!("{address}/24"), "dev", "wan0"])?;
    site.ip(&["link", "set", "wan0", "up"])?;
    site.ip(&["route", "add", far, "dev", "wan0"])?;
    site.enter(|| -> anyhow::Result<()> {
        for name in ["tcp_rmem", "tcp_wmem"] {
            std::fs::write(Path::new("/proc/sys/net/ipv4").join(name), BUFFER_BYTES)?;
        }
        Ok(())
    })
}

fn measure(a: &Namespace, b: &Namespace, control: &Path, time: Duration) -> anyhow::Result<()> {
    let listener = b.enter(|| TcpListener::bind("10.255.2.1:0"))?;
    let target = listener.local_addr()?;
    let receiver = b.spawn(move || -> anyhow::Result<u64> { drain(&listener.accept()?.0) });
    let sender = a.spawn(move || -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(target)?;
        let (begin, piece) = (Instant::now(), vec![7; PIECE_BYTES]);
        while begin.elapsed() < time {
            stream.write_all(&piece)?;
        }
        Ok(())
    });
    let mut client = Client::connect(control)?;
    let mut before = client.counters()?;
    let mut since = Instant::now();
    while !sender.is_finished() {
        thread::sleep(Duration::from_secs(1));
        let (now, counters) = (Instant::now(), client.counters()?);
        report(&before, &counters, now - since)?;
        (before, since) = (counters, now);
    }
    sender.join().expect("it does not panic")?;
    let received = receiver.join().expect("it does not panic")?;
    let end = client.counters()?;
    println!("{received} bytes received; {:?}", end.direction("a", "b").context("a, b")?.delivery);
    for port in &end.ports {
        println!("{}: {:?}", port.port, port.device);
    }
    Ok(())
}

fn drain(mut stream: &TcpStream) -> anyhow::Result<u64> {
    let (mut buffer, mut received) = (vec![0; PIECE_BYTES], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(received),
            length => received += length as u64,
        }
    }
}

/// One interval in a line: the rate on the wire, and how late packets were written.
fn report(before: &Counters, after: &Counters, time: Duration) -> anyhow::Result<()> {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let (before, after) = (before.direction(from, to), after.direction(from, to));
        let (before, after) = (before.context("a, b")?, after.context("a, b")?);
        let packets = after.delivery.delivered.packets - before.delivery.delivered.packets;
        let bytes = after.delivery.delivered.bytes - before.delivery.delivered.bytes;
        let late_us = (after.late_ns_sum - before.late_ns_sum) / packets.max(1) / 1000;
        let mbit_per_s = u128::from(bytes) * 8 / time.as_micros().max(1);
        let late_us_max = after.late_ns_max / 1000;
        print!("{from} to {to}: {mbit_per_s:>5} Mbit/s, late {late_us:>4} us on average, ");
        print!("{late_us_max:>6} at most so far    ");
    }
    println!();
    Ok(())
}
