//! Sockets that listen: one per VIP and worker, the kernel sharing out the clients.
//!
//! All of a change are bound before any of it counts, so that a VIP that cannot be is found while
//! nothing has changed yet.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use proxy_api::Protocol;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

use crate::leg::Ground;
use crate::service::Vip;

/// Connections of a VIP that may wait to be accepted, for each worker; the system's own bound
/// (net.core.somaxconn) may be lower.
pub const BACKLOG_MAX: i32 = 4_096;

/// Datagrams that wait in a VIP's socket while its worker has others to see to.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;

/// An address of the configuration is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A VIP cannot be listened on.
    #[error(
        "{address} ({}): cannot listen there; give the host this address, and see that nothing else uses the port", protocol.as_str()
    )]
    Vip {
        /// What it speaks.
        protocol: Protocol,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Backends cannot be dialled from an address.
    #[error(
        "{address}: cannot dial from there; write an address of this host (of its leg, where [[network]] names one) as the service's source"
    )]
    Source {
        /// Where from.
        address: IpAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// For connections.
    Tcp(TcpListener),
    /// For datagrams.
    Udp(UdpSocket),
}

/// Sees whether anybody else has the VIP.
///
/// Our sockets allow others on the same address, which is how workers share it; a stranger's that
/// do so too would share it with us in silence. This one does not.
///
/// # Errors
/// Somebody has, or the host does not have the address.
pub fn probe(vip: Vip) -> Result<(), ListenError> {
    open(vip, false).map(drop).map_err(|source| failed(vip, source))
}

/// Sees whether backends can be dialled from `address`, where they are reached.
///
/// # Errors
/// Nobody has it there.
pub fn probe_source(ground: &Ground, address: IpAddr) -> Result<(), ListenError> {
    let bound = ground.open(|| UdpSocket::bind((address, 0)));
    bound.map(drop).map_err(|source| ListenError::Source { address, source })
}

/// One worker's socket.
///
/// # Errors
/// As for [`probe`], or the system has no more.
pub fn socket(vip: Vip) -> Result<Socket, ListenError> {
    let socket = open(vip, true).map_err(|source| failed(vip, source))?;
    Ok(match vip.0 {
        Protocol::Tcp => Socket::Tcp(socket.into()),
        Protocol::Udp => Socket::Udp(socket.into()),
    })
}

fn failed((protocol, address): Vip, source: io::Error) -> ListenError {
    ListenError::Vip { protocol, address, source }
}

fn open((protocol, address): Vip, is_shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket = socket_with(family, kind, flags, Some(number))?;
    if protocol == Protocol::Tcp {
        // Connections of before may still be waiting out their time.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    sockopt::set_socket_reuseport(&socket, is_shared)?;
    bind(&socket, &address)?;
    match protocol {
        Protocol::Tcp => listen(&socket, BACKLOG_MAX)?,
        Protocol::Udp => {
            // Only root may go beyond the system's limit; without, the kernel's own size has to do.
            let _ = sockopt::set_socket_recv_buffer_size_force(&socket, DATAGRAM_BUFFER_BYTES);
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_vip_and_strangers_do_not() {
        for (protocol, address) in [(Protocol::Tcp, "127.0.0.1"), (Protocol::Udp, "::1")] {
            let free = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap();
            let vip = (protocol, free);
            probe(vip).unwrap();
            let first = socket(vip).unwrap();
            let second = socket(vip).unwrap();
            let message = probe(vip).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{free} ({}): cannot", protocol.as_str())));
            drop((first, second));
            probe(vip).unwrap();
        }
    }

    #[test]
    fn an_address_that_is_not_this_hosts_is_refused() {
        let vip = (Protocol::Tcp, "192.0.2.77:80".parse().unwrap());
        let ListenError::Vip { source, .. } = probe(vip).unwrap_err() else { panic!("the VIP") };
        assert_eq!(source.kind(), io::ErrorKind::AddrNotAvailable);
        probe_source(&Ground::default(), vip.1.ip()).unwrap_err();
        probe_source(&Ground::default(), "127.0.0.1".parse().unwrap()).unwrap();
    }
}
