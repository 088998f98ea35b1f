//! Relays that do to traffic what a broken network or proxy would.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often a relay looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Which way a relay alters bytes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// Relays one connection to `server`, with one bit flipped at `offset` of the stream that goes `way`.
pub(crate) fn corrupting(server: SocketAddr, way: Way, offset: u64) -> SocketAddr {
    relay(move |client| {
        let upstream = TcpStream::connect(server).unwrap();
        let (up, down) = match way {
            Way::Up => (Some(offset), None),
            Way::Down => (None, Some(offset)),
        };
        let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        let thread = std::thread::spawn(move || pump(back.0, back.1, down, u64::MAX));
        pump(client, upstream, up, u64::MAX);
        thread.join().unwrap();
    })
}

/// Relays one connection to `server`; after `bytes` from it the relay opens a new one and goes on with
/// that, as a proxy would that retries behind its client's back.
pub(crate) fn reconnecting(server: SocketAddr, bytes: u64) -> SocketAddr {
    relay(move |client| {
        for limit in [bytes, u64::MAX] {
            let upstream = TcpStream::connect(server).unwrap();
            let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            let thread = std::thread::spawn(move || pump(from, to, None, u64::MAX));
            pump(upstream.try_clone().unwrap(), client.try_clone().unwrap(), None, limit);
            // Ends the thread once its next bytes find no reader.
            let _ = upstream.shutdown(Shutdown::Both);
            if limit == u64::MAX {
                let _ = client.shutdown(Shutdown::Both);
            }
            thread.join().unwrap();
        }
    })
}

fn relay(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

/// Copies until either end is gone or `limit` bytes have passed.
fn pump(mut from: TcpStream, mut to: TcpStream, flip: Option<u64>, limit: u64) {
    let mut bytes = [0; 4096];
    let mut passed = 0;
    while passed < limit {
        let room = (limit - passed).min(bytes.len() as u64) as usize;
        let Ok(read @ 1..) = from.read(&mut bytes[..room]) else { break };
        if let Some(at) = flip.and_then(|at| at.checked_sub(passed))
            && let Some(byte) = bytes[..read].get_mut(at as usize)
        {
            *byte ^= 0x10;
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
        passed += read as u64;
    }
    if limit == u64::MAX {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// A relay of one client's datagrams that loses and repeats some of them, each way.
pub(crate) struct UdpRelay {
    pub(crate) address: SocketAddr,
    pub(crate) lost_up: Arc<AtomicU64>,
    pub(crate) lost_down: Arc<AtomicU64>,
    pub(crate) repeated_up: Arc<AtomicU64>,
    pub(crate) repeated_down: Arc<AtomicU64>,
    wanted: Arc<AtomicBool>,
    kind: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl UdpRelay {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        far.connect(server).unwrap();
        let count = || Arc::new(AtomicU64::new(0));
        let mut relay = Self {
            address: near.local_addr().unwrap(),
            lost_up: count(),
            lost_down: count(),
            repeated_up: count(),
            repeated_down: count(),
            wanted: Arc::new(AtomicBool::new(true)),
            kind: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        let up = (Arc::clone(&relay.lost_up), Arc::clone(&relay.repeated_up));
        let down = (Arc::clone(&relay.lost_down), Arc::clone(&relay.repeated_down));
        let (wanted, kind) = (Arc::clone(&relay.wanted), Arc::clone(&relay.kind));
        relay.thread = Some(std::thread::spawn(move || {
            let mut client = None;
            let (mut ups, mut downs) = (0_u64, 0_u64);
            near.set_read_timeout(Some(LOOK)).unwrap();
            far.set_nonblocking(true).unwrap();
            let mut bytes = [0; 9000];
            while wanted.load(Ordering::SeqCst) {
                if let Ok((length, from)) = near.recv_from(&mut bytes) {
                    client = Some(from);
                    ups += 1;
                    let copies = copies(ups, (5, 7), &kind, &up);
                    for _ in 0..copies {
                        far.send(&bytes[..length]).unwrap();
                    }
                }
                while let (Ok(length), Some(client)) = (far.recv(&mut bytes), client) {
                    downs += 1;
                    let copies = copies(downs, (6, 11), &kind, &down);
                    for _ in 0..copies {
                        near.send_to(&bytes[..length], client).unwrap();
                    }
                }
            }
        }));
        relay
    }

    /// From now on every datagram passes once.
    pub(crate) fn be_kind(&self) {
        self.kind.store(true, Ordering::SeqCst);
    }
}

fn copies(
    nth: u64,
    (lose, repeat): (u64, u64),
    kind: &AtomicBool,
    (lost, repeated): &(Arc<AtomicU64>, Arc<AtomicU64>),
) -> u32 {
    if kind.load(Ordering::SeqCst) {
        1
    } else if nth.is_multiple_of(lose) {
        lost.fetch_add(1, Ordering::SeqCst);
        0
    } else if nth.is_multiple_of(repeat) {
        repeated.fetch_add(1, Ordering::SeqCst);
        2
    } else {
        1
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
