//! Network namespaces for one test. None has a name: each lives with a process of its own, which
//! ends with its input, so that a test that is killed leaves nothing on the machine.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, gone when dropped.
pub(crate) struct Namespace {
    keeper: Child,
}

impl Namespace {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let keeper = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("util-linux is needed")?;
        let mut namespace = Self { keeper };
        namespace.wait_until_made().context("no network namespace (as root?)")?;
        Ok(namespace)
    }

    /// What comes back has been through `cat`, which stands in the namespace already.
    fn wait_until_made(&mut self) -> anyhow::Result<()> {
        let (stdin, stdout) = (self.keeper.stdin.as_mut(), self.keeper.stdout.as_mut());
        stdin.context("stdin is piped")?.write_all(b"x")?;
        Ok(stdout.context("stdout is piped")?.read_exact(&mut [0])?)
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.keeper.id()))
    }

    /// Runs `ip` in the namespace.
    pub(crate) fn ip(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("ip");
        command.args(words);
        let output = self.enter(move || command.output()).context("iproute2 is needed")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {} (as root?): {said}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs something on a thread in the namespace.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(self.path()).expect("the namespace was made");
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            work()
        })
    }

    /// Runs something in the namespace, and waits for it. Sockets that it gives back stay there.
    pub(crate) fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
