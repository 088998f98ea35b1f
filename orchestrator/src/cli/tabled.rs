//! A report as a table for the terminal.

use std::fmt::{Display, Write};

use ledger::page::{Bytes, Count, Micros, millis};
use ledger::report::{Outcome, Report, Said, Source, Versus};
use ledger::{Broken, StragglerRow};
use placement::PartName;

/// The whole of it.
pub(super) fn tabled(report: &Report) -> String {
    let mut told = String::new();
    line(&mut told, &headline(report));
    flows(&mut told, report);
    figures(&mut told, report);
    for source in &report.sources {
        if let Some(missing) = missing(source) {
            line(&mut told, &format!("  {missing}"));
        }
    }
    for oddity in report.ledger.oddities.iter().take(ODDITIES_MAX) {
        line(&mut told, &format!("  odd: {} ({} times)", oddity.is.words(), oddity.times));
    }
    told
}

/// Most oddities that are told; the page has more, the file has all.
const ODDITIES_MAX: usize = 8;
/// Clients that still came to the old site and are named; likewise.
const STRAGGLERS_NAMED_MAX: usize = 8;

fn headline(report: &Report) -> String {
    let migration = &report.migration;
    let (vm, from, to) = (&migration.vm, &migration.from.site, &migration.to.site);
    let how = match &report.outcome {
        Outcome::Completed => format!("{vm} moved from {from} to {to}"),
        Outcome::Draining => {
            format!("{vm} moved from {from} to {to}; some of its old flows live on")
        }
        Outcome::Undone { because } => format!("{vm} stayed at {from}: {because}"),
        Outcome::UnderWay { step } => format!("{vm} is on its way from {from} to {to}, at {step}"),
        Outcome::InDoubt { because } => format!("{vm} is in doubt: {because}"),
        Outcome::GaveUp { step, because } => format!("{vm} waits at {step}: {because}"),
    };
    format!("{}: {how}", migration.name)
}

fn flows(told: &mut String, report: &Report) {
    let totals = &report.ledger.totals;
    let unaccounted = totals.broken_by.get(&Broken::Unaccounted).copied().unwrap_or(0);
    for (name, count) in [
        ("flows at the cutover", totals.flows),
        ("survived", totals.survived),
        ("idle", totals.idle),
        ("closed by client", totals.closed_by_client),
        ("closed by server", totals.closed_by_server),
        ("broken", totals.broken - unaccounted.min(totals.broken)),
        ("unaccounted", unaccounted),
    ] {
        row(told, name, &Count(count), "");
    }
    for (cause, count) in &totals.broken_by {
        if *cause != Broken::Unaccounted {
            line(told, &format!("    {} {}", Count(*count), cause.words()));
        }
    }
    let stragglers = &report.ledger.stragglers;
    let connections = stragglers.iter().map(|row| row.connections).fold(0, u64::saturating_add);
    let of = match stragglers.len() {
        1 => "from 1 client".to_owned(),
        clients => format!("from {clients} clients"),
    };
    row(told, "stragglers", &Count(connections), if stragglers.is_empty() { "" } else { &of });
    for straggler in stragglers.iter().take(STRAGGLERS_NAMED_MAX) {
        let StragglerRow { client, connections, services, .. } = straggler;
        let services: Vec<&str> = services.iter().map(PartName::as_str).collect();
        line(
            told,
            &format!("    {} from {client} to {}", Count(*connections), services.join(", ")),
        );
    }
    row(told, "side flows", &Count(report.ledger.side_flows.len() as u64), "no verdict");
    let stalls = &report.ledger.stalls;
    let half = format!("half had {} or less", Micros(stalls.p50_us));
    let more = if stalls.flows == 0 { "no flow was owed anything" } else { &half };
    row(told, "longest stall", &Micros(stalls.max_us), more);
}

/// How a figure is written.
type Told = fn(u64) -> String;

fn figures(told: &mut String, report: &Report) {
    let of = &report.comparison;
    let time: Told = |ms| millis(ms).to_string();
    let size: Told = |bytes| Bytes(bytes).to_string();
    let rows: [(&str, Versus, Told); 5] = [
        ("until it ran there", of.total_ms, time),
        ("stood still", of.pause_ms, time),
        ("disk carried", of.disk_bytes, size),
        ("memory carried", of.memory_bytes, size),
        ("on the wire", of.wire_bytes, size),
    ];
    for (name, Versus { estimate, actual }, in_words) in rows {
        let estimate = estimate.map(|value| format!("estimated {}", in_words(value)));
        if actual.is_some() || estimate.is_some() {
            let actual = actual.map_or("-".to_owned(), in_words);
            row(told, name, &actual, &estimate.unwrap_or_default());
        }
    }
}

/// What a reader must know is not in it.
fn missing(source: &Source) -> Option<String> {
    let who = format!("{} {} of site {}", source.is.words(), source.name, source.site);
    let before = match source.told_at_ms {
        Some(_) => "; what it told before is here",
        None => "",
    };
    match &source.said {
        Said::Silent { because } => Some(format!("not asked: {who}: {because}{before}")),
        Said::Nothing { because } => Some(format!("knows nothing: {who}: {because}{before}")),
        Said::Told if source.left_out > 0 => {
            Some(format!("not whole: {who} has left out {} or more", Count(source.left_out)))
        }
        Said::Told => None,
    }
}

fn row(told: &mut String, name: &str, value: &dyn Display, more: &str) {
    let text = format!("  {name:<22}{:>12}  {more}", value.to_string());
    line(told, text.trim_end());
}

fn line(told: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(told, "{text}");
}
