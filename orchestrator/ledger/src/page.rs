//! The page of a report: one HTML file that needs nothing else, neither scripts nor fonts nor a
//! network, and is made from the report's JSON alone.
//!
//! What an operator asks comes first: did it work, how long did it stand still, what became of the
//! connections. Then the pictures, then the tables. A page is bounded: of a big ledger it shows what
//! matters most, says what it left out, and names the JSON that has all.

mod curves;
mod flows;
mod gantt;
mod histogram;
mod html;
mod plot;
mod scale;
mod summary;
mod tables;
mod units;

use html::Html;

use crate::report::{Report, ReportError};

pub use flows::FLOW_ROWS_MAX;
pub use gantt::STEP_ROWS_MAX;
pub use tables::OTHER_ROWS_MAX;
pub use units::{Bytes, Count, Micros, Utc, millis};

/// What a browser may do with the page: draw it. So nothing that a report could carry, should it
/// ever get through the escaping, loads or runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page of the report in this JSON, as `causeway report --from FILE.json --html OUT` writes it.
pub fn page_of_json(json: &str) -> Result<String, ReportError> {
    Ok(page(&Report::from_json(json)?))
}

/// The page of a report.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut html = Html::default();
    html.literal("<!DOCTYPE html>\n");
    html.element("html").attr("lang", "en").with(|html| {
        html.element("head").with(|html| head(html, report));
        html.element("body").with(|html| {
            html.element("header").with(|html| summary::headline(html, report));
            html.element("main").with(|html| body(html, report));
            html.element("footer").with(|html| summary::footer(html, report));
        });
    });
    html.finish()
}

fn head(html: &mut Html, report: &Report) {
    html.literal("<meta charset=\"utf-8\">\n");
    html.element("meta")
        .attr("http-equiv", "Content-Security-Policy")
        .attr("content", POLICY)
        .empty();
    html.literal("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.literal("<meta name=\"color-scheme\" content=\"light dark\">\n");
    let migration = &report.migration;
    let title = format!("{}: {} to {}", migration.vm, migration.from.site, migration.to.site);
    html.element("title").text(title);
    html.literal(concat!("<style>\n", include_str!("page/style.css"), "</style>\n"));
}

fn body(html: &mut Html, report: &Report) {
    summary::figures(html, report);
    summary::verdicts(html, report);
    gantt::timeline(html, report);
    curves::throughput(html, report);
    curves::stall(html, report);
    histogram::stalls(html, report);
    tables::comparison(html, report);
    tables::hold(html, report);
    flows::ledger(html, report);
    tables::side_flows(html, report);
    tables::stragglers(html, report);
    tables::reclaimed(html, report);
    tables::oddities(html, report);
    tables::sources(html, report);
}
