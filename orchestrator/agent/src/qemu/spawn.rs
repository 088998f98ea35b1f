//! A QEMU is started so that it outlives the agent: in a session of its own, as somebody who may do
//! nothing else, with the VM's taps and no other descriptor of ours.
#![allow(
    unsafe_code,
    reason = "what a child does between fork and exec; this file holds nothing else"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::setsid;

use crate::config::User;

/// Starts `program`. The numbers of `inherited` are the same in the child.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[OsString],
    user: &User,
    inherited: Vec<OwnedFd>,
    log: &File,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    // The supplementary groups are dropped with the user.
    command.uid(user.uid).gid(user.gid);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let in_child = move || {
        setsid()?;
        for descriptor in &inherited {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the child makes two kinds of system calls and touches neither
    // memory that another thread may have locked nor the allocator.
    unsafe {
        command.pre_exec(in_child);
    }
    command.spawn()
}

/// The numbers under which a child knows what it inherits.
pub(crate) fn numbers(inherited: &[OwnedFd]) -> Vec<i32> {
    inherited.iter().map(AsRawFd::as_raw_fd).collect()
}
