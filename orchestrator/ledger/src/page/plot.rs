//! The frame of a picture: axes with names and units, lines at round values, the pause as a band.

use super::html::{Html, Path};
use super::scale::{Scale, ticks, time_label, time_steps};
use crate::report::Report;

/// Width of a picture, in its own units.
const WIDTH: f64 = 760.0;
/// Its height.
const HEIGHT: f64 = 230.0;
/// Where the axes stand.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 748.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 190.0;
/// Room for the word beside the band.
const WORD: f64 = 48.0;

/// A picture with a time axis and an axis of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Plot {
    /// Values up to `value_max` over so many milliseconds from the move's begin on.
    pub(super) fn over_time(lasts_ms: u64, value_max: f64) -> Plot {
        Plot {
            x: Scale { low: 0.0, high: lasts_ms.max(1) as f64, from: LEFT, to: RIGHT },
            y: Scale { low: 0.0, high: value_max.max(1.0) * 1.06, from: BOTTOM, to: TOP },
        }
    }

    /// Named bins beside each other, of values up to `value_max`.
    pub(super) fn of_bins(bins: usize, value_max: f64) -> Plot {
        Plot {
            x: Scale { low: 0.0, high: bins.max(1) as f64, from: LEFT, to: RIGHT },
            y: Scale { low: 0.0, high: value_max.max(1.0) * 1.12, from: BOTTOM, to: TOP },
        }
    }

    /// The picture, with what `inside` draws in it. `told` is what it shows, in words.
    pub(super) fn draw(
        &self,
        html: &mut Html,
        (name, told): (&'static str, &str),
        inside: impl FnOnce(&mut Html),
    ) {
        html.element("div").class("scroll").with(|html| {
            html.element("svg")
                .class("plot")
                .attr("viewBox", format_args!("0 0 {WIDTH} {HEIGHT}"))
                .attr("role", "img")
                .attr("aria-label", format_args!("{name}: {told}"))
                .with(inside);
        });
    }

    /// The value axis: a line and a name at each round value.
    pub(super) fn values(
        &self,
        html: &mut Html,
        steps: impl IntoIterator<Item = f64>,
        label: impl Fn(f64) -> String,
    ) {
        // Half as many lines as the axis could have: it is low.
        let steps = steps.into_iter().filter(|step| self.y.high / step <= 5.0);
        for tick in ticks(0.0, self.y.high, steps) {
            let y = self.y.at(tick);
            let path = format!("M{LEFT} {y:.1}H{RIGHT}");
            html.element("path").class("grid").attr("d", path).empty();
            text(html, (LEFT - 8.0, y + 4.0), "end", &label(tick));
        }
    }

    /// The time axis.
    pub(super) fn times(&self, html: &mut Html) {
        for tick in ticks(0.0, self.x.high, time_steps()) {
            let x = self.x.at(tick);
            let path = format!("M{x:.1} {BOTTOM}v5");
            html.element("path").class("tick").attr("d", path).empty();
            text(html, (x, BOTTOM + 20.0), "middle", &time_label(tick, self.x.high));
        }
        self.base(html, "since the begin of the move");
    }

    /// The line below, and what the axis counts.
    pub(super) fn base(&self, html: &mut Html, name: &str) {
        let path = format!("M{LEFT} {BOTTOM}H{RIGHT}");
        html.element("path").class("tick").attr("d", path).empty();
        text(html, (RIGHT, BOTTOM + 37.0), "end", name);
    }

    /// Where the VM stood still.
    pub(super) fn paused(&self, html: &mut Html, report: &Report) {
        let Some(pause) = report.pause else { return };
        let x = |ms: u64| self.x.at(ms.saturating_sub(report.started_at_ms) as f64);
        let (from, to) = (x(pause.stopped_at_ms), x(pause.running_at_ms));
        html.element("rect")
            .class("paused")
            .attr("x", format_args!("{from:.1}"))
            .attr("y", TOP)
            .attr("width", format_args!("{:.1}", (to - from).max(2.0)))
            .attr("height", BOTTOM - TOP)
            .empty();
        let (at, anchor) = match (RIGHT - to > WORD, to - from > WORD) {
            (true, _) => (to + 5.0, "start"),
            (false, true) => (to - 5.0, "end"),
            (false, false) => (from - 5.0, "end"),
        };
        text(html, (at, TOP + 10.0), anchor, "pause");
    }

    /// A line through these points, up from the axis where there is but one; filled down to the axis
    /// where the style says so.
    pub(super) fn line(&self, html: &mut Html, style: &'static str, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let mut path = Path::default();
        if points.len() == 1 {
            path.to((self.x.at(first.0), BOTTOM));
        }
        for (x, y) in points {
            path.to((self.x.at(*x), self.y.at(*y)));
        }
        let mut area = path.clone();
        area.to((self.x.at(last.0), BOTTOM));
        area.to((self.x.at(first.0), BOTTOM));
        html.path("area", style, &area);
        html.path("line", style, &path);
    }

    /// A column over the bin of this number.
    pub(super) fn column(&self, html: &mut Html, bin: usize, value: f64) {
        let (from, to) = (self.x.at(bin as f64) + 2.0, self.x.at(bin as f64 + 1.0) - 2.0);
        let top = self.y.at(value).min(BOTTOM - 1.5);
        html.element("rect")
            .class("column")
            .attr("x", format_args!("{from:.1}"))
            .attr("y", format_args!("{top:.1}"))
            .attr("width", format_args!("{:.1}", to - from))
            .attr("height", format_args!("{:.1}", BOTTOM - top))
            .attr("rx", "2")
            .empty();
    }

    /// The name of the border before this bin.
    pub(super) fn border(&self, html: &mut Html, bin: usize, name: &str) {
        text(html, (self.x.at(bin as f64), BOTTOM + 18.0), "middle", name);
    }

    /// A word above a column.
    pub(super) fn above(&self, html: &mut Html, bin: usize, value: f64, word: &str) {
        let at = (self.x.at(bin as f64 + 0.5), self.y.at(value).min(BOTTOM - 1.5) - 5.0);
        text(html, at, "middle", word);
    }
}

fn text(html: &mut Html, (x, y): (f64, f64), anchor: &'static str, what: &str) {
    html.element("text")
        .attr("x", format_args!("{x:.1}"))
        .attr("y", format_args!("{y:.1}"))
        .attr("text-anchor", anchor)
        .text(what);
}
