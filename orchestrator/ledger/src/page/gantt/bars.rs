//! What is drawn in the timeline's rows: a stretch of time, and bars on it.

use super::super::html::Html;
use super::super::scale::{Scale, ticks, time_label, time_steps};
use crate::report::{Pause, Report};

/// The width that bars are drawn in; each drawing is then stretched to its column.
const WIDTH: f64 = 1_000.0;

/// Bars are never thinner, so that what took no time is seen.
const BAR_WIDTH_MIN: f64 = 4.0;

/// Of the pause's length, how much is shown before and after it.
const MARGIN_DIVISOR: u64 = 4;

/// The steps that last as long as connections do, and not as long as the move.
const TAIL: [&str; 2] = ["drain", "reclaim"];

/// A stretch of time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// The moment from which its axis counts.
    zero_ms: u64,
}

impl Span {
    /// All of the move, but for the tail.
    pub(super) fn whole(report: &Report) -> Span {
        let from_ms = report.started_at_ms;
        let ends = report.steps.iter().map(|run| {
            if TAIL.contains(&run.step.as_str()) {
                run.started_at_ms
            } else {
                run.ended_at_ms.unwrap_or(report.made_at_ms)
            }
        });
        let to_ms = ends.chain(report.pause.map(|pause| pause.running_at_ms)).max();
        let to_ms = to_ms.unwrap_or(from_ms).max(from_ms);
        let margin = to_ms.saturating_sub(from_ms) / 40 + 1;
        Span { from_ms, to_ms: to_ms.saturating_add(margin), zero_ms: from_ms }
    }

    /// The pause, and a little before and after it.
    pub(super) fn pause(report: &Report, pause: Pause) -> Span {
        let lasted_ms = pause.lasted_ms();
        let margin = lasted_ms.max(4) / MARGIN_DIVISOR;
        // A hold that began long before belongs to another attempt.
        let long_before = pause.stopped_at_ms.saturating_sub(lasted_ms.max(100));
        let began = report.hold.as_ref().map(|hold| hold.began_at_ms);
        let began = began.filter(|at| *at >= long_before).unwrap_or(pause.stopped_at_ms);
        Span {
            from_ms: began.min(pause.stopped_at_ms).saturating_sub(margin / 2),
            to_ms: pause.running_at_ms.max(pause.stopped_at_ms).saturating_add(margin),
            zero_ms: pause.stopped_at_ms,
        }
    }

    pub(super) fn lasts_ms(self) -> f64 {
        self.to_ms.saturating_sub(self.from_ms).max(1) as f64
    }

    /// Where a moment is drawn.
    fn at(self, ms: u64) -> f64 {
        let high = self.lasts_ms();
        Scale { low: 0.0, high, from: 0.0, to: WIDTH }.at(ms as f64 - self.from_ms as f64)
    }

    /// The times that its axis names: the value, and where it is drawn.
    fn ticks(self) -> impl Iterator<Item = (f64, f64)> {
        let low = self.from_ms as f64 - self.zero_ms as f64;
        let scale = Scale { low, high: low + self.lasts_ms(), from: 0.0, to: WIDTH };
        ticks(scale.low, scale.high, time_steps()).into_iter().map(move |at| (at, scale.at(at)))
    }
}

/// The names of the times above the bars.
pub(super) fn axis(html: &mut Html, span: Span, what: &'static str) {
    html.element("div").class("axis").with(|html| {
        html.element("span").class("sr").text(what);
        for (value, at) in span.ticks() {
            let percent = at / WIDTH * 100.0;
            let side = match percent {
                ..4.0 => "first",
                92.0.. => "last",
                _ => "mid",
            };
            html.element("span")
                .attr("class", side)
                .attr("style", format_args!("left:{percent:.2}%"))
                .text(time_label(value, span.lasts_ms()));
        }
    });
}

/// A bar from one moment to another.
pub(super) fn bar(
    html: &mut Html,
    report: &Report,
    span: Span,
    (from_ms, to_ms): (u64, u64),
    style: &'static str,
) {
    drawing(html, |html| {
        grid(html, report, span);
        let from = span.at(from_ms).min(WIDTH - BAR_WIDTH_MIN);
        let width = (span.at(to_ms) - from).max(BAR_WIDTH_MIN);
        rect(html, style, (from, width), (4, 12));
        if to_ms > span.to_ms {
            // It goes on beyond the picture.
            html.element("path").class("beyond").attr("d", "M984 6l12 4-12 4z").empty();
        }
    });
}

/// A mark at a moment.
pub(super) fn mark(html: &mut Html, report: &Report, span: Span, at_ms: u64) {
    drawing(html, |html| {
        grid(html, report, span);
        let path = format!("M{:.1} 3l6 7-6 7-6-7z", span.at(at_ms));
        html.element("path").class("mark").attr("d", path).empty();
    });
}

/// From the pause in the whole to the pause magnified.
pub(super) fn fan(html: &mut Html, whole: Span, pause: Span) {
    let from = whole.at(pause.from_ms);
    let to = whole.at(pause.to_ms).max(from + 2.0);
    html.element("svg")
        .attr("viewBox", "0 0 1000 40")
        .attr("preserveAspectRatio", "none")
        .attr("aria-hidden", "true")
        .with(|html| {
            let path = format!("M{from:.1} 0L{to:.1} 0L1000 40L0 40z");
            html.element("path").attr("d", path).empty();
        });
}

fn drawing(html: &mut Html, inside: impl FnOnce(&mut Html)) {
    html.element("svg")
        .attr("viewBox", "0 0 1000 20")
        .attr("preserveAspectRatio", "none")
        .attr("aria-hidden", "true")
        .with(inside);
}

/// Where the VM stood still, and a line at each named time.
fn grid(html: &mut Html, report: &Report, span: Span) {
    if let Some(pause) = report.pause {
        let (from, to) = (span.at(pause.stopped_at_ms), span.at(pause.running_at_ms));
        rect(html, "paused", (from, (to - from).max(1.5)), (0, 20));
    }
    for (_, at) in span.ticks() {
        html.element("path").class("grid").attr("d", format_args!("M{at:.1} 0V20")).empty();
    }
}

fn rect(html: &mut Html, style: &'static str, (x, width): (f64, f64), (y, height): (u8, u8)) {
    html.element("rect")
        .class(style)
        .attr("x", format_args!("{x:.1}"))
        .attr("y", y)
        .attr("width", format_args!("{width:.1}"))
        .attr("height", height)
        .empty();
}
