//! What a harness and the first process of a place say to each other: one message to a packet of a
//! SOCK_SEQPACKET pair, with the three standard streams of a new process beside its request.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message: a command line with its environment. Longer ones are refused, not cut.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// A new process takes its stdin, stdout and stderr along.
pub(crate) const STREAMS: usize = 3;

/// What the harness asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a program; its streams travel beside.
    Spawn {
        id: u64,
        netns: Option<String>,
        program: String,
        args: Vec<String>,
        env: Vec<(String, String)>,
    },
    /// Signal a process started under this id, if it has not ended.
    Signal { id: u64, signal: i32 },
}

/// What the first process tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The place stands.
    Ready,
    /// The place cannot stand.
    Failed { reason: String },
    /// A program runs, under this number in the place.
    Spawned { id: u64, pid: u32 },
    /// A program was not started.
    Refused { id: u64, reason: String },
    /// A program has ended and was reaped, with this wait status.
    Ended { id: u64, status: i32 },
}

pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    streams: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "a message of {} bytes; at most {MESSAGE_BYTES_MAX} pass",
            text.len()
        )));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(STREAMS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !streams.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(streams)) {
        return Err(io::Error::other("more streams than a message carries"));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message with its streams; `None` once the other end is gone.
pub(crate) fn receive<M: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    buffer.resize(MESSAGE_BYTES_MAX, 0);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(STREAMS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut vectors = [IoSliceMut::new(buffer)];
        match recvmsg(&socket, &mut vectors, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a message longer than its bound"));
    }
    let streams = beside
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(streams) => Some(streams),
            _ => None,
        })
        .flatten()
        .collect();
    let message = serde_json::from_slice(&buffer[..received.bytes])?;
    Ok(Some((message, streams)))
}
