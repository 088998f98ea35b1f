//! What a room is told: on whose authority and with which key it acts, and whether it should stop.

use std::sync::Arc;

use serde::Serialize;

use crate::control::Control;
use crate::names::{Authority, Key};
use crate::surroundings::{Notice, Watcher};

/// Handed to every method of a room.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) key: Key,
    pub(crate) authority: Authority,
    /// None where an abort is not, or no longer, the step's business.
    pub(crate) abort: Option<Control>,
    pub(crate) watcher: Arc<dyn Watcher>,
}

impl Context {
    /// The key of this command. Every repetition carries the same.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The authority of this runner. After a resumption another one, with a higher fence: so a
    /// command takes it from here, never from the outcome of an earlier step.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether somebody asked to abort. A performing step ends soon then, with whatever it has:
    /// an outcome, or trouble. It is undone either way. Always false in an undo, and after the pivot.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.abort.as_ref().is_some_and(Control::is_wanted)
    }

    /// Resolves when somebody asks to abort; for a `select!` beside the work.
    pub async fn aborted(&self) {
        match &self.abort {
            Some(control) => control.wanted().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the watcher how far the step is. Not journalled: call it as often as it is useful.
    pub fn progress(&self, note: &impl Serialize) {
        // A note that is no JSON is the step's mistake, and nothing that should stop it.
        let note = serde_json::to_value(note).unwrap_or_default();
        self.watcher.notice(&Notice::Progress { key: &self.key, note });
    }
}
