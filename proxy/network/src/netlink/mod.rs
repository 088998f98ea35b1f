//! As much rtnetlink as the two halves need: requests with an acknowledgement, and lists.
//!
//! A socket speaks to the kernel of the network namespace in which it was opened, whichever thread
//! uses it later. `message` is the format, the other files are one kind of object each.

mod address;
mod link;
mod message;
mod neighbour;
mod route;
mod rule;

pub(crate) use address::Address;
pub(crate) use link::Link;
pub(crate) use neighbour::{Known, Neighbour, Standing};
pub(crate) use route::{MAIN_TABLE, Route};
pub(crate) use rule::Rule;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use self::message::{Answer, Message, answers};

/// Who set a route, rule or neighbour: a number that no routing daemon is known to use. What bears
/// another is not ours, and is never changed.
pub const PROTOCOL: u8 = 202;

/// The kernel's largest piece of a list.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// Objects in one list: more than any table that a proxy or a hypervisor has.
const LISTED_MAX: usize = 1 << 20;
/// A list that changed while it was read is read again, so many times.
const READS_MAX: u32 = 8;

/// The kernel's ear for one request after the other.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: AtomicU32,
}

impl Netlink {
    /// For the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Netlink> {
        // Protocol 0 of this family is rtnetlink.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Netlink { socket, sequence: AtomicU32::new(0) })
    }

    /// Has something done.
    fn ask(&self, message: Message) -> io::Result<()> {
        let sequence = self.send(message)?;
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            for answer in answers(self.receive(&mut piece)?) {
                if let (number, Answer::Outcome(outcome)) = answer?
                    && number == sequence
                {
                    return outcome;
                }
            }
        }
    }

    /// Takes what is there; like [`Netlink::ask`], for what may be gone already.
    fn ask_gone(&self, message: Message) -> io::Result<()> {
        match self.ask(message) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    /// Everything of a kind, as `read` understands it; what it gives `None` for is passed over.
    fn list<T>(
        &self,
        request: impl Fn() -> Message,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..READS_MAX {
            if let Some(listed) = self.list_once(request(), &read)? {
                return Ok(listed);
            }
        }
        Err(io::Error::other("a list of the kernel's changed each time that it was read"))
    }

    fn list_once<T>(
        &self,
        message: Message,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Option<Vec<T>>> {
        let sequence = self.send(message)?;
        let mut piece = vec![0; PIECE_BYTES_MAX];
        let mut listed = Vec::new();
        let mut is_whole = true;
        loop {
            for answer in answers(self.receive(&mut piece)?) {
                let (number, answer) = answer?;
                if number != sequence {
                    continue;
                }
                match answer {
                    Answer::Object { body, was_interrupted } => {
                        is_whole &= !was_interrupted;
                        listed.extend(read(body));
                    }
                    Answer::End => return Ok(is_whole.then_some(listed)),
                    Answer::Outcome(outcome) => {
                        outcome?;
                        return Ok(is_whole.then_some(listed));
                    }
                }
            }
            if listed.len() > LISTED_MAX {
                return Err(io::Error::other(
                    "a list of the kernel's is longer than any should be",
                ));
            }
        }
    }

    fn send(&self, message: Message) -> io::Result<u32> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &message.done(sequence), SendFlags::empty(), &kernel)?;
        Ok(sequence)
    }

    fn receive<'p>(&self, piece: &'p mut [u8]) -> io::Result<&'p [u8]> {
        let (_, length) = recv(&self.socket, &mut *piece, RecvFlags::TRUNC)?;
        piece.get(..length).ok_or_else(message::nonsense)
    }
}

/// Whether an error says that the thing, or the interface that it was on, is not there.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::ADDRNOTAVAIL, Errno::NXIO];
    let code = error.raw_os_error();
    gone.iter().any(|errno| code == Some(errno.raw_os_error()))
}
