//! A VM that is a network namespace: its network stack is real, and moves between taps in
//! microseconds.
//!
//! ```text
//! programs - the guest's own kernel - eth0 == the card (a thread) == tap at a, or tap at b
//! ```
//!
//! The thread passes whole frames, as QEMU does between its guest's card and a tap. Every tap that it
//! was given it holds open, as the QEMUs of both ends do; it serves one of them, or, stopped, none:
//! then frames wait where they are. What cannot be shown with it: the guest's clock goes on while it
//! is stopped, so that its timers fire and what it says waits in its own card.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, read, write};

use crate::host::Host;
use crate::world::{APPLICATION_BITS, Dual, Mac, Station};
use crate::{LabError, kernel};

const CARD: &str = "eth0";
/// The longest frame that a tap gives.
const FRAME_BYTES_MAX: usize = 65_536 + 18;
/// Frames passed in one go, before a stop is heard.
const FRAMES_MAX: usize = 64;
/// `RARP`, as QEMU sends it when it begins: Ethernet, IPv4, lengths of both, "who am I".
const RARP: [u8; 10] = [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3];

/// The VM. It ends with this value.
pub struct NamespaceVm {
    host: Host,
    mac: Mac,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// One of the taps that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardEnd(usize);

struct Shared {
    card: OwnedFd,
    ends: Mutex<Ends>,
    changed: OwnedFd,
}

#[derive(Default)]
struct Ends {
    /// Those that were given, in turn; none where one was closed.
    taps: Vec<Option<Arc<OwnedFd>>>,
    serves: Option<usize>,
    is_over: bool,
    /// Frames that a tap did not take.
    lost: u64,
}

impl NamespaceVm {
    /// Makes the VM on this host, which has nothing else: its card, stopped, with its addresses and
    /// gateways.
    pub fn make(host: &Host, station: Station, gateway: Dual) -> Result<Self, LabError> {
        let failed = |cause| LabError::refused(format!("make a card on {host}"), cause);
        let card = host.inside(open_card)?.map_err(failed)?;
        let (Dual { v4, v6 }, (v4_bits, v6_bits)) = (station.ip, APPLICATION_BITS);
        host.ip_batch(&format!(
            "link set {CARD} address {} txqueuelen 10000\n\
             link set {CARD} up\n\
             addr add {v4}/{v4_bits} dev {CARD}\n\
             addr add {v6}/{v6_bits} dev {CARD} nodad\n\
             route add default via {}\n\
             route add default via {}\n",
            station.mac, gateway.v4, gateway.v6
        ))?;
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|cause| failed(cause.into()))?;
        let shared = Arc::new(Shared { card, ends: Mutex::default(), changed });
        let served = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || served.serve_to_the_end()));
        Ok(Self { host: host.clone(), mac: station.mac, shared, thread })
    }

    /// Its inside.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Holds a tap open from now on; frames wait in it.
    pub fn hold(&self, tap: OwnedFd) -> CardEnd {
        let mut ends = self.shared.ends();
        ends.taps.push(Some(Arc::new(tap)));
        CardEnd(ends.taps.len() - 1)
    }

    /// Serves none: when this returns, no frame passes any more.
    pub fn stop(&self) {
        self.shared.ends().serves = None;
    }

    /// Serves this one, and announces itself there.
    pub fn cont(&self, at: CardEnd) -> Result<(), LabError> {
        let failed = |cause: Errno| LabError::refused("announce the VM", cause);
        let mut ends = self.shared.ends();
        if let Some(tap) = ends.taps.get(at.0).and_then(Option::as_ref) {
            write(tap, &rarp(self.mac)).map_err(failed)?;
        }
        ends.serves = Some(at.0);
        drop(ends);
        self.shared.tell();
        Ok(())
    }

    /// Holds this one no longer: a tap that nobody has open is gone.
    pub fn close(&self, at: CardEnd) {
        let mut ends = self.shared.ends();
        if ends.serves == Some(at.0) {
            ends.serves = None;
        }
        if let Some(tap) = ends.taps.get_mut(at.0) {
            *tap = None;
        }
        drop(ends);
        self.shared.tell();
    }

    /// Frames that a tap, or its own card, did not take.
    pub fn lost(&self) -> u64 {
        self.shared.ends().lost
    }
}

impl Drop for NamespaceVm {
    fn drop(&mut self) {
        self.shared.ends().is_over = true;
        self.shared.tell();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread.
    fn tell(&self) {
        // It cannot be full before the thread has been woken as often as it can count.
        let _ = write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn serve_to_the_end(&self) {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        loop {
            let ends = self.ends();
            if ends.is_over {
                return;
            }
            let at = ends.serves;
            let tap = at.and_then(|at| ends.taps.get(at).cloned().flatten());
            drop(ends);
            self.wait(tap.as_deref());
            let (Some(at), Some(tap)) = (at, tap) else { continue };
            for (from, to) in [(&self.card, &*tap), (&*tap, &self.card)] {
                // Under the lock, so that a stop waits for the frame in hand.
                let mut ends = self.ends();
                if ends.serves == Some(at) {
                    ends.lost += pass(from, to, &mut frame);
                }
            }
        }
    }

    /// Until there is something to pass, or something has changed.
    fn wait(&self, tap: Option<&OwnedFd>) {
        let mut waits = vec![PollFd::new(&self.changed, PollFlags::IN)];
        if let Some(tap) = tap {
            waits.push(PollFd::new(&self.card, PollFlags::IN));
            waits.push(PollFd::new(tap, PollFlags::IN));
        }
        let _ = poll(&mut waits, None);
        let _ = read(&self.changed, &mut [0_u8; 8]);
    }
}

/// Passes what waits, bounded; says how many frames were not taken.
fn pass(from: &OwnedFd, to: &OwnedFd, frame: &mut [u8]) -> u64 {
    let mut lost = 0;
    for _ in 0..FRAMES_MAX {
        let Ok(length) = read(from, &mut *frame) else { break };
        if write(to, frame.get(..length).unwrap_or_default()).is_err() {
            lost += 1;
        }
    }
    lost
}

fn open_card() -> io::Result<OwnedFd> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let card =
        OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
    kernel::make_tap(&card, CARD)?;
    Ok(card.into())
}

fn rarp(mac: Mac) -> Vec<u8> {
    [&[0xff; 6][..], &mac.0, &RARP, &mac.0, &[0; 4], &mac.0, &[0; 4]].concat()
}
