//! What lies between two TUNs until the tunnel carries packets: a delay each way, and for one VM a
//! hold, by the tunnel's rules.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{read, write};

pub(crate) const DELAY: Duration = Duration::from_millis(10);
const GIVEN_BACK_MAX: Duration = Duration::from_secs(10);
const PACKET_BYTES_MAX: usize = 65_536;
/// Packets kept in all: more than a TUN's queue.
const KEPT_MAX: usize = 50_000;

/// What becomes of packets for the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Passes,
    Holds,
    /// They go out again where they came in.
    GivesBack,
}

/// One direction.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    vm: Vec<IpAddr>,
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    state: Mutex<State>,
    changed: Condvar,
    over: OwnedFd,
}

struct State {
    mode: Mode,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    held: Vec<Vec<u8>>,
    is_over: bool,
}

impl Lane {
    pub(crate) fn between(vm: &[IpAddr], from: &Arc<OwnedFd>, to: &Arc<OwnedFd>) -> Lane {
        let state = State {
            mode: Mode::Passes,
            waiting: VecDeque::new(),
            held: Vec::new(),
            is_over: false,
        };
        let shared = Arc::new(Shared {
            vm: vm.to_vec(),
            from: Arc::clone(from),
            to: Arc::clone(to),
            state: Mutex::new(state),
            changed: Condvar::new(),
            over: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        });
        let (reads, delivers) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || reads.read_to_the_end()),
            thread::spawn(move || delivers.deliver_to_the_end()),
        ];
        Lane { shared, threads }
    }

    /// Packets for the VM are kept from now on; those under way too.
    pub(crate) fn hold(&self) {
        self.shared.state.lock().unwrap().mode = Mode::Holds;
    }

    /// How many are kept.
    pub(crate) fn held(&self) -> usize {
        self.shared.state.lock().unwrap().held.len()
    }

    /// Delivers `first`, then what was kept, then all that comes.
    pub(crate) fn release(&self, first: &[Vec<u8>]) {
        let mut state = self.shared.state.lock().unwrap();
        for packet in first.iter().chain(&std::mem::take(&mut state.held)) {
            write(&self.shared.to, packet).unwrap();
        }
        state.mode = Mode::Passes;
        self.shared.changed.notify_all();
    }

    /// As [`Lane::release`], back to where it came from, until [`Lane::pass`].
    pub(crate) fn give_back(&self, first: &[Vec<u8>]) {
        let mut state = self.shared.state.lock().unwrap();
        let waiting = std::mem::take(&mut state.waiting);
        let (back, on): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, packet)| self.shared.is_for_vm(packet));
        state.waiting = on.into();
        let held = std::mem::take(&mut state.held);
        let back = back.into_iter().map(|(_, packet)| packet);
        for packet in first.iter().cloned().chain(held).chain(back) {
            write(&self.shared.from, &packet).unwrap();
        }
        state.mode = Mode::GivesBack;
    }

    /// Waits until nothing that came is still to be given back: what then takes another way overtakes
    /// nothing.
    pub(crate) fn wait_given_back(&self) {
        let until = Instant::now() + GIVEN_BACK_MAX;
        loop {
            // The reader takes under the lock what it gives back.
            let state = self.shared.state.lock().unwrap();
            let mut looked = [PollFd::new(&*self.shared.from, PollFlags::IN)];
            poll(&mut looked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
            drop(state);
            if !looked[0].revents().contains(PollFlags::IN) {
                return;
            }
            assert!(Instant::now() < until, "the TUN is never empty");
            thread::sleep(Duration::from_micros(50));
        }
    }

    pub(crate) fn pass(&self) {
        self.shared.state.lock().unwrap().mode = Mode::Passes;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.is_over = true;
        }
        self.shared.changed.notify_all();
        let _ = write(&self.shared.over, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_for_vm(&self, packet: &[u8]) -> bool {
        let to = match packet[0] >> 4 {
            4 => IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap()),
            _ => IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap()),
        };
        self.vm.contains(&to)
    }

    fn read_to_the_end(&self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let mut waits = [&self.from, &self.over]
                .map(|fd| PollFd::from_borrowed_fd(rustix::fd::AsFd::as_fd(fd), PollFlags::IN));
            let _ = poll(&mut waits, None);
            if waits[1].revents().contains(PollFlags::IN) {
                return;
            }
            loop {
                let mut state = self.state.lock().unwrap();
                let Ok(length) = read(&self.from, buffer.as_mut_slice()) else { break };
                let packet = &buffer[..length];
                assert!(state.waiting.len() + state.held.len() < KEPT_MAX);
                if state.mode == Mode::GivesBack && self.is_for_vm(packet) {
                    write(&self.from, packet).unwrap();
                } else {
                    state.waiting.push_back((Instant::now() + DELAY, packet.to_vec()));
                    self.changed.notify_all();
                }
            }
        }
    }

    fn deliver_to_the_end(&self) {
        let mut state = self.state.lock().unwrap();
        while !state.is_over {
            let now = Instant::now();
            match state.waiting.front() {
                None => state = self.changed.wait(state).unwrap(),
                Some((due, _)) if *due > now => {
                    let rest = *due - now;
                    state = self.changed.wait_timeout(state, rest).unwrap().0;
                }
                Some(_) => {
                    let (_, packet) = state.waiting.pop_front().unwrap();
                    if state.mode == Mode::Holds && self.is_for_vm(&packet) {
                        state.held.push(packet);
                    } else {
                        write(&self.to, &packet).unwrap();
                    }
                }
            }
        }
    }
}
