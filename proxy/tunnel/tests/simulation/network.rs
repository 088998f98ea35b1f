//! Connections between sites: in order each, at speeds of their own, and at the mercy of the link.

use std::collections::VecDeque;

use tunnel::protocol::session::ConnId;
use tunnel::protocol::wire::Lane;

/// Bytes that one direction holds before its writer must wait.
pub(crate) const IN_FLIGHT_MAX: usize = 96 * 1024;

/// One TCP connection. Side 0 dialled it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) sites: [usize; 2],
    pub(crate) lane: Lane,
    /// What each side's session calls it, once it does.
    pub(crate) conns: [Option<ConnId>; 2],
    /// Bytes on their way to each side.
    pub(crate) in_flight: [VecDeque<u8>; 2],
    /// What each side has received and not yet understood.
    pub(crate) inbox: [bytes::BytesMut; 2],
    /// A delivery to this side is scheduled.
    pub(crate) scheduled: [bool; 2],
    /// Each side has closed, or has been told that it broke.
    pub(crate) closed: [bool; 2],
    /// It passes nothing any more, which neither side may know yet.
    pub(crate) torn: bool,
    /// The writer towards this side has found it full.
    pub(crate) blocked: [bool; 2],
}

impl Wire {
    pub(crate) fn new(caller: usize, called: usize, lane: Lane) -> Wire {
        Wire {
            sites: [caller, called],
            lane,
            conns: [None, None],
            in_flight: Default::default(),
            inbox: Default::default(),
            scheduled: [false; 2],
            closed: [false; 2],
            torn: false,
            blocked: [false; 2],
        }
    }

    pub(crate) fn side_of(&self, site: usize) -> usize {
        usize::from(self.sites[1] == site)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.closed[0] && self.closed[1]
    }
}
