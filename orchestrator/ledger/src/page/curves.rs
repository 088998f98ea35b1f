//! Throughput and stall over time.

use super::html::Html;
use super::plot::Plot;
use super::scale::{round_steps, time_label, time_steps};
use super::units::{BitRate, Since, counted, millis};
use crate::report::{Report, Sample, StallSample};

/// Most points of one line: as many as a screen shows.
const POINTS_MAX: u64 = 240;

/// No rate is told over a shorter time, for it would show the sampling and not the link.
const RATE_MS_MIN: u64 = 50;

/// The lines, in the order in which they are drawn.
const LINES: [(&str, &str); 4] = [
    ("disk", "disk"),
    ("memory", "memory"),
    ("packets", "packets of flows"),
    ("wire", "on the wire"),
];

/// What passed between the sites.
pub(super) fn throughput(html: &mut Html, report: &Report) {
    let rates = rates(report.started_at_ms, &report.samples);
    let Some(last) = rates.iter().rposition(|rate| rate.bits_per_s.iter().any(|bits| *bits > 0.0))
    else {
        return;
    };
    // Silence after the last byte is no news.
    let rates = &rates[..rates.len().min(last + 2)];
    let peak = |line: usize| rates.iter().map(|rate| rate.bits_per_s[line]).fold(0.0, f64::max);
    let peaks = [0, 1, 2, 3].map(peak);
    let lasts_ms = rates.last().map_or(1.0, |rate| rate.after_ms);
    let plot = Plot::over_time(lasts_ms as u64, peaks.into_iter().fold(0.0, f64::max));
    let used = || LINES.iter().zip(peaks).enumerate().filter(|(_, (_, peak))| *peak > 0.0);
    let told: Vec<String> = used()
        .map(|(_, ((_, name), peak))| format!("{name} at most {}", BitRate(peak as u64)))
        .collect();
    let told = told.join(", ");
    html.element("figure").with(|html| {
        html.element("h2").text("Throughput");
        html.element("p").class("legend").attr("aria-hidden", "true").with(|html| {
            for (_, ((style, name), _)) in used() {
                html.element("span").class("of").with(|html| {
                    html.element("span").attr("class", format_args!("key {style}")).text("");
                    html.text(name);
                });
            }
        });
        plot.draw(html, ("Throughput over time", &told), |html| {
            plot.values(html, round_steps(), |bits| BitRate(bits as u64).to_string());
            plot.paused(html, report);
            plot.times(html);
            for (line, ((style, _), _)) in used() {
                let points: Vec<_> =
                    rates.iter().map(|rate| (rate.after_ms, rate.bits_per_s[line])).collect();
                plot.line(html, style, &points);
            }
        });
        html.element("figcaption").text(format_args!(
            "What was carried from source to target: {told}. The wire has less than disk and memory together where the tunnel compresses."
        ));
    });
}

/// Rates over one short stretch.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Its end, since the move's begin.
    after_ms: f64,
    /// By line.
    bits_per_s: [f64; 4],
}

fn rates(started_at_ms: u64, samples: &[Sample]) -> Vec<Rate> {
    let Some(end) = samples.last() else { return Vec::new() };
    let lasts_ms = end.at_ms.saturating_sub(started_at_ms);
    let stretch_ms = (lasts_ms / POINTS_MAX).max(RATE_MS_MIN);
    let mut rates = vec![Rate { after_ms: 0.0, bits_per_s: [0.0; 4] }];
    let mut before = Sample { at_ms: started_at_ms, ..Sample::default() };
    let mut carried = [0_u64; 4];
    let mut since_ms = started_at_ms;
    for sample in samples {
        for (sum, (was, is)) in
            carried.iter_mut().zip(totals(before).into_iter().zip(totals(*sample)))
        {
            // What fell has begun anew from zero.
            *sum = sum.saturating_add(if is >= was { is - was } else { is });
        }
        before = *sample;
        let took_ms = sample.at_ms.saturating_sub(since_ms);
        if took_ms >= stretch_ms {
            let bits_per_s = carried.map(|bytes| bytes as f64 * 8_000.0 / took_ms as f64);
            let after_ms = sample.at_ms.saturating_sub(started_at_ms) as f64;
            rates.push(Rate { after_ms, bits_per_s });
            (carried, since_ms) = ([0; 4], sample.at_ms);
        }
    }
    rates
}

fn totals(sample: Sample) -> [u64; 4] {
    [sample.disk_bytes, sample.memory_bytes, sample.packet_bytes, sample.wire_bytes]
}

/// How long flows were owed something, over time.
pub(super) fn stall(html: &mut Html, report: &Report) {
    let peak = report.stall_samples.iter().max_by_key(|sample| sample.longest_owed_ms);
    let Some(peak) = peak.filter(|peak| peak.longest_owed_ms > 0) else { return };
    let since = Since { start_ms: report.started_at_ms, at_ms: peak.at_ms };
    let owing_max = report.stall_samples.iter().map(|sample| sample.flows_owing).max();
    let told = format!(
        "the longest was {}, at {since}; at most {} waited at once",
        millis(peak.longest_owed_ms),
        counted(owing_max.unwrap_or(0), "flow"),
    );
    let lasts_ms = report.stall_samples.last().map_or(1, |last| after_ms(report, last));
    let plot = Plot::over_time(lasts_ms, peak.longest_owed_ms as f64);
    html.element("figure").with(|html| {
        html.element("h2").text("Stall over time");
        plot.draw(html, ("Stall over time", &told), |html| {
            plot.values(html, time_steps(), |ms| time_label(ms, plot.y.high));
            plot.paused(html, report);
            plot.times(html);
            plot.line(html, "stall", &peaks(report, lasts_ms));
        });
        html.element("figcaption").text(format_args!(
            "For how long the flow that waited longest had been owed bytes at each moment: {told}."
        ));
    });
}

fn after_ms(report: &Report, sample: &StallSample) -> u64 {
    sample.at_ms.saturating_sub(report.started_at_ms)
}

/// The highest of each short stretch, at its own time.
fn peaks(report: &Report, lasts_ms: u64) -> Vec<(f64, f64)> {
    let stretch_ms = (lasts_ms / POINTS_MAX).max(1);
    let mut points: Vec<(u64, f64, f64)> = Vec::new();
    for sample in &report.stall_samples {
        let after_ms = after_ms(report, sample);
        let stretch = after_ms / stretch_ms;
        let point = (stretch, after_ms as f64, sample.longest_owed_ms as f64);
        match points.last_mut() {
            Some(last) if last.0 == stretch && last.2 >= point.2 => {}
            Some(last) if last.0 == stretch => *last = point,
            _ => points.push(point),
        }
    }
    points.into_iter().map(|(_, x, y)| (x, y)).collect()
}
