//! `/dev/net/tun` becomes a tap or a TUN by one ioctl, and outlives us by another.
#![allow(unsafe_code, reason = "these ioctls have no safe form; this file holds nothing else")]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl, opcode};

const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETPERSIST: Opcode = opcode::write::<c_int>(b'T', 203);
const IFF_TUN: i16 = 0x0001;
const IFF_TAP: i16 = 0x0002;
/// No header of four bytes before each frame.
const IFF_NO_PI: i16 = 0x1000;
const NAME_BYTES: usize = 16;

/// The kernel's `struct ifreq`, as far as this ioctl looks at it.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: i16,
    rest: [u8; 22],
}

/// A new tap and its name. `pattern` has a `%d` where the kernel puts the first free number. It is
/// gone when its last descriptor is.
pub(crate) fn open_tap(pattern: &str) -> io::Result<(OwnedFd, String)> {
    open(pattern, IFF_TAP)
}

/// The TUN of this name in the calling thread's namespace, which stays when its descriptor is
/// closed. It is made where it is not there.
pub(crate) fn open_lasting_tun(name: &str) -> io::Result<OwnedFd> {
    let (device, _) = open(name, IFF_TUN)?;
    // SAFETY: TUNSETPERSIST takes a number by value and no pointer.
    unsafe {
        ioctl(&device, IntegerSetter::<TUNSETPERSIST>::new_usize(1))?;
    }
    Ok(device)
}

fn open(pattern: &str, kind: i16) -> io::Result<(OwnedFd, String)> {
    let mut name = [0; NAME_BYTES];
    let bytes = pattern.as_bytes();
    match name.get_mut(..bytes.len()) {
        Some(place) if bytes.len() < NAME_BYTES => place.copy_from_slice(bytes),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let device: File =
        OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
    let mut request = Request { name, flags: kind | IFF_NO_PI, rest: [0; 22] };
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, 40 bytes, which `Request` is laid out as.
    unsafe {
        ioctl(&device, Updater::<TUNSETIFF, Request>::new(&mut request))?;
    }
    let given = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((device.into(), String::from_utf8_lossy(given).into_owned()))
}
