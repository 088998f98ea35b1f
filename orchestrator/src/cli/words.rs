//! What came back, in lines for people.

use std::fmt::Write;

use orchestrator_api::operator::{
    MoveList, MoveState, MoveView, StepDoes, StepView, VmPlaces, VmStarted,
};
use orchestrator_api::{Doing, MoveProgress, NetworkLevel, Plan, PlannedName, Weight};

use super::followed;

/// Every VM.
pub(super) fn vms(places: &VmPlaces) -> String {
    let mut told = String::new();
    for vm in &places.vms {
        let at = vm.runs_at.as_ref().map_or("nowhere".to_owned(), ToString::to_string);
        let mover = vm.mover.as_ref().map(|id| format!(", moved by {id}")).unwrap_or_default();
        line(&mut told, &format!("{}  runs at {at}  epoch {}{mover}", vm.vm, vm.epoch));
    }
    if places.vms.is_empty() {
        line(&mut told, "no VMs are known");
    }
    for unasked in &places.unasked {
        line(&mut told, &format!("not asked: agent {}: {}", unasked.at, unasked.why));
    }
    told
}

/// A VM that was started.
pub(super) fn started(started: &VmStarted) -> String {
    let mut told = format!("{} runs at {}\n", started.vm, started.at);
    for unasked in &started.vouched_for {
        line(&mut told, &format!("you vouched for agent {}: {}", unasked.at, unasked.why));
    }
    told
}

/// A plan, the verdict first.
pub(super) fn plan(plan: &Plan) -> String {
    let verdict = if plan.is_go() { "GO" } else { "NO-GO" };
    let mut told = format!("{verdict}: {} from {} to {}\n", plan.vm, plan.from, plan.to);
    for finding in &plan.findings {
        let weight = match finding.weight {
            Weight::Forbids => "forbids",
            Weight::Warns => "warning",
        };
        line(&mut told, &format!("  {weight}: {finding}"));
    }
    for network in &plan.networks {
        let level = match network.level {
            NetworkLevel::Port => "port: packets can be held, nothing is lost",
            NetworkLevel::Plain => "plain: established connections to the VM itself break",
        };
        line(&mut told, &format!("  network {}: {level}", network.network));
    }
    for PlannedName { name, site, follows } in &plan.names {
        let change = match follows {
            true => format!("from site {site} to {}", plan.to.site),
            false => format!("stays at site {site}"),
        };
        line(&mut told, &format!("  name {name}: {change}"));
    }
    if let Some(estimate) = &plan.estimate {
        let (total, pause) = (duration(estimate.total_ms), duration(estimate.pause_ms));
        line(&mut told, &format!("  estimate (not a promise): {total} in all, pause {pause}"));
        for assumed in &estimate.assumed {
            line(&mut told, &format!("    assumed: {assumed}"));
        }
    }
    told
}

/// All moves, a line each.
pub(super) fn moves(list: &MoveList) -> String {
    let mut told = String::new();
    for view in &list.moves {
        line(&mut told, &summary(view));
    }
    if list.moves.is_empty() {
        line(&mut told, "no moves yet");
    }
    told
}

/// One move, whole.
pub(super) fn one_move(view: &MoveView) -> String {
    let mut told = format!("{}\n", summary(view));
    for earlier in &view.earlier {
        line(&mut told, &format!("  attempt {}: {}", earlier.attempt, earlier.why));
    }
    for step in &view.steps {
        line(&mut told, &format!("  {}", self::step(step)));
    }
    if let Some(progress) = &view.progress {
        line(&mut told, &format!("  {}", self::progress(progress)));
    }
    for followed in followed::lines(view) {
        line(&mut told, &format!("  {followed}"));
    }
    for note in &view.told {
        line(&mut told, &format!("  {note}"));
    }
    if let Some(gate) = &view.waits_at_gate {
        line(&mut told, &format!("  waits at the closed gate {gate}"));
    }
    told
}

/// A move in a line.
pub(super) fn summary(view: &MoveView) -> String {
    let state = match &view.state {
        MoveState::UnderWay if view.is_past_pivot => "under way, past the pivot".to_owned(),
        MoveState::UnderWay => "under way".to_owned(),
        MoveState::TurningBack { why } => format!("turning back ({why})"),
        MoveState::Waiting { why } => format!("waiting ({why})"),
        MoveState::Completed => "completed".to_owned(),
        MoveState::Undone { why } => format!("undone ({why})"),
        MoveState::Stuck { why } => format!("stuck ({why})"),
    };
    let took = view.ended_at_unix_ms.map(|end| end.saturating_sub(view.began_at_unix_ms));
    let took = took.map(|ms| format!(" in {}", duration(ms))).unwrap_or_default();
    format!("{}  {} -> {}  {state}{took}", view.id, view.from, view.to)
}

/// A step in a line.
pub(super) fn step(step: &StepView) -> String {
    let does = match step.does {
        StepDoes::UnderWay => "under way",
        StepDoes::Done => "done",
        StepDoes::Refused => "refused",
        StepDoes::Undoing => "being undone",
        StepDoes::Undone => "undone",
    };
    let took = step.ended_at_unix_ms.map(|end| end.saturating_sub(step.began_at_unix_ms));
    let took = took.map(|ms| format!(" in {}", duration(ms))).unwrap_or_default();
    let tries = if step.tries > 1 { format!(", try {}", step.tries) } else { String::new() };
    let trouble = step.trouble.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{:<10} {does}{took}{tries}{trouble}", step.step)
}

/// How far a copy is, in a line.
pub(super) fn progress(progress: &MoveProgress) -> String {
    let MoveProgress { disk_bytes, disk_done_bytes, memory_done_bytes, .. } = progress;
    let what = match progress.doing {
        Doing::Mirroring => {
            format!("disk {} of {}", megabytes(*disk_done_bytes), megabytes(*disk_bytes))
        }
        Doing::Copying | Doing::Ready | Doing::Finishing => format!(
            "memory {} sent, {} left",
            megabytes(*memory_done_bytes),
            megabytes(progress.memory_remaining_bytes)
        ),
        Doing::Completed => "all of it is at the target".to_owned(),
        Doing::AtGate => "waits at a closed gate".to_owned(),
        Doing::Anew => "begins anew".to_owned(),
    };
    let rate = progress.bytes_per_s.map(|rate| format!(", {}/s", megabytes(rate)));
    let left = progress.left_ms.map(|ms| format!(", about {} left", duration(ms)));
    format!("{what}{}{}", rate.unwrap_or_default(), left.unwrap_or_default())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// A span of time, as exact as it is of use.
pub(super) fn duration(ms: u64) -> String {
    let (s, min) = (ms / 1_000, ms / 60_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{s}.{} s", ms / 100 % 10),
        60_000..3_600_000 => format!("{min} min {} s", s % 60),
        _ => format!("{} h {} min", min / 60, min % 60),
    }
}

fn line(told: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(told, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_time_is_told_as_people_tell_it() {
        for (ms, told) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 0 s"),
            (3_599_999, "59 min 59 s"),
            (3_600_000, "1 h 0 min"),
            (86_400_000, "24 h 0 min"),
        ] {
            assert_eq!(duration(ms), told);
        }
    }
}
