//! A thread leaves for a network namespace of its own.
#![allow(unsafe_code, reason = "unshare has no safe form; this file holds nothing else")]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread, and no other, a new and empty network.
pub(crate) fn leave() -> io::Result<()> {
    // SAFETY: the hazard is CLONE_FILES, whose descriptors other threads would not see; it is not
    // asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}
