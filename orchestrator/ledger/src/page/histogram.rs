//! How the stalls are spread: most flows wait as long as the pause, and a few that lost a packet
//! wait longer; an average would hide both.

use super::html::Html;
use super::plot::Plot;
use super::scale::round_steps;
use super::units::{Count, Micros, counted};
use crate::report::Report;

/// Upper borders of the bins of one decade, in tenths of its begin.
const DECADE_TENTHS: [u64; 8] = [10, 15, 20, 25, 30, 40, 50, 70];

/// Begins of the decades, in microseconds: the borders go from 1 ms to 70 s, and what is longer has
/// a bin of its own.
const DECADES_US: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Most borders that are named.
const NAMES_MAX: usize = 12;

/// The distribution of the stalls.
pub(super) fn stalls(html: &mut Html, report: &Report) {
    let stalls = &report.ledger.stalls;
    if stalls.flows == 0 {
        return;
    }
    let longest = report.ledger.flows.iter().filter_map(|row| row.stall_us_max);
    let borders_us: Vec<u64> = DECADES_US
        .iter()
        .flat_map(|begin| DECADE_TENTHS.map(|tenths| begin / 10 * tenths))
        .collect();
    let mut bins = vec![0_u64; borders_us.len() + 1];
    for stall_us in longest.filter(|stall_us| *stall_us > 0) {
        bins[borders_us.partition_point(|border| *border < stall_us)] += 1;
    }
    // Empty bins at either end say nothing.
    let first = bins.iter().position(|count| *count > 0).unwrap_or(0).saturating_sub(1);
    let last = bins.iter().rposition(|count| *count > 0).unwrap_or(0);
    let last = (last + 1).min(bins.len() - 1).max(first);
    let shown = &bins[first..=last];
    let most = shown.iter().copied().max().unwrap_or(0);
    let told = format!(
        "half of {} waited {} or less, nine of ten {}, 99 of 100 {}, and the longest {}",
        counted(stalls.flows, "flow"),
        Micros(stalls.p50_us),
        Micros(stalls.p90_us),
        Micros(stalls.p99_us),
        Micros(stalls.max_us)
    );
    let plot = Plot::of_bins(shown.len(), most as f64);
    html.element("figure").with(|html| {
        html.element("h2").text("How long flows waited");
        plot.draw(html, ("Distribution of stalls", &told), |html| {
            plot.values(html, round_steps(), |count| Count(count as u64).to_string());
            for (bin, count) in shown.iter().enumerate().filter(|(_, count)| **count > 0) {
                plot.column(html, bin, *count as f64);
                plot.above(html, bin, *count as f64, &Count(*count).to_string());
            }
            for bin in (1..shown.len()).step_by(shown.len().div_ceil(NAMES_MAX)) {
                if let Some(border) = borders_us.get(first + bin - 1) {
                    plot.border(html, bin, &border_name(*border));
                }
            }
            plot.base(html, "longest time that a flow was owed bytes");
        });
        html.element("figcaption").text(format_args!(
            "Number of flows by their longest stall: {told}. Flows that were owed nothing are not counted."
        ));
    });
}

fn border_name(us: u64) -> String {
    let (tenths, unit) = match us {
        ..1_000_000 => (us / 100, "ms"),
        _ => (us / 100_000, "s"),
    };
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}
