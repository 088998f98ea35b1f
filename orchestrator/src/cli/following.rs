//! Watching a move until it has ended: a line for whatever is new. Ctrl-C ends the watching alone.

use std::io::{self, Write};

use orchestrator_api::operator::{MoveId, MoveState, MoveView};
use tokio::signal::ctrl_c;

use super::line::{Line, LineError};
use super::words;

/// How the watching ended.
pub(super) enum Watched {
    /// The move has.
    Ended(Box<MoveView>),
    /// The operator went away; it goes on.
    Left,
}

/// Follows a move, telling what is new.
pub(super) async fn follow(line: &mut Line, id: &MoveId, json: bool) -> Result<Watched, LineError> {
    let mut told = Told::default();
    let mut after = None;
    loop {
        let look = line.call(async |client| client.one_move(id, after).await);
        let view = tokio::select! {
            view = look => view?,
            _ = ctrl_c() => return Ok(Watched::Left),
        };
        after = Some(view.version);
        let lines = if json { as_json(&view) } else { told.news(&view) };
        // A pipe that nobody reads is no reason to stop watching.
        let _ = io::stdout().write_all(lines.as_bytes()).and_then(|()| io::stdout().flush());
        if view.state.has_ended() || matches!(view.state, MoveState::Stuck { .. }) {
            return Ok(Watched::Ended(Box::new(view)));
        }
    }
}

fn as_json(view: &MoveView) -> String {
    serde_json::to_string(view).map(|line| line + "\n").unwrap_or_default()
}

/// What was told already.
#[derive(Default)]
struct Told {
    attempt: u32,
    steps: Vec<String>,
    notes: usize,
    gate: Option<String>,
    progress: Option<String>,
}

impl Told {
    fn news(&mut self, view: &MoveView) -> String {
        let mut lines = String::new();
        if view.attempt != self.attempt {
            *self = Told { attempt: view.attempt, notes: self.notes, ..Told::default() };
            lines += &format!("{} attempt {}\n", view.id, view.attempt);
        }
        for (index, step) in view.steps.iter().enumerate() {
            let line = words::step(step);
            match self.steps.get_mut(index) {
                Some(known) if *known == line => continue,
                Some(known) => known.clone_from(&line),
                None => self.steps.push(line.clone()),
            }
            lines += &format!("  {line}\n");
        }
        for note in view.told.iter().skip(self.notes) {
            lines += &format!("  {note}\n");
        }
        self.notes = view.told.len();
        if view.waits_at_gate != self.gate {
            self.gate.clone_from(&view.waits_at_gate);
            if let Some(gate) = &self.gate {
                lines += &format!("  waits at the closed gate {gate}\n");
            }
        }
        let progress = view.progress.as_ref().map(words::progress);
        if progress != self.progress {
            if let Some(line) = &progress {
                lines += &format!("    {line}\n");
            }
            self.progress = progress;
        }
        if view.state.has_ended() {
            lines += &format!("{}\n", words::summary(view));
        }
        lines
    }
}
