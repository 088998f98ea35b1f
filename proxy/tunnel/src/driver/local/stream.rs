//! A connection to a program on this host.

use std::io;
use std::os::fd::AsFd;

use bytes::BufMut;
use rustix::io::ioctl_fionread;
use rustix::net::{Shutdown, shutdown};
use socket2::SockRef;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// One end of a channel.
#[derive(Debug)]
pub(crate) enum LocalStream {
    Unix(UnixStream),
    Loopback(TcpStream),
}

impl LocalStream {
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            LocalStream::Unix(unix) => unix.readable().await,
            LocalStream::Loopback(tcp) => tcp.readable().await,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            LocalStream::Unix(unix) => unix.writable().await,
            LocalStream::Loopback(tcp) => tcp.writable().await,
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            LocalStream::Unix(unix) => unix.try_read_buf(buffer),
            LocalStream::Loopback(tcp) => tcp.try_read_buf(buffer),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            LocalStream::Unix(unix) => unix.try_write(bytes),
            LocalStream::Loopback(tcp) => tcp.try_write(bytes),
        }
    }

    /// The program will read an end; it may write on.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        match self {
            LocalStream::Unix(unix) => shutdown(unix.as_fd(), Shutdown::Write)?,
            LocalStream::Loopback(tcp) => shutdown(tcp.as_fd(), Shutdown::Write)?,
        }
        Ok(())
    }

    /// Bytes that the program has written and nobody has read.
    pub(crate) fn unread_bytes(&self) -> io::Result<u64> {
        Ok(match self {
            LocalStream::Unix(unix) => ioctl_fionread(unix)?,
            LocalStream::Loopback(tcp) => ioctl_fionread(tcp)?,
        })
    }

    /// Closes so that the program sees a broken connection where the kernel can show one, rather
    /// than an end that it would take for a whole stream.
    pub(crate) fn cut(self: &std::sync::Arc<LocalStream>) {
        match &**self {
            LocalStream::Unix(unix) => {
                let _ = shutdown(unix.as_fd(), Shutdown::Both);
            }
            LocalStream::Loopback(tcp) => {
                // The reset goes out with the last reference, which the caller is about to drop.
                let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
            }
        }
    }
}
