//! The loop that moves packets: reads them from the sites' devices, lets the fabric decide, and
//! writes them when they are due.
//!
//! One thread does it all. A packet costs a read and a write of a few microseconds each, which 1
//! Gbit/s leaves room for, and one thread needs no locks, so that the fabric's answers are exact. It
//! waits in `ppoll` with a time-out in nanoseconds, and never spins.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::control::{Command, Control, ControlError, Wake};
use crate::device::{Device, DeviceError};
use crate::fabric::{Fabric, PortId};
use crate::kernel;
use crate::plan::{PlanError, PortName, WanPlan};
use crate::pool::{Packet, Pool};
use crate::protocol::{Reply, Request};

/// How many packets are read from one device, or written, before another has its turn.
const BATCH_PACKETS: usize = 32;
/// How long after a timed wake the next one comes at the earliest. To arm a timer and be woken by it
/// costs more than to move a packet, the more so in a virtual machine, where both leave it: of a train
/// of packets, several are therefore written at a wake, each up to this much late. One that comes
/// alone is not.
const GATHER_NS: u64 = 40_000;
const NS_PER_S: u64 = 1_000_000_000;

/// Why an emulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The plan is refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A device cannot be made.
    #[error("port '{port}' cannot be opened")]
    Port {
        /// The port.
        port: PortName,
        /// What is wrong with its device.
        source: DeviceError,
    },
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system is out of something that every program needs.
    #[error("the system gives no event descriptor; see the limit on open files")]
    System(#[source] io::Error),
}

/// Why a running emulator ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A device was deleted under it.
    #[error("the device of port '{port}' is gone; do not delete it while the emulator runs")]
    DeviceGone {
        /// The port.
        port: PortName,
        /// What the kernel said.
        source: io::Error,
    },
    /// The control socket takes no more connections.
    #[error("the control socket fails; see the limits on open files and threads")]
    Control(#[source] io::Error),
    /// The kernel will not wait for packets.
    #[error("waiting for packets fails")]
    Wait(#[source] io::Error),
}

/// Ends a running emulator from another thread.
#[derive(Debug, Clone)]
pub struct Quitter {
    is_asked: Arc<AtomicBool>,
    wake: Arc<Wake>,
}

impl Quitter {
    /// Asks it to end.
    pub fn quit(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.wake.wake();
    }
}

/// An emulator with its devices and its control socket. They go when it goes.
#[derive(Debug)]
pub struct Emulator {
    // First, so that it goes first: its threads use the devices.
    control: Control,
    fabric: Fabric<Packet>,
    names: Vec<PortName>,
    devices: Arc<[Device]>,
    mtu_bytes: usize,
    pool: Pool,
    began: Instant,
    delivered_ns: u64,
    quitter: Quitter,
}

impl Emulator {
    /// Makes the devices and the control socket. Packets pass, and clients are answered, from
    /// [`Self::run`] on.
    pub fn open(plan: &WanPlan, control_path: &Path) -> Result<Self, OpenError> {
        let fabric = Fabric::new(plan)?;
        let make = |port: &crate::plan::PortPlan| {
            Device::make(&port.site, plan.mtu_bytes)
                .map_err(|source| OpenError::Port { port: port.name.clone(), source })
        };
        let devices: Arc<[Device]> = plan.ports.iter().map(make).collect::<Result<_, _>>()?;
        let wake = Arc::new(Wake::new().map_err(|error| OpenError::System(error.into()))?);
        let control = Control::listen(control_path, Arc::clone(&devices), Arc::clone(&wake))?;
        let mtu_bytes = usize::from(plan.mtu_bytes);
        Ok(Self {
            control,
            fabric,
            names: plan.ports.iter().map(|port| port.name.clone()).collect(),
            devices,
            mtu_bytes,
            // One byte more than fits, to tell a packet that is too long from the longest.
            pool: Pool::new(mtu_bytes + 1),
            began: Instant::now(),
            delivered_ns: 0,
            quitter: Quitter { is_asked: Arc::new(AtomicBool::new(false)), wake },
        })
    }

    /// What ends [`Self::run`] from another thread.
    #[must_use]
    pub fn quitter(&self) -> Quitter {
        self.quitter.clone()
    }

    /// Moves packets until told to quit. The calling thread is the emulator's from here on: it is
    /// given precedence over ordinary ones, and the most exact timers.
    pub fn run(mut self) -> Result<(), RunError> {
        take_precedence();
        let ports: Vec<PortId> = self.fabric.ports().collect();
        while !self.quitter.is_asked.load(Ordering::Acquire) {
            let ready = self.wait()?;
            for port in &ports {
                if ready.devices & (1 << port.index()) != 0 {
                    self.read_from(*port)?;
                }
                self.deliver_due();
            }
            if ready.listener {
                self.control.accept().map_err(RunError::Control)?;
            }
            if ready.wake {
                self.quitter.wake.clear();
                self.obey();
            }
        }
        Ok(())
    }

    /// Waits for packets, for clients, or until the next packet is due.
    fn wait(&self) -> Result<Ready, RunError> {
        let timeout = self.fabric.next_due_ns().map(|due_ns| {
            let now_ns = self.now_ns();
            // What is due already is the rest of a batch: it has waited enough.
            let is_due = due_ns <= now_ns;
            let wake_ns = if is_due { now_ns } else { due_ns.max(self.delivered_ns + GATHER_NS) };
            let ns = wake_ns.saturating_sub(now_ns);
            Timespec {
                tv_sec: (ns / NS_PER_S).cast_signed(),
                tv_nsec: (ns % NS_PER_S).cast_signed(),
            }
        });
        let listened = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> = self.devices.iter().map(AsFd::as_fd).map(listened).collect();
        fds.push(listened(self.control.as_fd()));
        fds.push(listened(self.quitter.wake.as_fd()));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(RunError::Wait(error.into())),
        }
        let is_ready = |index: usize| !fds[index].revents().is_empty();
        let bit = |index: usize| u32::from(is_ready(index)) << index;
        let ports = self.devices.len();
        Ok(Ready {
            devices: (0..ports).map(bit).sum(),
            listener: is_ready(ports),
            wake: is_ready(ports + 1),
        })
    }

    fn read_from(&mut self, port: PortId) -> Result<(), RunError> {
        for _ in 0..BATCH_PACKETS {
            let mut packet = self.pool.take();
            match self.devices[port.index()].read(packet.room()) {
                Ok(length) => packet.set_length(length),
                Err(Errno::AGAIN | Errno::INTR) => {
                    self.pool.give_back(packet);
                    return Ok(());
                }
                Err(error) => {
                    let port = self.names[port.index()].clone();
                    return Err(RunError::DeviceGone { port, source: error.into() });
                }
            }
            self.take_in(port, packet);
        }
        Ok(())
    }

    fn take_in(&mut self, port: PortId, packet: Packet) {
        let length = packet.as_ref().len();
        let unused = if length > self.mtu_bytes {
            // Its end was not read: it could not be delivered whole.
            self.fabric.was_oversize(port, u32::try_from(length).unwrap_or(u32::MAX));
            Some(packet)
        } else {
            self.fabric.offer(self.now_ns(), port, packet).err().map(|(_, packet)| packet)
        };
        if let Some(packet) = unused {
            self.pool.give_back(packet);
        }
    }

    fn deliver_due(&mut self) {
        for _ in 0..BATCH_PACKETS {
            let now_ns = self.now_ns();
            let Some(arrival) = self.fabric.take_due(now_ns) else { return };
            self.delivered_ns = now_ns;
            let (from, to, due) = (arrival.from, arrival.to, arrival.due);
            if self.devices[to.index()].write(due.payload.as_ref()).is_err() {
                self.fabric.was_refused(from, to, due.bytes);
            } else {
                self.fabric.was_late(from, to, now_ns - due.due_ns);
            }
            self.pool.give_back(due.payload);
        }
    }

    fn obey(&mut self) {
        while let Some(Command { request, answer }) = self.control.next_command() {
            let now_ns = self.now_ns();
            let done = match request {
                Request::Set { pair, change } => self.fabric.set(now_ns, &pair, change),
                Request::Cut { pair } => self.fabric.cut(now_ns, &pair),
                Request::Heal { pair } => self.fabric.heal(&pair),
                Request::Quit {} => {
                    self.quitter.quit();
                    Ok(())
                }
                Request::Counters {} => {
                    let counters = self.fabric.counters();
                    // Whoever asked may be gone; then there is nobody to tell.
                    let _ = answer.try_send(Reply::Counted { counters });
                    continue;
                }
            };
            let reply = done.map_or_else(
                |error| Reply::Refused { reason: error.to_string() },
                |()| Reply::Done {},
            );
            let _ = answer.try_send(reply);
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("nobody runs it for 584 years")
    }
}

struct Ready {
    /// One bit for each port.
    devices: u32,
    listener: bool,
    wake: bool,
}

/// The emulator stands in for hardware, which does not wait for a program's time slice. It never spins,
/// and the kernel leaves the others a twentieth of each second in any case. Where this is not
/// permitted packets are later, and the counters say how much.
fn take_precedence() {
    if kernel::run_before_others().is_err() {
        let _ = rustix::process::setpriority_process(None, -20);
    }
    // The kernel may else let a timer be 50 us late, to save wakes.
    let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
}
