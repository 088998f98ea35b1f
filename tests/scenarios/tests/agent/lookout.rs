//! Watchers at every QEMU that ever is, at any site: each is watched from its first moment on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::vm::{Watched, Watcher, ran_twice};
use lab::world::World;

use crate::crew::SOCKETS;

/// Between two looks for new QEMUs. A target waits for much longer before anything comes to it.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// All watchers of a test.
pub(crate) struct Lookout {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Watcher>>,
}

impl Lookout {
    pub(crate) fn begin(world: &World) -> Lookout {
        let folders: Vec<(String, PathBuf)> = world
            .sites()
            .iter()
            .map(|site| (site.name().to_owned(), site.place().path(Path::new(SOCKETS))))
            .collect();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let (mut known, mut watchers) = (BTreeSet::new(), Vec::new());
            while !is_done.load(Ordering::Relaxed) {
                for (site, folder) in &folders {
                    watchers.extend(new_ones(site, folder, &mut known));
                }
                thread::sleep(LOOK_INTERVAL);
            }
            watchers
        });
        Lookout { done, thread }
    }

    /// Ends, prints who ran when, and fails if a VM ever ran twice.
    pub(crate) fn end(self) -> Vec<Watched> {
        self.done.store(true, Ordering::Relaxed);
        let watchers = self.thread.join().unwrap();
        let watched: Vec<Watched> = watchers.iter().map(Watcher::so_far).collect();
        watched.iter().for_each(|watched| println!("{watched}"));
        assert_eq!(ran_twice(&watched), None);
        assert!(watched.iter().all(|watched| watched.resets == 0));
        watched
    }
}

fn new_ones(site: &str, folder: &Path, known: &mut BTreeSet<PathBuf>) -> Vec<Watcher> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = entries.map(|entry| entry.path());
    let fresh: Vec<PathBuf> = sockets
        .filter(|path| path.extension().is_some_and(|extension| extension == "watch"))
        .filter(|path| known.insert(path.clone()))
        .collect();
    let watch = |path: &PathBuf| {
        let name = path.file_stem()?.to_str()?;
        // One that is gone again already had nothing to run.
        Watcher::start(format!("{name} at {site}"), path).ok()
    };
    fresh.iter().filter_map(watch).collect()
}
