//! The checked programs on both sides of the proxy.

use std::io::{BufReader, PipeReader, PipeWriter};
use std::net::{SocketAddr, TcpStream};

use guest::clients::Clients;
use guest::control::Control;
use guest::flows::Report;
use guest::log::Log;
use lab::host::Host;
use lab::sandbox::Process;

use crate::running::SOON;

/// A checked server; killed with the value.
pub struct Guest {
    pub(super) host: Host,
    /// Its addresses, IPv4 first.
    pub addresses: [SocketAddr; 2],
    pub(super) control: u16,
    pub(super) process: Process,
    pub(super) _stdout: BufReader<PipeReader>,
}

impl Guest {
    /// Its control port.
    ///
    /// # Panics
    /// It cannot be reached.
    #[must_use]
    pub fn control(&self) -> Control<TcpStream> {
        let connect = || TcpStream::connect(("127.0.0.1", self.control));
        let stream = self.host.inside(connect).expect("a host").expect("the guest serves");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        Control::over(stream)
    }

    /// All that it has seen.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn log(&self) -> Log {
        self.control().log().expect("the guest has a log")
    }

    /// Kills it.
    ///
    /// # Panics
    /// The lab has ended.
    pub fn kill(&self) {
        self.process.kill().expect("the guest can be killed");
    }
}

/// The checked clients; killed with the value.
pub struct CheckedClients {
    pub(super) clients: Clients<PipeWriter, PipeReader>,
    pub(super) _process: Process,
}

impl CheckedClients {
    /// What they can be told.
    pub fn tell(&mut self) -> &mut Clients<PipeWriter, PipeReader> {
        &mut self.clients
    }

    /// Ends all flows in order; the last report.
    ///
    /// # Panics
    /// They are gone.
    #[must_use]
    pub fn stop(self) -> Report {
        self.clients.stop(SOON).expect("the clients report")
    }
}
