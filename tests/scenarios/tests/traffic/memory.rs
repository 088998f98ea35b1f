//! A reader that does not read costs a bounded amount of memory, and nobody else anything.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use scenarios::site::{Site, service};

/// Slow readers at a time.
const SLOW: usize = 40;
/// What each may cost the process: the shared buffer's size once, and the flow itself.
const HELD_BYTES_MAX: u64 = 128 << 10;
/// What runs beside them: allocator, log, control connections.
const REST_BYTES_MAX: u64 = 8 << 20;

#[test]
fn slow_readers_do_not_grow_memory_and_others_go_on() {
    let site = Site::new();
    let listener = site.listener(0);
    let vip = site.vips(80)[0];
    site.configure(&service("web", "tcp", &[vip], "", &[&[listener.local_addr().unwrap()]]));
    let proxy = site.start();
    let mut quick = site.connect(vip);
    let (mut answering, _) = listener.accept().unwrap();
    let before = proxy.memory();

    let mut flows = Vec::new();
    for _ in 0..SLOW {
        let client = site.connect(vip);
        let (server, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        flows.push((client, server));
    }
    // All push as hard as they can until nothing is taken of anybody any more.
    let piece = vec![1; 256 << 10];
    let (mut quiet_since, mut sent) = (Instant::now(), 0_u64);
    while quiet_since.elapsed() < Duration::from_millis(300) {
        for (client, _) in &mut flows {
            if let Ok(taken) = client.write(&piece) {
                sent += taken as u64;
                quiet_since = Instant::now();
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    quick.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    answering.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");

    let grown = proxy.memory().saturating_sub(before);
    println!("{sent} bytes sent to {SLOW} readers that do not read; {grown} bytes grown");
    assert!(sent > 10 * (SLOW as u64 * HELD_BYTES_MAX), "they pushed far more than may be held");
    assert!(grown <= SLOW as u64 * HELD_BYTES_MAX + REST_BYTES_MAX, "{grown} bytes grown");
}
