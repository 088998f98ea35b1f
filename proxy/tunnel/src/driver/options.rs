//! How the kernel treats a connection between sites.
//!
//! None of it is needed to work, so a kernel that refuses is told of in the log, once, and that is
//! all. What each is for stands with its constant.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use socket2::SockRef;

use crate::protocol::bounds::SILENCE_MS_MAX;
use crate::protocol::wire::Lane;

/// BBR holds a lossy long line's rate where others fall to a hundredth of it.
const CONGESTION: &str = "bbr";

/// 1 Gbit/s at 150 ms has 19 MB under way; the kernel's default stops at 4. It is a limit, not an
/// allocation.
const BULK_BUFFER_BYTES: usize = 24 * 1024 * 1024;

/// Bulk that the kernel has and has not sent: enough that the line never waits for us, little
/// enough that the next chunk's turn is decided late.
const BULK_UNSENT_BYTES: u32 = 512 * 1024;

/// The same for control, whose messages are to be ordered by us to the last.
const CONTROL_UNSENT_BYTES: u32 = 16 * 1024;

static CONGESTION_REFUSED: AtomicBool = AtomicBool::new(false);

/// Datagrams in a socket: what a release sends at once, and what comes while another task has its turn.
const DATAGRAM_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// For packets.
pub(super) fn for_datagrams(socket: impl AsFd) {
    // Only root may go beyond the system's limit.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, DATAGRAM_BUFFER_BYTES);
    let _ = sockopt::set_socket_send_buffer_size_force(&socket, DATAGRAM_BUFFER_BYTES);
}

/// Before the connection is made: the window's scale is settled in the handshake. A listener hands
/// it on to what it accepts.
pub(super) fn before_connecting(socket: impl AsFd) {
    // Only root may go beyond the system's limit; without, the kernel's own tuning is left alone.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, BULK_BUFFER_BYTES);
    if let Err(error) = sockopt::set_tcp_congestion(&socket, CONGESTION)
        && !CONGESTION_REFUSED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            %error,
            wanted = CONGESTION,
            "this kernel refuses the congestion control that lossy lines need; load its module"
        );
    }
}

/// Once it is known what the connection carries.
pub(super) fn for_lane(socket: impl AsFd, lane: Lane) {
    let unsent = match lane {
        Lane::Control => CONTROL_UNSENT_BYTES,
        Lane::Bulk(_) => {
            let _ = sockopt::set_socket_send_buffer_size_force(&socket, BULK_BUFFER_BYTES);
            BULK_UNSENT_BYTES
        }
    };
    let socket = SockRef::from(&socket);
    for (option, set) in [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(unsent)),
        (
            "TCP_USER_TIMEOUT",
            socket.set_tcp_user_timeout(Some(Duration::from_millis(SILENCE_MS_MAX))),
        ),
    ] {
        if let Err(error) = set {
            tracing::debug!(%error, option, "a socket option was refused");
        }
    }
}
