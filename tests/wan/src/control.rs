//! The control socket: lines in, commands to the emulator's loop, answers out.
//!
//! The loop owns the fabric and must never wait, so each connection has a thread of its own that
//! reads, asks the loop, and writes. What takes the kernel longer (the devices' counters) is read on
//! these threads too.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::device::Device;
use crate::protocol::{LINE_BYTES_MAX, Reply, Request};

/// How many connections are served at a time.
const CLIENTS_MAX: usize = 16;
/// How many commands wait for the loop at most: one of each connection.
const COMMANDS_MAX: usize = CLIENTS_MAX;
/// How long a client may leave an answer unread before its connection ends.
const WRITE_WAIT: Duration = Duration::from_secs(5);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another emulator answers at this path.
    #[error("control socket {0:?} is in use by a running emulator; give this one another path")]
    InUse(PathBuf),
    /// It cannot be made.
    #[error(
        "control socket {path:?} cannot be made; write a path of at most 107 bytes in a folder of yours"
    )]
    Make {
        /// The path as it was written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A request on its way to the loop, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) answer: SyncSender<Reply>,
}

/// Wakes the loop from another thread.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// Makes the loop's next wait return at once.
    pub(crate) fn wake(&self) {
        // It can only fail because 2^64 wakes have not been seen yet: then the loop is awake.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets all wakes up to now.
    pub(crate) fn clear(&self) {
        // It can only fail because there was none.
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The control socket with its connections. Dropping it ends them, and removes the socket's file.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    listener: UnixListener,
    devices: Arc<[Device]>,
    wake: Arc<Wake>,
    sender: SyncSender<Command>,
    /// None once it ends: then whoever asks is told so.
    commands: Option<Receiver<Command>>,
    clients: Vec<(UnixStream, JoinHandle<()>)>,
}

impl Control {
    /// Begins to listen; from now on clients can connect, and will be answered by the loop.
    pub(crate) fn listen(
        path: &Path,
        devices: Arc<[Device]>,
        wake: Arc<Wake>,
    ) -> Result<Self, ControlError> {
        let make_error = |source| ControlError::Make { path: path.to_owned(), source };
        let listener = match listener_at(path) {
            Err(error) if error == Errno::ADDRINUSE => {
                if UnixStream::connect(path).is_ok() {
                    return Err(ControlError::InUse(path.to_owned()));
                }
                // Left over from one that was killed.
                std::fs::remove_file(path).map_err(make_error)?;
                listener_at(path)
            }
            other => other,
        };
        let listener = listener.map_err(|error| make_error(error.into()))?;
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let path = path.to_owned();
        Ok(Self {
            path,
            listener,
            devices,
            wake,
            sender,
            commands: Some(commands),
            clients: Vec::new(),
        })
    }

    /// Takes in the connections that wait.
    pub(crate) fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            self.clients.retain(|(_, thread)| !thread.is_finished());
            if self.clients.len() >= CLIENTS_MAX {
                refuse_busy(stream);
                continue;
            }
            let session = Session {
                devices: Arc::clone(&self.devices),
                wake: Arc::clone(&self.wake),
                sender: self.sender.clone(),
            };
            let ours = stream.try_clone()?;
            let serve = move || {
                session.serve(&stream);
                // Best effort: the client may have closed first. Our other handle would keep it open.
                let _ = stream.shutdown(Shutdown::Both);
            };
            let thread = thread::Builder::new().name("wan-control".into()).spawn(serve)?;
            self.clients.push((ours, thread));
        }
    }

    /// The next command that waits.
    pub(crate) fn next_command(&self) -> Option<Command> {
        self.commands.as_ref()?.try_recv().ok()
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Best effort: the file may have been removed with its folder.
        let _ = std::fs::remove_file(&self.path);
        // Answers all that wait, and all that come: else a thread could wait for us, and we for it.
        self.commands = None;
        for (stream, thread) in self.clients.drain(..) {
            // Its reads end; an answer that is being written still gets out.
            let _ = stream.shutdown(Shutdown::Read);
            let _ = thread.join();
        }
    }
}

/// One connection's side of the talk with the loop.
struct Session {
    devices: Arc<[Device]>,
    wake: Arc<Wake>,
    sender: SyncSender<Command>,
}

impl Session {
    fn serve(&self, mut stream: &UnixStream) {
        if stream.set_write_timeout(Some(WRITE_WAIT)).is_err() {
            return;
        }
        let mut lines = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            // One byte more than may be, to tell a line that is too long from one that just fits.
            let bounded = (&mut lines).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
            if bounded.is_err() || line.is_empty() {
                return;
            }
            let is_too_long = line.len() > LINE_BYTES_MAX;
            let reply = if is_too_long { too_long() } else { self.answer(&line) };
            let Ok(mut text) = serde_json::to_vec(&reply) else { return };
            text.push(b'\n');
            if stream.write_all(&text).is_err() || is_too_long {
                return;
            }
        }
    }

    fn answer(&self, line: &[u8]) -> Reply {
        match serde_json::from_slice(line) {
            Ok(request) => self.ask_loop(request),
            Err(error) => Reply::Refused {
                reason: format!(
                    "not a request: {error}; write for example {{\"do\":\"counters\"}}"
                ),
            },
        }
    }

    fn ask_loop(&self, request: Request) -> Reply {
        let ending = || Reply::Refused { reason: "the emulator is ending".into() };
        let (answer, answered) = sync_channel(1);
        match self.sender.try_send(Command { request, answer }) {
            Ok(()) => self.wake.wake(),
            // There is room for one command of each connection, and each sends one at a time.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return ending(),
        }
        match answered.recv() {
            Ok(Reply::Counted { counters }) => self.with_devices(counters),
            Ok(reply) => reply,
            Err(_) => ending(),
        }
    }

    fn with_devices(&self, mut counters: crate::counters::Counters) -> Reply {
        for (port, device) in counters.ports.iter_mut().zip(self.devices.iter()) {
            match device.counters() {
                Ok(counted) => port.device = Some(counted),
                Err(error) => {
                    let reason =
                        format!("the device of port '{}' cannot be read: {error}", port.port);
                    return Reply::Refused { reason };
                }
            }
        }
        Reply::Counted { counters }
    }
}

/// A socket whose file is its owner's alone from the first moment, not only after a later chmod.
fn listener_at(path: &Path) -> Result<UnixListener, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file takes its mode from the socket that is bound.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, i32::try_from(CLIENTS_MAX).map_err(|_| Errno::INVAL)?)?;
    Ok(UnixListener::from(socket))
}

fn refuse_busy(mut stream: UnixStream) {
    let reason = format!("{CLIENTS_MAX} clients are connected already; close one");
    // Best effort, and never waiting: this is the loop's own thread.
    if let Ok(text) = serde_json::to_string(&Reply::Refused { reason }) {
        let _ = stream.set_nonblocking(true).and_then(|()| writeln!(stream, "{text}"));
    }
}

fn too_long() -> Reply {
    Reply::Refused { reason: format!("the line is longer than {LINE_BYTES_MAX} bytes; shorten it") }
}
