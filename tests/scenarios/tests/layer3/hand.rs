//! A proxy's hand: a thread on its host that calls `network` as the proxy would, with a `/run` of its
//! own, so that what it makes there is gone with the test however that ends.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use lab::host::Host;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::own_mounts;

type Work = Box<dyn FnOnce() + Send>;

/// The thread; it ends with the value.
pub(crate) struct Hand {
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    pub(crate) fn on(host: &Host) -> Hand {
        let (work, asked) = sync_channel::<Work>(1);
        let netns = File::open(host.netns_path()).unwrap();
        let thread = thread::spawn(move || {
            own_mounts::leave().unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount("hand", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(netns.as_fd(), network).unwrap();
            for work in asked {
                work();
            }
        });
        Hand { work: Some(work), thread: Some(thread) }
    }

    /// Does this there, and waits for it.
    pub(crate) fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = sync_channel(1);
        let work = move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let _ = answer.send(done);
        };
        self.work.as_ref().unwrap().send(Box::new(work)).unwrap();
        answered.recv().unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.work = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
