//! The kernel calls for TUN devices that have no safe wrapper. Nothing else is unsafe here.
#![allow(
    unsafe_code,
    reason = "ioctls are typed by their number alone; each is given its type here"
)]

use std::ffi::c_void;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};

const TUN_GROUP: u8 = b'T';
const TUNSETIFF: Opcode = opcode::write::<i32>(TUN_GROUP, 202);
const TUNGETIFF: Opcode = opcode::read::<u32>(TUN_GROUP, 210);
const TUNGETDEVNETNS: Opcode = opcode::none(TUN_GROUP, 227);
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCSIFTXQLEN: Opcode = 0x8943;

const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
/// Refuse to attach to a device that is there already.
const IFF_TUN_EXCL: u16 = 0x8000;

const NAME_BYTES: usize = 16;

/// The kernel's `struct ifreq`: a device's name, and a union of which the first bytes are used.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    union: [u8; 24],
}

impl InterfaceRequest {
    /// The name is cut to what the kernel takes; its closing zero stays.
    fn new(name: &str) -> Self {
        let mut request = Self { name: [0; NAME_BYTES], union: [0; 24] };
        let length = name.len().min(NAME_BYTES - 1);
        request.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        request
    }

    fn with_number(name: &str, number: i32) -> Self {
        let mut request = Self::new(name);
        request.union[..4].copy_from_slice(&number.to_ne_bytes());
        request
    }
}

/// Makes a TUN device of whole IP packets, and joins it to a freshly opened `/dev/net/tun`. It lives
/// as long as that file stays open.
pub(crate) fn make_device(tun: impl AsFd, name: &str) -> io::Result<()> {
    let mut request = InterfaceRequest::new(name);
    let flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL;
    request.union[..2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, whose layout and size `InterfaceRequest`
    // has, and keeps no pointer to it.
    unsafe { ioctl(tun, Updater::<TUNSETIFF, _>::new(&mut request)) }
}

/// The name that a TUN device has now; whoever moved it may have changed it.
pub(crate) fn device_name(tun: impl AsFd) -> io::Result<String> {
    let mut request = InterfaceRequest::new("");
    // SAFETY: TUNGETIFF writes one `struct ifreq` (the `u32` in its number is historical), whose
    // layout and size `InterfaceRequest` has, and keeps no pointer to it.
    unsafe { ioctl(tun, Updater::<TUNGETIFF, _>::new(&mut request)) }?;
    let length = request.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
    Ok(String::from_utf8_lossy(&request.name[..length]).into_owned())
}

/// The network namespace that a TUN device is in now.
pub(crate) fn device_namespace(tun: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: TUNGETDEVNETNS takes no argument and answers with a new descriptor; see `Namespace`.
    unsafe { ioctl(tun, Namespace) }
}

/// Sets how many packets a device's site may have sent before they are read.
pub(crate) fn set_queue_length(socket: impl AsFd, name: &str, packets: i32) -> io::Result<()> {
    let mut request = InterfaceRequest::with_number(name, packets);
    // SAFETY: SIOCSIFTXQLEN reads one `struct ifreq`, whose layout and size `InterfaceRequest` has.
    unsafe { ioctl(socket, Updater::<SIOCSIFTXQLEN, _>::new(&mut request)) }
}

/// Sets a device's MTU.
pub(crate) fn set_mtu(socket: impl AsFd, name: &str, mtu_bytes: u16) -> io::Result<()> {
    let mut request = InterfaceRequest::with_number(name, mtu_bytes.into());
    // SAFETY: SIOCSIFMTU reads one `struct ifreq`, whose layout and size `InterfaceRequest` has.
    unsafe { ioctl(socket, Updater::<SIOCSIFMTU, _>::new(&mut request)) }
}

/// Lets the calling thread run before all ordinary ones whenever it has something to do; threads that
/// it makes are ordinary again.
pub(crate) fn run_before_others() -> std::io::Result<()> {
    // SAFETY: an all-zero `sched_param` is valid: it is made of numbers.
    let mut lowest: libc::sched_param = unsafe { std::mem::zeroed() };
    lowest.sched_priority = 1;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call reads one `sched_param` that outlives it; 0 names the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const lowest) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error())
}

struct Namespace;

// SAFETY: the call has no argument, so that no pointer is read or written; on success it returns a
// descriptor that was opened for the caller alone.
unsafe impl Ioctl for Namespace {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        TUNGETDEVNETNS
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> io::Result<OwnedFd> {
        let descriptor: RawFd = output;
        // SAFETY: the caller states that the call succeeded, so this is the new descriptor, and
        // nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}
