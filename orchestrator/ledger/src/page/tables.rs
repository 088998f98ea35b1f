//! The smaller tables: estimate against actual, the hold, side flows, stragglers, what was reclaimed,
//! and what did not fit together.

use std::fmt::Display;

use placement::PartName;

use super::html::Html;
use super::units::{Bytes, Count, Since, Utc, counted, millis};
use crate::report::{Became, Report, Said, Versus};
use crate::rows::Subject;

/// Most rows of each of these tables on a page.
pub const OTHER_ROWS_MAX: usize = 100;

/// A section with a table that scrolls sideways where the screen is narrow. Columns whose name
/// begins with `#` hold numbers.
pub(super) fn section(
    html: &mut Html,
    (title, caption): (&'static str, &str),
    columns: &[&'static str],
    rows: impl FnOnce(&mut Html),
) {
    html.element("section").with(|html| {
        html.element("h2").text(title);
        html.element("div")
            .class("scroll")
            .attr("tabindex", "0")
            .attr("role", "region")
            .attr("aria-label", title)
            .with(|html| {
                html.element("table").with(|html| {
                    html.element("caption").text(caption);
                    html.element("thead").with(|html| {
                        html.element("tr").with(|html| {
                            for column in columns {
                                let (class, name) = match column.strip_prefix('#') {
                                    Some(name) => ("n", name),
                                    None => ("", *column),
                                };
                                html.element("th").attr("scope", "col").class(class).text(name);
                            }
                        });
                    });
                    html.element("tbody").with(rows);
                });
            });
    });
}

/// A cell with a number.
pub(super) fn number(html: &mut Html, value: impl Display) {
    html.element("td").class("n").text(value);
}

/// A cell with a number that may not be known.
pub(super) fn maybe(html: &mut Html, value: Option<impl Display>) {
    match value {
        Some(value) => number(html, value),
        None => number(html, "–"),
    }
}

/// Says how many rows a page left out.
pub(super) fn left_out(html: &mut Html, count: usize, columns: usize) {
    if count > 0 {
        let told =
            format!("{} left out here; the JSON has all.", counted(count as u64, "more row"));
        html.element("tr").with(|html| {
            html.element("td").attr("colspan", columns).class("note").text(told);
        });
    }
}

/// How a figure is written.
type Told = fn(u64) -> String;

/// What was predicted, and what came.
pub(super) fn comparison(html: &mut Html, report: &Report) {
    let of = &report.comparison;
    let time: Told = |ms| millis(ms).to_string();
    let size: Told = |bytes| Bytes(bytes).to_string();
    let rows: [(&str, Versus, Told); 5] = [
        ("Until it ran at the target", of.total_ms, time),
        ("Stood still", of.pause_ms, time),
        ("Disk carried", of.disk_bytes, size),
        ("Memory carried, repeats included", of.memory_bytes, size),
        ("On the wire", of.wire_bytes, size),
    ];
    let known = |versus: &Versus| versus.estimate.is_some() || versus.actual.is_some();
    if !rows.iter().any(|(_, versus, _)| known(versus)) {
        return;
    }
    let caption = "Estimates were made before anything was touched; they are predictions.";
    let columns = ["Figure", "#Estimate", "#Actual", "#Actual of estimate"];
    section(html, ("Estimate against actual", caption), &columns, |html| {
        for (name, versus, told) in rows.iter().filter(|(_, versus, _)| known(versus)) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(name);
                maybe(html, versus.estimate.map(|value| format!("≈ {}", told(value))));
                maybe(html, versus.actual.map(told));
                maybe(html, share(*versus));
            });
        }
    });
}

fn share(versus: Versus) -> Option<String> {
    let estimate = versus.estimate.filter(|estimate| *estimate > 0)?;
    let percent = u128::from(versus.actual?) * 100 / u128::from(estimate);
    Some(format!("{percent} %"))
}

/// The packets that waited.
pub(super) fn hold(html: &mut Html, report: &Report) {
    let Some(hold) = &report.hold else { return };
    let lasted = hold.ended_at_ms.map(|end| millis(end.saturating_sub(hold.began_at_ms)));
    let caption = match lasted {
        Some(lasted) => {
            format!("Packets for the VM that waited while it ran nowhere, for {lasted}.")
        }
        None => "Packets for the VM that wait while it runs nowhere.".to_owned(),
    };
    section(html, ("Packets held", &caption), &["What", "#Packets"], |html| {
        let rows = [("Held", hold.held), ("Released to the VM", hold.released)];
        for (name, count) in rows {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(name);
                number(html, Count(count));
            });
        }
        if hold.dropped.is_empty() {
            html.literal("<tr><th scope=\"row\">Dropped</th><td class=\"n\">0</td></tr>\n");
        }
        for (cause, count) in hold.dropped.iter().take(OTHER_ROWS_MAX) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(format_args!("Dropped: {cause}"));
                number(html, Count(*count));
            });
        }
        left_out(html, hold.dropped.len().saturating_sub(OTHER_ROWS_MAX), 2);
        html.element("tr").with(|html| {
            html.element("th").attr("scope", "row").text("Most bytes that waited at once");
            number(html, Bytes(hold.held_bytes_max));
        });
    });
}

/// The VM's own connections.
pub(super) fn side_flows(html: &mut Html, report: &Report) {
    let rows = &report.ledger.side_flows;
    if rows.is_empty() {
        return;
    }
    let caption = format!(
        "{} of the VM's own that no proxy carries, as its network port saw them. They have no verdict. Their times are those of the VM's own frames, to the second; the gap is by the clocks of both ends.",
        counted(rows.len() as u64, "connection")
    );
    let columns = ["VM", "Peer", "Protocol", "#Last at source", "#First at target", "#Gap"];
    section(html, ("Side flows", &caption), &columns, |html| {
        for row in rows.iter().take(OTHER_ROWS_MAX) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(row.tuple.vm);
                html.element("td").text(row.tuple.peer);
                html.element("td").text(row.tuple.protocol.as_str());
                seen(html, report, row.at_source, row.last_at_source_ms);
                seen(html, report, row.at_target, row.first_at_target_ms);
                maybe(html, row.gap_ms().map(|gap| format!("{gap} ms")));
            });
        }
        left_out(html, rows.len().saturating_sub(OTHER_ROWS_MAX), columns.len());
    });
}

/// When it was seen at an end, or that it was, where nobody told when.
fn seen(html: &mut Html, report: &Report, was_seen: bool, at_ms: Option<u64>) {
    let told = at_ms.map(|at| since(report, at).to_string());
    maybe(html, told.or_else(|| was_seen.then(|| "seen".to_owned())));
}

fn since(report: &Report, at_ms: u64) -> Since {
    Since { start_ms: report.started_at_ms, at_ms }
}

/// Who still came to the old site.
pub(super) fn stragglers(html: &mut Html, report: &Report) {
    let rows = &report.ledger.stragglers;
    if rows.is_empty() {
        return;
    }
    let caption = format!(
        "{} still came to the old site after the cutover, and were served through the tunnel. Their resolvers or programs keep addresses for longer than they may.",
        counted(rows.len() as u64, "client")
    );
    let columns = ["Client", "Services", "#Connections", "#First", "#Last"];
    section(html, ("Stragglers", &caption), &columns, |html| {
        for row in rows.iter().take(OTHER_ROWS_MAX) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(row.client);
                let services: Vec<&str> = row.services.iter().map(PartName::as_str).collect();
                html.element("td").text(services.join(", "));
                number(html, Count(row.connections));
                number(html, since(report, row.first_at_ms));
                number(html, since(report, row.last_at_ms));
            });
        }
        left_out(html, rows.len().saturating_sub(OTHER_ROWS_MAX), columns.len());
    });
}

/// What was given back.
pub(super) fn reclaimed(html: &mut Html, report: &Report) {
    let rows = &report.reclaimed;
    if rows.is_empty() {
        return;
    }
    let caption = "What the VM left behind at the site it left, and what became of it.";
    let columns = ["What", "Name", "Site", "Became"];
    section(html, ("Reclaimed", caption), &columns, |html| {
        for row in rows.iter().take(OTHER_ROWS_MAX) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(&row.what);
                html.element("td").with(|html| html.element("code").text(&row.name));
                html.element("td").text(&row.site);
                html.element("td").text(match &row.became {
                    Became::Released => "released".to_owned(),
                    Became::Quarantined { until_ms } => {
                        format!("in quarantine until {}", Utc(*until_ms))
                    }
                    Became::Kept { because } => format!("kept: {because}"),
                });
            });
        }
        left_out(html, rows.len().saturating_sub(OTHER_ROWS_MAX), columns.len());
    });
}

/// Whose word it all is.
pub(super) fn sources(html: &mut Html, report: &Report) {
    let rows = &report.sources;
    if rows.is_empty() {
        return;
    }
    let caption = "Who was asked, and what they said last. Flows of a party that told nothing are not here, and those of one that is silent now are as it told them last.";
    let columns = ["Who", "Site", "Said", "#Told last", "#Left out"];
    section(html, ("Who told", caption), &columns, |html| {
        for row in rows.iter().take(OTHER_ROWS_MAX) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(format_args!(
                    "{} {}",
                    row.is.words(),
                    row.name
                ));
                html.element("td").text(&row.site);
                html.element("td").text(match &row.said {
                    Said::Told => "all that it knows".to_owned(),
                    Said::Nothing { because } => format!("it knows nothing: {because}"),
                    Said::Silent { because } => format!("could not be asked: {because}"),
                });
                maybe(html, row.told_at_ms.map(|at| since(report, at)));
                number(html, Count(row.left_out));
            });
        }
        left_out(html, rows.len().saturating_sub(OTHER_ROWS_MAX), columns.len());
    });
}

/// What did not fit together.
pub(super) fn oddities(html: &mut Html, report: &Report) {
    let rows = &report.ledger.oddities;
    if rows.is_empty() {
        return;
    }
    let caption =
        "What the ledger was told and could not fit together. Nothing of it was merged in silence.";
    section(html, ("Contradictions", caption), &["About", "What", "#Times"], |html| {
        for row in rows.iter().take(OTHER_ROWS_MAX) {
            html.element("tr").with(|html| {
                html.element("th").attr("scope", "row").text(match &row.subject {
                    Subject::Move => "the move".to_owned(),
                    Subject::Proxy(proxy) => format!("proxy {} at {}", proxy.name, proxy.site),
                    Subject::Flow(flow) => format!("flow {} at {}", flow.id, flow.proxy.site),
                    Subject::SideFlow(tuple) => format!("{} to {}", tuple.vm, tuple.peer),
                });
                html.element("td").text(row.is.words());
                number(html, Count(row.times));
            });
        }
        left_out(html, rows.len().saturating_sub(OTHER_ROWS_MAX), 3);
    });
}
