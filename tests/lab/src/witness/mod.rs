//! A witness on a site's bridge: who has sent frames with a VM's MAC, from which port, and when. With
//! one at each site a test shows that the VM never spoke at two, whatever any program claims.
//!
//! It sees each frame as the kernel received it at a port, before any rule of ours acts on it, and
//! takes the kernel's time for it. Other watchers (a VM's own monitor) can testify beside it: a
//! [`Testimony`] is plain data.

mod testimony;

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;

pub use testimony::{Overlap, SAME_SIGHTING_MS_MAX, Sighting, Stay, Testimony, overlap, stays};

use crate::host::Host;
use crate::world::Mac;
use crate::{LabError, kernel};

/// Room for frames that the witness has not read yet; what does not fit is counted as missed.
const SOCKET_BYTES_MAX: usize = 8 << 20;

/// A witness at work.
pub struct Witness {
    testimony: Arc<Mutex<Testimony>>,
    lifeline: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Witness {
    /// Watches all ports of the bridges on `host` for frames from `mac`; `place` is the name under
    /// which it testifies.
    pub fn start(place: impl Into<String>, host: &Host, mac: Mac) -> Result<Self, LabError> {
        let failed =
            |cause: io::Error| LabError::refused(format!("watch for {mac} on {host}"), cause);
        let bridges = host.succeed(&["ip", "-br", "link", "show", "type", "bridge"])?;
        let bridges = bridges.lines().filter_map(|line| line.split_whitespace().next());
        let mut ports =
            Ports { bridges: bridges.map(ToOwned::to_owned).collect(), names: HashMap::new() };
        let socket = host.inside(|| kernel::frames_from(mac.0))?.map_err(failed)?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES_MAX)
            .map_err(|cause| failed(cause.into()))?;
        let (ended, lifeline) = io::pipe().map_err(failed)?;
        let testimony = Arc::new(Mutex::new(Testimony::new(place.into())));
        let told = Arc::clone(&testimony);
        let thread = thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || watch(&socket, &ended, &mut ports, &told))
            .map_err(failed)?;
        Ok(Self { testimony, lifeline: Some(lifeline), thread: Some(thread) })
    }

    /// What it has seen so far.
    pub fn so_far(&self) -> Testimony {
        self.testimony.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the watch once all frames of before are read, and gives what it has seen.
    pub fn stop(mut self) -> Result<Testimony, LabError> {
        self.lifeline = None;
        if let Some(thread) = self.thread.take() {
            let watched = thread.join().expect("a witness does not panic");
            watched.map_err(|cause| LabError::refused("watch a bridge to the end", cause))?;
        }
        Ok(self.so_far())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.lifeline = None;
        if let Some(thread) = self.thread.take() {
            // Its result is for who asks for the testimony.
            let _ = thread.join();
        }
    }
}

fn watch(
    socket: &OwnedFd,
    ended: &PipeReader,
    ports: &mut Ports,
    told: &Mutex<Testimony>,
) -> io::Result<()> {
    loop {
        let mut waiting = [PollFd::new(socket, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
        let is_over = !waiting[1].revents().is_empty();
        while let Some(frame) = kernel::next_frame(socket.as_fd())? {
            if frame.is_outgoing {
                continue;
            }
            let port = ports.name(socket, frame.interface_index);
            // The bridge itself takes in what its ports have taken in already.
            if let Some(port) = port {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.note(port, frame.at);
            }
        }
        let missed = kernel::frames_missed(socket.as_fd())?;
        told.lock().unwrap_or_else(PoisonError::into_inner).frames_missed += u64::from(missed);
        if is_over {
            return Ok(());
        }
    }
}

/// The ports that frames have come from.
struct Ports {
    /// What stood as a bridge when the watch began.
    bridges: Vec<String>,
    /// By number, which a namespace gives out once; none for a bridge.
    names: HashMap<u32, Option<String>>,
}

impl Ports {
    /// A port that was gone before it could be asked for is told by its number.
    fn name(&mut self, socket: &OwnedFd, index: u32) -> Option<&str> {
        let bridges = &self.bridges;
        let name = self.names.entry(index).or_insert_with(|| {
            let name =
                index_to_name(socket, index).unwrap_or_else(|_| format!("interface {index}"));
            (!bridges.contains(&name)).then_some(name)
        });
        name.as_deref()
    }
}
