//! From a signal to an orderly stop, and word to the service manager of how far we are.
//!
//! SIGTERM and SIGINT ask for an orderly stop, which has a bound; a second one ends the wait at
//! once. SIGHUP asks for a reload. Nothing here ends the process: `main` returns, so that
//! destructors run.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// Longest orderly stop. Service managers send SIGKILL after 10 s or more.
pub const STOP_MS_MAX: u64 = 8_000;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// End in an orderly way.
    Stop,
    /// Read the configuration and the certificates again.
    Reload,
}

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything was finished.
    Orderly,
    /// A second signal ended the wait.
    Hurried,
    /// [`STOP_MS_MAX`] passed.
    Overdue,
}

/// The signals that a daemon listens for.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on. To be called before the daemon says that it is ready, or a signal
    /// would kill it.
    ///
    /// # Errors
    /// The system has no room for a handler.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }

    /// Waits for `finished`, at most [`STOP_MS_MAX`], or until a second signal asks to stop. A
    /// reload is of no use any more.
    pub async fn stop(&mut self, finished: impl Future<Output = ()>) -> Stopped {
        let second = async { while self.next().await != Wish::Stop {} };
        let either = async {
            tokio::select! {
                () = finished => Stopped::Orderly,
                () = second => Stopped::Hurried,
            }
        };
        timeout(Duration::from_millis(STOP_MS_MAX), either).await.unwrap_or(Stopped::Overdue)
    }
}

/// Tells systemd, or whoever set `NOTIFY_SOCKET`, how far the daemon is. A daemon that nobody
/// listens to says nothing, and one that cannot be heard goes on.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// The listener that the environment names, if any.
    ///
    /// # Errors
    /// It names one that cannot be.
    pub fn from_environment() -> io::Result<Notifier> {
        match env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Notifier::to(name.as_bytes()),
            _ => Ok(Notifier::default()),
        }
    }

    fn to(name: &[u8]) -> io::Result<Notifier> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A listener that does not read must not hold up the daemon.
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket: Some((socket, address)) })
    }

    /// Everything that was asked for is served.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload has begun; [`Notifier::ready`] ends it, whichever way it went.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }

    /// The stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, word: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(word.as_bytes(), address) {
            tracing::warn!(%error, "service manager not told; check NOTIFY_SOCKET");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_each_word_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let notifier = Notifier::to(path.as_os_str().as_bytes()).unwrap();
        let mut word = [0; 128];
        let mut heard = || {
            let length = manager.recv(&mut word).unwrap();
            String::from_utf8(word[..length].to_vec()).unwrap()
        };
        notifier.ready();
        assert_eq!(heard(), "READY=1");
        notifier.reloading();
        assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notifier.stopping();
        assert_eq!(heard(), "STOPPING=1");
    }

    #[test]
    fn a_manager_that_has_gone_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        drop(UnixDatagram::bind(&path).unwrap());
        Notifier::to(path.as_os_str().as_bytes()).unwrap().ready();
        Notifier::default().ready();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_that_never_finishes_ends_at_its_bound() {
        let mut signals = Signals::listen().unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(signals.stop(std::future::pending()).await, Stopped::Overdue);
        assert_eq!(started.elapsed(), Duration::from_millis(STOP_MS_MAX));
        assert_eq!(signals.stop(std::future::ready(())).await, Stopped::Orderly);
    }
}
