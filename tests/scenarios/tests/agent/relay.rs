//! The sites' channel sockets joined over the WAN, by nothing but copying: what the tunnel will do.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::world::Site;

/// Between two looks for a caller.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// One channel; it ends with the value, and its connections with it.
pub(crate) struct Relay {
    near: PathBuf,
    is_over: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// From the socket at `from` to the one of the same path at `to`.
    pub(crate) fn start(from: &Site, to: &Site, path: &Path) -> Relay {
        let near = from.place().path(path);
        let entrance = UnixListener::bind(&near).unwrap();
        // QEMU's user may call; the folder keeps everybody else out.
        fs::set_permissions(&near, Permissions::from_mode(0o777)).unwrap();
        let address = (to.hypervisor_address().v4, 0);
        let exit = to.hypervisor().inside(|| TcpListener::bind(address)).unwrap().unwrap();
        let there = exit.local_addr().unwrap();
        entrance.set_nonblocking(true).unwrap();
        exit.set_nonblocking(true).unwrap();
        let (is_over, streams) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let far = to.place().path(path);
        let host = from.hypervisor();
        let threads = vec![
            accept(&is_over, &streams, move || {
                let (unix, _) = entrance.accept()?;
                let tcp = host.inside(|| TcpStream::connect(there)).map_err(io::Error::other)??;
                Ok((unix, tcp))
            }),
            accept(&is_over, &streams, move || {
                let (tcp, _) = exit.accept()?;
                Ok((UnixStream::connect(&far)?, tcp))
            }),
        ];
        Relay { near, is_over, streams, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for stream in self.streams.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = fs::remove_file(&self.near);
    }
}

/// Joins each pair that `next` gives, until the relay is over.
fn accept(
    is_over: &Arc<AtomicBool>,
    streams: &Arc<Mutex<Vec<TcpStream>>>,
    next: impl Fn() -> io::Result<(UnixStream, TcpStream)> + Send + 'static,
) -> JoinHandle<()> {
    let (is_over, streams) = (Arc::clone(is_over), Arc::clone(streams));
    thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            let Ok((unix, tcp)) = next() else {
                thread::sleep(LOOK_INTERVAL);
                continue;
            };
            unix.set_nonblocking(false).unwrap();
            tcp.set_nonblocking(false).unwrap();
            tcp.set_nodelay(true).unwrap();
            streams.lock().unwrap().push(tcp.try_clone().unwrap());
            let (unix_out, tcp_out) = (unix.try_clone().unwrap(), tcp.try_clone().unwrap());
            thread::spawn(move || {
                carry(&unix, &tcp_out);
                let _ = tcp_out.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                carry(&tcp, &unix_out);
                let _ = unix_out.shutdown(Shutdown::Write);
            });
        }
    })
}

/// Everything, to either side's end.
fn carry<R, W>(mut from: &R, mut to: &W)
where
    for<'r> &'r R: Read,
    for<'w> &'w W: Write,
{
    // A channel that breaks ends; its ends see that.
    let _ = io::copy(&mut from, &mut to);
}
