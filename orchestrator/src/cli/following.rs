//! Watching a move until it has ended: a line for whatever is new. Ctrl-C ends the watching alone.

use std::io::{self, Write};
use std::mem::take;

use orchestrator_api::operator::{MoveId, MoveState, MoveView};
use tokio::signal::ctrl_c;

use super::followed;
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
    notes: Vec<String>,
    followed: Vec<String>,
    gate: Option<String>,
    progress: Option<String>,
}

impl Told {
    fn news(&mut self, view: &MoveView) -> String {
        let mut lines = String::new();
        if view.attempt != self.attempt {
            *self = Told { attempt: view.attempt, notes: take(&mut self.notes), ..Told::default() };
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
        for note in newer(&self.notes, &view.told) {
            lines += &format!("  {note}\n");
        }
        self.notes.clone_from(&view.told);
        let followed = followed::lines(view);
        for line in followed.iter().filter(|line| !self.followed.contains(line)) {
            lines += &format!("  {line}\n");
        }
        self.followed = followed;
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

/// What of `now` was not known: a view keeps the last notes alone, so that the first known ones may
/// be gone from it.
fn newer<'n>(known: &[String], now: &'n [String]) -> &'n [String] {
    let shared = (0..=now.len()).rev().filter_map(|length| now.split_at_checked(length));
    let mut rest = shared.filter(|(old, _)| known.ends_with(old)).map(|(_, new)| new);
    rest.next().unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_is_told_once_also_when_the_first_ones_are_kept_no_more() {
        let notes = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (known, now, new) in [
            ("", "a b", "a b"),
            ("a b", "a b", ""),
            ("a b", "a b c", "c"),
            ("a b c", "b c d", "d"),
            ("a b", "c d", "c d"),
        ] {
            assert_eq!(newer(&notes(known), &notes(now)), notes(new), "{known:?}, then {now:?}");
        }
    }
}
