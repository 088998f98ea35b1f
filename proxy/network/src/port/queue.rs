//! What waits in a tap for its VM.
//!
//! A stopped QEMU keeps its tap open, and the bridge goes on sending there: up to thousands of frames
//! lie in it at the stop, older than anything that a hold keeps. They are read through a second
//! descriptor of the same tap.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::frame;
use crate::{Mac, NetworkError};

/// Packets in one answer of [`TapQueue::leftovers`].
pub const LEFTOVERS_MAX: usize = 1024;
/// The longest frame that a tap gives.
const FRAME_BYTES_MAX: usize = 65_536 + 18;
/// Frames without a packet in one answer: as many as a tap's queue has at most.
const PASSED_OVER_MAX: usize = crate::tap::QUEUE_LENGTH as usize;
/// Between two looks at a queue that its VM is reading: a tenth of the shortest hold that matters.
const LOOK_INTERVAL: Duration = Duration::from_micros(100);
/// Open files of a QEMU.
const DESCRIPTORS_MAX: usize = 4096;

/// A second descriptor of a VM's tap.
#[derive(Debug)]
pub struct TapQueue {
    descriptor: OwnedFd,
}

impl TapQueue {
    /// By a duplicate of the descriptor that QEMU was given.
    #[must_use]
    pub fn over(descriptor: OwnedFd) -> TapQueue {
        TapQueue { descriptor }
    }

    /// By QEMU's own descriptor: after a restart of ours, or where somebody else opened the tap.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`]: the process is gone, or has no such tap open.
    pub fn of_process(
        process: BorrowedFd<'_>,
        pid: u32,
        tap: &str,
    ) -> Result<TapQueue, NetworkError> {
        let failed = NetworkError::kernel(format!("get {tap} from process {pid}"));
        let get = || {
            let number = descriptor_of(pid, tap)?.ok_or(io::ErrorKind::NotFound)?;
            // The number was read of the process that the first argument names, or of one that took
            // its place; that one is gone then, and this fails.
            Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?)
        };
        get().map(TapQueue::over).map_err(failed)
    }

    /// Whether the VM has read all that waits, at the latest after `bound`.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`].
    pub fn wait_until_empty(&self, bound: Duration) -> Result<bool, NetworkError> {
        let until = Instant::now() + bound;
        loop {
            if !self.has_some().map_err(NetworkError::kernel("look into the VM's tap"))? {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            // The kernel tells when something comes, not when the last has gone.
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Takes out what waits, in order: of frames for `guest` the IP packets, at most
    /// [`LEFTOVERS_MAX`]. To be asked until it gives none, once the VM is seen stopped.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`].
    pub fn leftovers(&self, guest: Mac) -> Result<Vec<Vec<u8>>, NetworkError> {
        self.take(guest).map_err(NetworkError::kernel("read what is left in the VM's tap"))
    }

    fn take(&self, guest: Mac) -> io::Result<Vec<Vec<u8>>> {
        let mut packets = Vec::new();
        let mut passed_over = 0;
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        while packets.len() < LEFTOVERS_MAX && passed_over < PASSED_OVER_MAX && self.has_some()? {
            let length = match read(&self.descriptor, buffer.as_mut_slice()) {
                Ok(length) => length,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            match frame::packet(buffer.get(..length).unwrap_or_default(), guest) {
                Some(packet) => packets.push(packet.to_vec()),
                None => passed_over += 1,
            }
        }
        Ok(packets)
    }

    fn has_some(&self) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut looked = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut looked, Some(&now))?;
        Ok(looked[0].revents().contains(PollFlags::IN))
    }
}

/// Under which number a process has this tap open: the kernel tells each tap's name.
fn descriptor_of(pid: u32, tap: &str) -> io::Result<Option<i32>> {
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.take(DESCRIPTORS_MAX) {
        let entry = entry?;
        // One that was closed meanwhile is none.
        let told = fs::read_to_string(entry.path()).unwrap_or_default();
        if told.lines().any(|line| line.strip_prefix("iff:").is_some_and(|name| name.trim() == tap))
        {
            return Ok(entry.file_name().to_str().and_then(|number| number.parse().ok()));
        }
    }
    Ok(None)
}
