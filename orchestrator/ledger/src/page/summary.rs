//! What comes first: did it work, how long did it stand still, what became of the connections; and
//! what comes last: how to read the page.

use std::fmt::Display;

use super::html::Html;
use super::units::{Bytes, Count, Micros, Utc, counted, millis};
use crate::report::{Hold, Outcome, Report};
use crate::rows::Totals;

/// The verdict on the move.
pub(super) fn headline(html: &mut Html, report: &Report) {
    let migration = &report.migration;
    let (vm, from, to) = (&migration.vm, &migration.from.site, &migration.to.site);
    let (tone, badge) = tone(report);
    html.element("p").class("kind").with(|html| {
        html.text("Report of a move");
        html.element("span").attr("class", format_args!("badge {tone}")).text(badge);
    });
    let title = match report.outcome {
        Outcome::Completed | Outcome::Draining => format!("{vm} moved from {from} to {to}"),
        Outcome::Undone { .. } => format!("{vm} stayed at {from}"),
        Outcome::UnderWay { .. } | Outcome::GaveUp { .. } | Outcome::InDoubt { .. } => {
            format!("{vm}, on its way from {from} to {to}")
        }
    };
    html.element("h1").text(title);
    html.element("p").class("lead").text(lead(report));
    html.element("p").class("meta").with(|html| {
        html.text(Utc(report.started_at_ms));
        for (name, value) in [
            ("move", migration.name.clone()),
            ("epoch", migration.epoch.to_string()),
            ("attempt", migration.attempt.to_string()),
            ("ordered by", migration.ordered_by.clone()),
        ] {
            html.text(" · ");
            html.text(name);
            html.text(" ");
            html.element("code").text(value);
        }
    });
}

/// How good the news is, as a style and as a word.
fn tone(report: &Report) -> (&'static str, &'static str) {
    let lost = report.hold.as_ref().map_or(0, Hold::dropped_in_all);
    match report.outcome {
        Outcome::Completed | Outcome::Draining if report.ledger.totals.broken > 0 => {
            ("mixed", "moved, with broken flows")
        }
        Outcome::Completed | Outcome::Draining if lost > 0 => {
            ("mixed", "moved, with dropped packets")
        }
        Outcome::Completed => ("good", "completed"),
        Outcome::Draining => ("good", "moved, draining"),
        Outcome::Undone { .. } => ("mixed", "undone"),
        Outcome::UnderWay { .. } => ("open", "under way"),
        Outcome::InDoubt { .. } => ("bad", "in doubt"),
        Outcome::GaveUp { .. } => ("bad", "stopped trying"),
    }
}

fn lead(report: &Report) -> String {
    let mut sentences = Vec::new();
    match &report.outcome {
        Outcome::Completed | Outcome::Draining => {}
        Outcome::Undone { because } => {
            sentences.push(format!("The move was undone: {because}."));
        }
        Outcome::UnderWay { step } => sentences.push(format!("The step under way is {step}.")),
        Outcome::InDoubt { because } => {
            sentences
                .push(format!("The source has let go, and the target cannot be asked: {because}."));
        }
        Outcome::GaveUp { step, because } => {
            sentences.push(format!("At the step {step} its driver stopped trying: {because}."));
        }
    }
    sentences.extend(flows_in_words(&report.ledger.totals));
    if let Some(pause) = report.pause {
        sentences.push(format!("The VM stood still for {}.", millis(pause.lasted_ms())));
    }
    if let Some(hold) = &report.hold {
        let lost = match hold.dropped_in_all() {
            0 => "none was dropped".to_owned(),
            lost => format!("{} dropped", Count(lost)),
        };
        sentences.push(format!("{} waited for it; {lost}.", counted(hold.held, "packet")));
    }
    sentences.join(" ")
}

fn flows_in_words(totals: &Totals) -> Option<String> {
    let flows = totals.flows;
    Some(match (flows, totals.broken) {
        (0, _) => return None,
        (1, 0) => {
            "The one connection alive at the cutover goes on, or was ended by a peer of its own."
                .to_owned()
        }
        (_, 0) => format!("Of {} connections alive at the cutover none broke.", Count(flows)),
        (_, 1) => format!("Of {} alive at the cutover 1 broke.", counted(flows, "connection")),
        (_, broken) => format!(
            "Of {} alive at the cutover {} broke.",
            counted(flows, "connection"),
            Count(broken)
        ),
    })
}

/// The figures that everybody asks for.
pub(super) fn figures(html: &mut Html, report: &Report) {
    let comparison = &report.comparison;
    html.element("section").attr("aria-label", "Key figures").class("tiles").with(|html| {
        if let Some(pause) = report.pause {
            let estimate =
                comparison.pause_ms.estimate.map(|ms| format!("estimated {}", millis(ms)));
            tile(html, "Stood still", millis(pause.lasted_ms()), estimate);
        }
        if let Some(ms) = comparison.total_ms.actual {
            let estimate =
                comparison.total_ms.estimate.map(|ms| format!("estimated {}", millis(ms)));
            tile(html, "Until it ran there", millis(ms), estimate);
        }
        let totals = &report.ledger.totals;
        if totals.flows > 0 {
            let of = format!("of {} alive at the cutover", counted(totals.flows, "flow"));
            tile(html, "Broken", Count(totals.broken), Some(of));
        }
        let stalls = &report.ledger.stalls;
        if stalls.flows > 0 {
            let half = format!("half had {} or less", Micros(stalls.p50_us));
            tile(html, "Longest stall", Micros(stalls.max_us), Some(half));
        }
        if let Some(hold) = &report.hold {
            let held = format!("of {} held", Count(hold.held));
            tile(html, "Packets dropped", Count(hold.dropped_in_all()), Some(held));
        }
        if let Some(bytes) = comparison.wire_bytes.actual {
            let carried = [comparison.disk_bytes.actual, comparison.memory_bytes.actual];
            let carried = carried.into_iter().flatten().fold(0, u64::saturating_add);
            let of = (carried > 0).then(|| format!("for {} of disk and memory", Bytes(carried)));
            tile(html, "On the wire", Bytes(bytes), of);
        }
    });
}

fn tile(html: &mut Html, name: &'static str, value: impl Display, more: Option<String>) {
    html.element("div").class("tile").with(|html| {
        html.element("p").class("name").text(name);
        html.element("p").class("value").with(|html| {
            // The digits are big, their units are not.
            for (at, word) in value.to_string().split(' ').enumerate() {
                if at % 2 == 0 {
                    html.text(if at > 0 { " " } else { "" });
                    html.text(word);
                } else {
                    html.element("small").text(format_args!(" {word}"));
                }
            }
        });
        html.element("p").class("more").text(more.unwrap_or_default());
    });
}

/// What became of the flows, as one bar.
pub(super) fn verdicts(html: &mut Html, report: &Report) {
    let totals = &report.ledger.totals;
    if totals.flows == 0 {
        return;
    }
    let parts = [
        ("survived", "survived", totals.survived, "bytes passed both ways after the pivot"),
        ("idle", "idle", totals.idle, "open, nothing owed"),
        ("client", "closed by client", totals.closed_by_client, "before bytes passed both ways"),
        ("server", "closed by server", totals.closed_by_server, "before bytes passed both ways"),
        ("broken", "broken", totals.broken, "all else"),
    ];
    html.element("section").with(|html| {
        html.element("h2").text("What became of the flows");
        html.element("div").class("strip").attr("aria-hidden", "true").with(|html| {
            for (style, _, count, _) in parts.iter().filter(|part| part.2 > 0) {
                html.element("span")
                    .attr("class", format_args!("seg {style}"))
                    .attr("style", format_args!("flex-grow:{count}"))
                    .text("");
            }
        });
        html.element("ul").class("legend").with(|html| {
            for (style, name, count, meaning) in parts {
                html.element("li").with(|html| {
                    html.element("span").attr("class", format_args!("seg {style}")).text("");
                    html.element("b").text(Count(count));
                    html.text(" ");
                    html.text(name);
                    html.element("span").class("meaning").text(meaning);
                });
            }
        });
        for (cause, count) in &totals.broken_by {
            html.element("p").class("broken-by").with(|html| {
                html.text("Broken: ");
                html.text(Count(*count));
                html.text(", ");
                html.text(cause.words());
                html.text(".");
            });
        }
        if totals.idle_one_way > 0 {
            let told = format!(
                "Of the idle ones {} moved bytes one way after the pivot, and were not seen to be answered.",
                Count(totals.idle_one_way)
            );
            html.element("p").class("note").text(told);
        }
    });
}

/// How to read it.
pub(super) fn footer(html: &mut Html, report: &Report) {
    html.literal(
        "<h2>How to read this</h2>
<dl>
<dt>Alive at the cutover</dt><dd>Every connection or session through a proxy that was open when the \
hold began, or began during it.</dd>
<dt>Survived</dt><dd>Payload passed both ways after the pivot, however the flow ended later.</dd>
<dt>Idle</dt><dd>Open, and nothing was owed to either end; or ended by its service's own idle \
time-out, owing nothing.</dd>
<dt>Closed by client, by server</dt><dd>Their FIN or RST ended it before bytes had passed both ways.</dd>
<dt>Broken</dt><dd>All else: lost, killed by an operator, stuck, or not accounted for. What cannot be \
shown counts as broken.</dd>
<dt>Stall</dt><dd>The longest time that bytes of a flow were owed: taken from one end and not yet \
acknowledged by the other.</dd>
<dt>Pivot</dt><dd>The moment at which the target accepted the VM, and the move could only go forward.</dd>
<dt>Estimate</dt><dd>What was predicted before anything was touched; a prediction, not a promise.</dd>
</dl>\n",
    );
    html.element("p").class("note").with(|html| {
        html.text("Times are counted from the begin of the move, by the orchestrator's clock; those of flows by the clock of their proxy. Sizes are powers of 1,000. Made ");
        html.text(Utc(report.made_at_ms));
        html.text(" from the report's JSON, which has all that this page leaves out.");
    });
}
