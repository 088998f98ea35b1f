//! Sockets with what std and mio do not offer: a long backlog, a chosen source address, an end by RST.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UdpSocket};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that may wait to be accepted: a thousand clients that start together all fit.
const BACKLOG: i32 = 4096;

/// Asked for as a UDP socket's receive buffer: a pause of the VM fills it, a smaller one would lose
/// datagrams at the guest and blame the network.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listener with a backlog of [`BACKLOG`]. An IPv6 one leaves IPv4 alone.
///
/// # Errors
/// What the system says.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = rustix::net::socket_with(family(address.ip()), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from_std(StdListener::from(socket)))
}

/// A UDP socket bound to `address`, with a large receive buffer where we may have one.
///
/// # Errors
/// What the system says.
pub(crate) fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = rustix::net::socket_with(family(address.ip()), SocketType::DGRAM, FLAGS, None)?;
    bind(&socket, address)?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, DATAGRAM_BUFFER_BYTES).is_err() {
        // Without the privilege the system's own limit has to do.
        sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BUFFER_BYTES)?;
    }
    Ok(UdpSocket::from_std(socket.into()))
}

/// Begins a connection to `target`, from `source` if one is given.
///
/// # Errors
/// What the system says at once; the rest shows when the socket becomes writable.
pub(crate) fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = rustix::net::socket_with(family(target.ip()), SocketType::STREAM, FLAGS, None)?;
    if let Some(source) = source {
        bind(&socket, SocketAddr::new(source, 0))?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(StdStream::from(socket))),
        Err(error) => Err(error.into()),
    }
}

/// Makes the coming close of `socket` a RST; what was not sent is discarded.
pub(crate) fn reset_on_close(socket: &impl AsFd) {
    // A socket that refuses is one that is reset already.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Any address of `family_of`'s kind, any port.
#[must_use]
pub(crate) fn any_address(family_of: IpAddr) -> SocketAddr {
    match family_of {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    }
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(socket, true)?;
    }
    rustix::net::bind(socket, &address)?;
    Ok(())
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}
