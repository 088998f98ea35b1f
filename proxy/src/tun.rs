//! The TUN beside the leg: whole IP packets, as the kernel sends them into the tunnel.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use metrics::counter;
use rustix::io::{read, write};
use tokio::io::unix::AsyncFd;
use tunnel::driver::PacketDevice;

use crate::kernel;

/// The longest packet that IP knows.
pub const PACKET_BYTES_MAX: usize = 65_535;
/// Packets taken before other tasks have their turn.
const PACKETS_PER_TURN: u32 = 64;

/// The TUN, as the tunnel's end has it.
#[derive(Debug)]
pub struct Tun(AsyncFd<OwnedFd>);

impl Tun {
    /// Over a descriptor that does not block. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system has no event queue for it.
    pub fn over(descriptor: OwnedFd) -> io::Result<Tun> {
        kernel::watched(descriptor).map(Tun)
    }

    /// The next packet that the kernel sends here; its length. `buffer` holds [`PACKET_BYTES_MAX`].
    ///
    /// # Errors
    /// The TUN is gone.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match ready.try_io(|tun| Ok(read(tun.get_ref(), &mut *buffer)?)) {
                Ok(length) => return Poll::Ready(length),
                Err(_would_block) => {}
            }
        }
    }

    /// Takes packets for which there is no way, so that they are counted rather than lost in silence.
    ///
    /// # Errors
    /// The TUN is gone.
    pub async fn drop_all(&self) -> io::Result<()> {
        let dropped = counter!("causeway_packets_dropped_total", "cause" => "no_way");
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            for _ in 0..PACKETS_PER_TURN {
                self.receive(&mut buffer).await?;
                dropped.increment(1);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl PacketDevice for Tun {
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer)
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        write(self.0.get_ref(), packet)?;
        Ok(())
    }
}
