//! A thread gets mounts of its own. The only file here with `unsafe`.
#![allow(unsafe_code, reason = "unshare has no safe form; this file holds nothing else")]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread, and those that it starts, mounts of their own.
pub(crate) fn leave() -> std::io::Result<()> {
    // SAFETY: the hazard is CLONE_FILES, whose descriptors other threads would not see; it is not
    // asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Into::into)
}
