//! Frames of our own making, out by one interface.
#![allow(unsafe_code, reason = "a link's address has no safe form; this file holds nothing else")]

use std::io;
use std::mem::size_of;
use std::ptr;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};

/// The kernel's `struct sockaddr_ll`, as far as sending looks at it.
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    link: i32,
    rest: [u8; 12],
}

// SAFETY: the closure is given a pointer to a whole address that lives for the call, and its length.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let length = size_of::<LinkAddress>();
        call(ptr::from_ref(self).cast(), SocketAddrLen::try_from(length).unwrap_or_default())
    }
}

/// Sends whole frames out by the interface of this number, in the calling thread's namespace.
pub(crate) fn send(link: u32, frames: &[Vec<u8>]) -> io::Result<()> {
    // Protocol 0: nothing is received.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let to = LinkAddress {
        family: AddressFamily::PACKET.as_raw(),
        protocol: 0,
        link: link.try_into().map_err(|_| io::ErrorKind::InvalidInput)?,
        rest: [0; 12],
    };
    for frame in frames {
        sendto(&socket, frame, SendFlags::empty(), &to)?;
    }
    Ok(())
}
