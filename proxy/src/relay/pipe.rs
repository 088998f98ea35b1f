//! Pipes for bulk: the bytes of a way pass through one without ever being copied to us.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe holds: larger ones carry no more, smaller ones cost more calls.
pub(super) const PIPE_BYTES: usize = 256 * 1024;
/// Pipes of one worker, lent or not; a way that gets none goes on copying.
pub const PIPES_MAX: usize = 128;

/// One pipe, empty unless somebody filled it.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    bytes: usize,
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where the system allows less, less will do.
        let _ = fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Pipe { out, into, bytes: 0 })
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what `from` has, none being in the pipe: so "would block" is the socket's word, not
    /// the pipe's. 0 is the stream's end.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let taken = from.try_io(Interest::READABLE, || {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(from, None, &self.into, None, PIPE_BYTES, flags)?)
        })?;
        self.bytes += taken;
        Ok(taken)
    }

    /// Gives `to` what it takes of the pipe's bytes, of which there must be some.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let given = to.try_io(Interest::WRITABLE, || {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(&self.out, None, to, None, self.bytes, flags)?)
        })?;
        self.bytes -= given;
        Ok(given)
    }
}

/// A worker's pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    stock: RefCell<Stock>,
}

#[derive(Debug, Default)]
struct Stock {
    free: Vec<Pipe>,
    lent: usize,
}

impl Pipes {
    /// Lends one, if there is one or the system makes one.
    pub(super) fn lend(&self) -> Option<Pipe> {
        let mut stock = self.stock.borrow_mut();
        let pipe = match stock.free.pop() {
            Some(pipe) => pipe,
            None if stock.lent < PIPES_MAX => Pipe::new().ok()?,
            None => return None,
        };
        stock.lent += 1;
        Some(pipe)
    }

    /// Pipes that were made and are not lent.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.stock.borrow().free.len()
    }

    /// Takes one back; with bytes of a flow in it, it cannot be lent again.
    pub(super) fn take_back(&self, pipe: Pipe) {
        let mut stock = self.stock.borrow_mut();
        stock.lent -= 1;
        if pipe.bytes == 0 {
            stock.free.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_used_again() {
        let pipes = Pipes::default();
        let lent: Vec<Pipe> = std::iter::from_fn(|| pipes.lend()).collect();
        assert_eq!(lent.len(), PIPES_MAX);
        for pipe in lent {
            pipes.take_back(pipe);
        }
        let mut used = pipes.lend().unwrap();
        used.bytes = 1;
        pipes.take_back(used);
        assert_eq!(pipes.free(), PIPES_MAX - 1);
    }
}
