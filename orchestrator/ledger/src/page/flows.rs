//! The ledger's own table: the flows that an operator must see first.

use std::cmp::Reverse;

use super::html::Html;
use super::tables::{left_out, maybe, number, section};
use super::units::{Bytes, Count, Micros, Since};
use crate::report::Report;
use crate::rows::FlowRow;
use crate::verdict::{Closer, Verdict};

/// Most flows that a page shows: broken ones first, then by their stall, the longest first.
pub const FLOW_ROWS_MAX: usize = 400;

/// The ledger.
pub(super) fn ledger(html: &mut Html, report: &Report) {
    let flows = &report.ledger.flows;
    if flows.is_empty() {
        return;
    }
    let mut rows: Vec<&FlowRow> = flows.iter().collect();
    rows.sort_by_key(|row| (rank(row.verdict), Reverse(row.stall_us_max), &row.flow));
    let shown = rows.len().min(FLOW_ROWS_MAX);
    let caption = format!(
        "{} of {} flows alive at the cutover: broken ones first, then those that waited longest. Bytes are what passed after the pivot.",
        Count(shown as u64),
        Count(rows.len() as u64)
    );
    let columns = [
        "Verdict",
        "Client",
        "Service",
        "Backend",
        "Proxy",
        "#To server",
        "#To client",
        "#Stall",
        "Ended",
    ];
    section(html, ("Ledger", &caption), &columns, |html| {
        for row in rows.iter().take(shown) {
            html.element("tr").with(|html| flow(html, report, row));
        }
        left_out(html, rows.len() - shown, columns.len());
    });
}

fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Broken(_) => 0,
        Verdict::ClosedByClient | Verdict::ClosedByServer => 1,
        Verdict::Survived => 2,
        Verdict::Idle => 3,
    }
}

fn flow(html: &mut Html, report: &Report, row: &FlowRow) {
    let style = match row.verdict {
        Verdict::Survived => "survived",
        Verdict::Idle => "idle",
        Verdict::ClosedByClient => "client",
        Verdict::ClosedByServer => "server",
        Verdict::Broken(_) => "broken",
    };
    html.element("td").with(|html| {
        html.element("span").attr("class", format_args!("seg {style}")).text("");
        html.text(row.verdict.words());
        if let Verdict::Broken(cause) = row.verdict {
            html.element("span").class("reason").text(cause.words());
        }
    });
    html.element("th").attr("scope", "row").text(row.client);
    html.element("td").text(format_args!("{}/{}", row.service, row.protocol.as_str()));
    html.element("td").text(&row.backend);
    html.element("td").text(format_args!("{}/{}", row.flow.proxy.site, row.flow.proxy.name));
    number(html, Bytes(row.after_pivot.up));
    number(html, Bytes(row.after_pivot.down));
    maybe(html, row.stall_us_max.map(Micros));
    html.element("td").with(|html| match (row.ended_at_ms, row.close_reason) {
        (Some(at_ms), Some(reason)) => {
            html.text(Since { start_ms: report.started_at_ms, at_ms });
            html.text(", ");
            html.text(Closer::of(reason).words());
            html.text(" (");
            html.text(reason.as_str());
            html.text(")");
        }
        _ => html.text("–"),
    });
}
