//! An end that somebody asks for: everything is taken away then, whatever the story is at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::World;

use crate::error::DemoError;

/// Between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Shared by the story and by who hears signals.
#[derive(Default)]
pub(crate) struct Ending {
    is_asked: AtomicBool,
    world: Mutex<Option<Arc<World>>>,
}

impl Ending {
    /// Ends every process of the world, if it stands; the story comes to its end with it.
    pub(crate) fn ask(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        if let Some(world) = self.taken() {
            end(&world);
        }
    }

    /// Whether it is asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::SeqCst)
    }

    /// An error once it is asked for.
    pub(crate) fn check(&self) -> Result<(), DemoError> {
        if self.is_asked() { Err(DemoError::Interrupted) } else { Ok(()) }
    }

    /// The world is to end when it is asked for: at once, where it was asked for meanwhile.
    pub(crate) fn takes_along(&self, world: &Arc<World>) -> Result<(), DemoError> {
        *self.lock() = Some(Arc::clone(world));
        // Asked before the world was here: whoever asked found none.
        if self.is_asked()
            && let Some(world) = self.taken()
        {
            end(&world);
        }
        self.check()
    }

    /// Waits until there is something, or an end is asked for.
    pub(crate) fn until<T>(
        &self,
        what: &'static str,
        bound: Duration,
        mut look: impl FnMut() -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        let deadline = Instant::now() + bound;
        loop {
            self.check()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(DemoError::NotInTime { what, bound, so_far: String::new() });
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn taken(&self) -> Option<Arc<World>> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<World>>> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(world: &World) {
    if let Err(error) = world.end() {
        eprintln!("{error}");
    }
}
