//! The timeline: each step a row with its bar, and the pause once more, magnified.
//!
//! It is a table, so that it reads without its picture; the bars are drawings that stretch with
//! their column.

mod bars;

use bars::Span;

use super::html::Html;
use super::units::{Since, counted, millis};
use crate::report::{Report, StepOutcome, StepRun, Way};

/// Most rows of steps that a page shows in either part; the last ones, for they decided.
pub const STEP_ROWS_MAX: usize = 120;

/// Most moments that the magnified part shows.
const MOMENT_ROWS_MAX: usize = 16;

/// What the steps are called. The ids are those of the journal; one that is not here is shown as
/// it is.
const TITLES: [(&str, &str); 24] = [
    ("check", "Check both ends"),
    ("epoch", "Register the epoch"),
    ("claim", "Claim the VM"),
    ("reserve", "Reserve the target"),
    ("channels", "Open channels"),
    ("shorten", "Shorten TTLs"),
    ("mirror", "Mirror storage"),
    ("stage", "Stage the placement"),
    ("memory", "Copy memory"),
    ("hold", "Hold packets"),
    ("release", "Stop, finish, release"),
    ("start", "Start at the target"),
    ("arrive", "Arrive at the target"),
    ("redirect", "Redirect connections"),
    ("verify", "Verify health"),
    ("health", "Verify health"),
    ("steer", "Steer names"),
    ("restore", "Restore TTLs"),
    ("forget", "Forget at the source"),
    ("arm", "Arm at the target"),
    ("give-back", "Give the claim back"),
    ("register", "Re-register"),
    ("drain", "Drain connections"),
    ("reclaim", "Reclaim the source"),
];

/// The timeline of the steps.
pub(super) fn timeline(html: &mut Html, report: &Report) {
    if report.steps.is_empty() {
        return;
    }
    html.element("section").with(|html| {
        html.element("h2").text("Timeline");
        html.element("div")
            .class("scroll")
            .attr("tabindex", "0")
            .attr("role", "region")
            .attr("aria-label", "Timeline of the steps")
            .with(|html| html.element("table").class("gantt").with(|html| table(html, report)));
    });
}

fn table(html: &mut Html, report: &Report) {
    let whole = Span::whole(report);
    html.element("caption").text(if report.pause.is_some() {
        "Each step, from the begin of the move on; below, the pause magnified."
    } else {
        "Each step, from the begin of the move on."
    });
    html.element("thead").with(|html| {
        html.element("tr").with(|html| {
            html.element("th").attr("scope", "col").text("Step");
            html.element("th")
                .attr("scope", "col")
                .class("bar")
                .with(|html| bars::axis(html, whole, "Time since the begin"));
            html.element("th").attr("scope", "col").class("n").text("Began");
            html.element("th").attr("scope", "col").class("n").text("Took");
        });
    });
    html.element("tbody").with(|html| steps(html, report, whole));
    let Some(pause) = report.pause else { return };
    let close = Span::pause(report, pause);
    html.element("tbody").class("fan").attr("aria-hidden", "true").with(|html| {
        html.element("tr").with(|html| {
            html.element("td").text("");
            html.element("td").class("bar").with(|html| bars::fan(html, whole, close));
            html.element("td").attr("colspan", "2").text("");
        });
    });
    html.element("tbody").class("close").with(|html| magnified(html, report, whole, close));
}

fn steps(html: &mut Html, report: &Report, span: Span) {
    let runs = &report.steps;
    let left_out = runs.len().saturating_sub(STEP_ROWS_MAX);
    if left_out > 0 {
        let told = format!(
            "{} before these left out here; the JSON has all.",
            counted(left_out as u64, "run")
        );
        html.element("tr").with(|html| {
            html.element("td").attr("colspan", "4").class("note").text(told);
        });
    }
    let mut attempt = runs.get(left_out).map_or(1, |run| run.attempt);
    for run in runs.iter().skip(left_out) {
        if run.attempt != attempt {
            attempt = run.attempt;
            html.element("tr").class("attempt").with(|html| {
                html.element("th")
                    .attr("scope", "rowgroup")
                    .attr("colspan", "4")
                    .text(format_args!("Attempt {attempt}"));
            });
        }
        step(html, report, span, run);
    }
}

/// The pause in rows of its own: what stood still, what waited, the steps and moments in it.
fn magnified(html: &mut Html, report: &Report, whole: Span, close: Span) {
    let Some(pause) = report.pause else { return };
    let times = (whole.lasts_ms() / close.lasts_ms()).round();
    html.element("tr").with(|html| {
        html.element("th").attr("scope", "rowgroup").with(|html| {
            html.text("The pause");
            if times > 1.0 {
                html.element("span")
                    .class("reason")
                    .text(format_args!("{times} times as wide as above"));
            }
        });
        html.element("td")
            .class("bar")
            .with(|html| bars::axis(html, close, "Time since the VM's stop"));
        html.element("td").attr("colspan", "2").text("");
    });
    let stood = (pause.stopped_at_ms, pause.running_at_ms);
    stretch(html, report, close, ("The VM stands still", "still"), stood);
    if let Some(hold) = &report.hold {
        let held = (hold.began_at_ms, hold.ended_at_ms.unwrap_or(report.made_at_ms));
        stretch(html, report, close, ("Packets wait", "held"), held);
    }
    let touches = |run: &&StepRun| {
        let ended_at_ms = run.ended_at_ms.unwrap_or(report.made_at_ms);
        run.started_at_ms <= close.to_ms && ended_at_ms >= close.from_ms
    };
    for run in report.steps.iter().filter(touches).take(STEP_ROWS_MAX) {
        step(html, report, close, run);
    }
    let shown = |at_ms: u64| (close.from_ms..=close.to_ms).contains(&at_ms);
    for moment in report.moments.iter().filter(|m| shown(m.at_ms)).take(MOMENT_ROWS_MAX) {
        html.element("tr").class("moment").with(|html| {
            html.element("th").attr("scope", "row").text(&moment.what);
            html.element("td")
                .class("bar")
                .with(|html| bars::mark(html, report, close, moment.at_ms));
            html.element("td").class("n").text(since(report, moment.at_ms));
            html.element("td").class("n").text("");
        });
    }
}

fn since(report: &Report, at_ms: u64) -> Since {
    Since { start_ms: report.started_at_ms, at_ms }
}

fn step(html: &mut Html, report: &Report, span: Span, run: &StepRun) {
    let ended_at_ms = run.ended_at_ms.unwrap_or(report.made_at_ms);
    let (style, word) = match (&run.outcome, run.way) {
        (StepOutcome::Done, Way::Forward) => ("done", None),
        (StepOutcome::Done, Way::Back) => ("back", Some("undone")),
        (StepOutcome::Failed { .. }, _) => ("failed", Some("failed")),
        (StepOutcome::Interrupted, _) => ("failed", Some("interrupted")),
        (StepOutcome::UnderWay, _) => ("open", Some("under way")),
    };
    html.element("tr").with(|html| {
        html.element("th").attr("scope", "row").with(|html| name(html, run));
        html.element("td")
            .class("bar")
            .with(|html| bars::bar(html, report, span, (run.started_at_ms, ended_at_ms), style));
        html.element("td").class("n").text(since(report, run.started_at_ms));
        html.element("td").class("n").with(|html| {
            html.text(millis(ended_at_ms.saturating_sub(run.started_at_ms)));
            if let Some(word) = word {
                html.element("span").class("word").text(word);
            }
        });
    });
}

fn name(html: &mut Html, run: &StepRun) {
    if run.way == Way::Back {
        html.text("Undo: ");
    }
    let title = TITLES.iter().find(|(id, _)| *id == run.step);
    html.text(title.map_or(run.step.as_str(), |(_, title)| title));
    if run.tries > 1 {
        html.element("span").class("word").text(format_args!("{} tries", run.tries));
    }
    if let StepOutcome::Failed { reason } = &run.outcome {
        html.element("span").class("reason").text(reason);
    } else if let Some(reason) = run.reasons.last() {
        html.element("span").class("reason").text(format_args!("tried again: {reason}"));
    }
}

fn stretch(
    html: &mut Html,
    report: &Report,
    span: Span,
    (name, style): (&'static str, &'static str),
    (from_ms, to_ms): (u64, u64),
) {
    html.element("tr").with(|html| {
        html.element("th").attr("scope", "row").text(name);
        html.element("td")
            .class("bar")
            .with(|html| bars::bar(html, report, span, (from_ms, to_ms), style));
        html.element("td").class("n").text(since(report, from_ms));
        html.element("td").class("n").text(millis(to_ms.saturating_sub(from_ms)));
    });
}
