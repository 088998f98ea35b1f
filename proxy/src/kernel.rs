//! What is asked of the kernel about a descriptor, and no crate has a safe form for.
#![allow(unsafe_code, reason = "requests that rustix does not have, and watching by tokio")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// A TCP connection as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpState {
    /// It is over: reset, or given up.
    pub(crate) is_closed: bool,
    /// Bytes that the peer has acknowledged; the SYN and the FIN may count as one each.
    pub(crate) acknowledged: u64,
    /// How long ago the last acknowledgement came, in the kernel's ticks.
    pub(crate) last_ack_ago: Duration,
}

/// Of `struct tcp_info` as far as it has been the same since Linux 4.2.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    state: u8,
    flags: [u8; 7],
    timers: [u32; 4],
    counts: [u32; 5],
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    metrics: [u32; 11],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
}

const _: () = assert!(offset_of!(TcpInfo, last_ack_recv) == 56);
const _: () = assert!(offset_of!(TcpInfo, bytes_acked) == 120);

/// `TCP_CLOSE` of the kernel's states.
const TCP_CLOSE: u8 = 7;

/// Asks for the state of a TCP connection.
///
/// # Errors
/// It is none.
pub(crate) fn tcp_state(socket: &impl AsFd) -> io::Result<TcpState> {
    let mut info = TcpInfo {
        state: 0,
        flags: [0; 7],
        timers: [0; 4],
        counts: [0; 5],
        last_data_sent: 0,
        last_ack_sent: 0,
        last_data_recv: 0,
        last_ack_recv: 0,
        metrics: [0; 11],
        pacing_rate: 0,
        max_pacing_rate: 0,
        bytes_acked: 0,
    };
    let mut length = libc::socklen_t::try_from(size_of::<TcpInfo>()).map_err(io::Error::other)?;
    // SAFETY: `info` is valid for writes of `length` bytes, any bytes make a TcpInfo, the kernel
    // writes at most `length`, and the descriptor is open for as long as `socket` is borrowed.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpState {
        is_closed: info.state == TCP_CLOSE,
        acknowledged: info.bytes_acked,
        last_ack_ago: Duration::from_millis(info.last_ack_recv.into()),
    })
}

/// Bytes that were written to a connected TCP socket and that its peer has not acknowledged.
///
/// # Errors
/// It is none, or listens.
pub(crate) fn unacknowledged_bytes(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int to the given place, which is
    // one; the descriptor is open for as long as `socket` is borrowed.
    let status = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Lets a socket that is bound to an address alone take its port when it connects: then a port is
/// taken once per peer, not once per address.
///
/// # Errors
/// It is no such socket.
pub(crate) fn bind_without_port(socket: &impl AsFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the option takes an int, of which `yes` is one and `length` the size; the kernel only
    // reads it; the descriptor is open for as long as `socket` is borrowed. IPv6 sockets take the
    // option of the IP level as well.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            length,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the runtime watch a descriptor that does not block. Must be called within a tokio runtime.
///
/// # Errors
/// The system has no event queue for it.
pub(crate) fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is an open descriptor, and gives out the same one until it is dropped, which
    // AsyncFd does after it has ended the watch.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_was_acknowledged_is_owed_no_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let before = tcp_state(&near).unwrap();
        near.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).unwrap();
        far.write_all(&heard).unwrap();
        near.read_exact(&mut heard).unwrap();
        let after = tcp_state(&near).unwrap();
        assert_eq!(after.acknowledged - before.acknowledged, 5);
        assert_eq!(unacknowledged_bytes(&near).unwrap(), 0);
        assert!(!after.is_closed && after.last_ack_ago < Duration::from_secs(60));
    }

    #[test]
    fn a_reset_connection_is_seen_without_reading_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        // On loopback a RST has arrived once the call that sent it has returned.
        assert!(tcp_state(&near).unwrap().is_closed);
    }

    #[test]
    fn a_port_can_be_left_open_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address: std::net::SocketAddr = address.parse().unwrap();
            let socket = if address.is_ipv4() {
                tokio::net::TcpSocket::new_v4()
            } else {
                tokio::net::TcpSocket::new_v6()
            }
            .unwrap();
            bind_without_port(&socket).unwrap();
            socket.bind(address).unwrap();
            assert_eq!(socket.local_addr().unwrap().port(), 0);
        }
    }
}
