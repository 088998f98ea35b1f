//! A port's device: a TUN in a site's network namespace, of which we hold the other end.
//!
//! We make the device and set what the emulation depends on, MTU and queue length. Whoever runs us
//! gives it addresses and routes, and sets it up; until then nothing passes, and what is due for it
//! is counted as refused. The device may be moved to another namespace or renamed while we run. It
//! goes with our file, however we end.

use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::counters::{DeviceCounters, Tally};
use crate::kernel;
use crate::plan::Site;

/// How many packets a site may have sent before we have read them: 120 ms at 1 Gbit/s of 1500-byte
/// packets, so that a late turn of ours loses none.
const QUEUE_PACKETS: i32 = 10_000;

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The namespace's path leads to no namespace.
    #[error(
        "network namespace {path:?} of device '{device}' cannot be opened; make it before the \
         emulator starts"
    )]
    Namespace {
        /// The device.
        device: String,
        /// The path as it was written.
        path: PathBuf,
        /// What the kernel said.
        source: Error,
    },
    /// The kernel refused the device.
    #[error(
        "device '{device}' cannot be made; it takes root (CAP_NET_ADMIN, CAP_SYS_ADMIN for another \
         namespace), /dev/net/tun, and a name that is free there"
    )]
    Make {
        /// The device.
        device: String,
        /// What the kernel said.
        source: Error,
    },
}

/// The emulator's end of a site's TUN device.
#[derive(Debug)]
pub(crate) struct Device {
    tun: OwnedFd,
}

impl Device {
    /// Makes the device.
    pub(crate) fn make(site: &Site, mtu_bytes: u16) -> Result<Self, DeviceError> {
        let make = || make_here(&site.device, mtu_bytes);
        let made = match &site.namespace {
            None => make(),
            Some(path) => in_namespace(open_namespace(site, path)?.as_fd(), make),
        };
        made.map_err(|source| DeviceError::Make { device: site.device.clone(), source })
    }

    /// Reads one packet that the site has sent; of one that is longer than the buffer, the start.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(&self.tun, buffer)
    }

    /// Hands the site a packet.
    pub(crate) fn write(&self, packet: &[u8]) -> Result<(), Errno> {
        rustix::io::write(&self.tun, packet).map(|_| ())
    }

    /// What the kernel has counted, wherever the device is and whatever it is called now.
    pub(crate) fn counters(&self) -> Result<DeviceCounters, Error> {
        let name = kernel::device_name(&self.tun)?;
        let namespace = kernel::device_namespace(&self.tun)?;
        // "thread-self": the network of this thread, which is in the device's namespace.
        let read = || fs::read_to_string("/proc/thread-self/net/dev");
        let table = in_namespace(namespace.as_fd(), read)?;
        counters_in(&table, &name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidData, format!("no counters of device '{name}'"))
        })
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

fn open_namespace(site: &Site, path: &Path) -> Result<File, DeviceError> {
    File::open(path).map_err(|source| DeviceError::Namespace {
        device: site.device.clone(),
        path: path.to_owned(),
        source,
    })
}

fn make_here(name: &str, mtu_bytes: u16) -> Result<Device, Error> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    kernel::make_device(&tun, name)?;
    // Any socket will do to name a device of this namespace to the kernel.
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    kernel::set_queue_length(&socket, name, QUEUE_PACKETS)?;
    kernel::set_mtu(&socket, name, mtu_bytes)?;
    Ok(Device { tun })
}

/// Does something in a network namespace: on a thread of its own, for a thread that has entered
/// one cannot be counted on to get back.
fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let inside = move || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            work()
        };
        let thread =
            thread::Builder::new().name("in-namespace".into()).spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One device's line in the kernel's table of network devices.
fn counters_in(table: &str, device: &str) -> Option<DeviceCounters> {
    let of_device = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        (name.trim() == device).then(|| numbers.to_owned())
    };
    let line = table.lines().find_map(of_device)?;
    let numbers: Vec<u64> =
        line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // Eight numbers of what was received, then eight of what was sent: bytes, packets, errors, drops…
    let (rx, tx) = (numbers.get(..8)?, numbers.get(8..16)?);
    Some(DeviceCounters {
        tx: Tally { packets: tx[1], bytes: tx[0] },
        tx_dropped_packets: tx[3],
        rx: Tally { packets: rx[1], bytes: rx[0] },
        rx_dropped_packets: rx[3],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_line_is_found_by_its_whole_name() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  wan01: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
   wan0:    1500       2    3    4    5     6          7         8     9000      10   11   12   13    14      15         16
";
        let expected = DeviceCounters {
            tx: Tally { packets: 10, bytes: 9000 },
            tx_dropped_packets: 12,
            rx: Tally { packets: 2, bytes: 1500 },
            rx_dropped_packets: 4,
        };
        assert_eq!(counters_in(table, "wan0"), Some(expected));
        assert_eq!(counters_in(table, "wan"), None);
        assert_eq!(counters_in("wan0: 1 2 3", "wan0"), None);
    }
}
