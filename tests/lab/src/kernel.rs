//! What the lab needs of the kernel and no safe wrapper offers: new namespaces for the next child,
//! taps, and frames with the time at which the kernel saw them. The only file here with `unsafe`.
#![allow(
    unsafe_code,
    reason = "unshare, TUNSETIFF, a packet filter and time stamps have no safe wrapper"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread new namespaces, and its next child a new process tree. For threads
/// that do nothing else and end after they have started that child.
pub(crate) fn leave_all_namespaces() -> io::Result<()> {
    let all = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    // SAFETY: the hazard is CLONE_FILES, whose descriptors other threads would not see; it is not
    // asked for.
    unsafe { unshare_unsafe(all) }.map_err(Into::into)
}

/// Closes whatever descriptors this process got from who started it, but for the standard streams.
/// For the first lines of a program, before it has opened anything itself.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: no descriptor above the standard streams is owned by anything yet, so none is closed
    // under an owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const TUNSETIFF: Opcode = opcode::write::<libc::c_int>(b'T', 202);

/// Makes a tap of whole frames of a freshly opened `/dev/net/tun`. It is gone with that file.
pub(crate) fn make_tap(tun: impl AsFd, name: &str) -> io::Result<()> {
    // SAFETY: ifreq is plain data, valid when zero.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // The last byte stays zero.
    let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    for (place, byte) in places.zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = flags.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: TUNSETIFF reads and writes one `ifreq` and keeps no pointer to it.
    unsafe { ioctl(tun, Updater::<TUNSETIFF, libc::ifreq>::new(&mut request)) }?;
    Ok(())
}

/// A frame as the kernel noted it.
pub(crate) struct Frame {
    /// The interface that it passed.
    pub(crate) interface_index: u32,
    /// Sent by this host, not received.
    pub(crate) is_outgoing: bool,
    /// Wall-clock time since 1970.
    pub(crate) at: Duration,
}

/// A socket that sees every frame of the calling thread's network namespace whose source is `mac`.
pub(crate) fn frames_from(mac: [u8; 6]) -> io::Result<OwnedFd> {
    // Protocol 0: nothing is received before the filter stands.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32)?;
    let mut filter = source_filter(mac);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the filter has six instructions"),
        filter: filter.as_mut_ptr(),
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    bind_to_all(&socket)?;
    Ok(socket)
}

/// The next frame of a socket from [`frames_from`]; `None` when there is none now.
pub(crate) fn next_frame(socket: BorrowedFd<'_>) -> io::Result<Option<Frame>> {
    let mut address = MaybeUninit::<libc::sockaddr_ll>::zeroed();
    let mut control = [0_u64; 16];
    let mut byte = [0_u8; 1];
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: msghdr is plain data, valid when zero.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = length_of::<libc::sockaddr_ll>();
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer of `message` is to a local that outlives the call, with its length.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if received < 0 {
        let cause = io::Error::last_os_error();
        return match cause.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(cause),
        };
    }
    // SAFETY: zeroed before the call, and valid whatever the kernel wrote: plain integers.
    let address = unsafe { address.assume_init() };
    let at =
        time_stamp(&message).ok_or_else(|| io::Error::other("a frame without a time stamp"))?;
    Ok(Some(Frame {
        interface_index: u32::try_from(address.sll_ifindex).unwrap_or_default(),
        is_outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        at,
    }))
}

/// Frames that the kernel saw for this socket since the last call and had no room for.
pub(crate) fn frames_missed(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut counts = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = length_of::<libc::tpacket_stats>();
    // SAFETY: `counts` is as long as `length` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut counts).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(counts.tp_drops)
}

/// Frames whose bytes 6 to 11 are `mac` pass with one byte, all others not at all.
fn source_filter(mac: [u8; 6]) -> [libc::sock_filter; 6] {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let [a, b, c, d, e, f] = mac;
    [
        instruction(LOAD_WORD, 0, 0, 6),
        instruction(JUMP_EQUAL, 0, 3, u32::from_be_bytes([a, b, c, d])),
        instruction(LOAD_HALF, 0, 0, 10),
        instruction(JUMP_EQUAL, 0, 1, u32::from(u16::from_be_bytes([e, f]))),
        instruction(RETURN, 0, 0, 1),
        instruction(RETURN, 0, 0, 0),
    ]
}

fn bind_to_all(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data, valid when zero; interface 0 means all.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("AF_PACKET is 17");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("ETH_P_ALL is 3").to_be();
    // SAFETY: the address is as long as the length says.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value is as long as the length says, and its inner pointer, where it has one,
    // outlives the call in the caller's frame.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn time_stamp(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the kernel filled the control buffer and its length; the macros walk within them.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, and inside the control buffer, which is aligned for it.
        let here = unsafe { &*header };
        if here.cmsg_level == libc::SOL_SOCKET && here.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: this type's data is a timespec; read unaligned, as the macro promises nothing.
            let time =
                unsafe { ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::timespec>()) };
            let seconds = u64::try_from(time.tv_sec).ok()?;
            return Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?));
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("these types are a few bytes long")
}
