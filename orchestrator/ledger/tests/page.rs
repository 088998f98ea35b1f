//! The page: well-formed, self-contained, bounded, and no text from outside becomes markup.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use ledger::page::{FLOW_ROWS_MAX, page, page_of_json};
use ledger::report::{Outcome, Party, REPORT_VERSION, Report, ReportError, Said, StepOutcome};
use support::chance::Chance;
use support::plausible;

/// Elements that HTML never ends.
const VOID: [&str; 1] = ["meta"];

/// Largest page: what a mail takes and a phone draws.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Walks through every tag: each end tag must end the element that is open, and no attribute may
/// hold a raw sign of markup.
fn check_balance(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let (style_from, style_to) =
        (body.find("<style>").unwrap() + 7, body.find("</style>").unwrap());
    let body = format!("{}{}", &body[..style_from], &body[style_to..]);
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body.as_str();
    while let Some(from) = rest.find('<') {
        let tag = &rest[from + 1..];
        let to = tag.find('>').expect("a tag that does not end");
        let (tag, after) = (&tag[..to], &tag[to + 1..]);
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an attribute that does not end: {tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "ends out of order near {after:.80}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = after;
    }
    assert!(open.is_empty(), "never ended: {open:?}");
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_else() {
    let page = page(&plausible::report(220));
    check_balance(&page);
    for foreign in ["http://", "https://", "src=", "url(", "@import", "<script", "<link", "<img"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    look_at(&page);
}

/// Writes the page where `CAUSEWAY_PAGE_OUT` says, for eyes to judge it.
#[expect(clippy::disallowed_methods, reason = "a test may write; the crate may not")]
fn look_at(page: &str) {
    if let Some(out) = std::env::var_os("CAUSEWAY_PAGE_OUT") {
        std::fs::write(out, page).unwrap();
    }
}

#[test]
fn the_page_tells_the_verdict_and_its_figures() {
    let report = plausible::report(220);
    let totals = &report.ledger.totals;
    assert_eq!((totals.flows, totals.broken), (220, 1));
    let page = page(&report);
    for told in [
        "web-1 moved from oslo to bergen",
        "Of 220 connections alive at the cutover 1 broke.",
        "stood still for 212 ms",
        "1,034 packets waited for it; none was dropped.",
        "killed by an operator",
        "203.0.113.40",
        "web-1.moved-12",
        "seen alive after its end; the end stands",
        "could not be asked: it took too long",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn the_page_is_made_from_the_json_alone() {
    let report = plausible::report(50);
    let json = report.to_json().unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);
    assert_eq!(page_of_json(&json).unwrap(), page(&report));
}

#[test]
fn a_report_is_clean_only_where_nothing_broke_and_each_proxy_has_told() {
    let mut report = plausible::report(40);
    report.sources.retain(|source| source.said == Said::Told || source.is == Party::Agent);
    assert_eq!(report.ledger.totals.broken, 0);
    assert!(report.is_clean(), "an agent that forgot side flows is no flow's end");
    let silent = Said::Silent { because: "it took too long".to_owned() };
    let nothing = Said::Nothing { because: "nothing was noted".to_owned() };
    for (said, told_at_ms, left_out, is_clean) in [
        (Said::Told, Some(1), 1, false),
        (silent, Some(1), 0, false),
        (nothing.clone(), Some(1), 0, true),
        (nothing, None, 0, false),
    ] {
        let proxy = &mut report.sources[0];
        (proxy.said, proxy.told_at_ms, proxy.left_out) = (said, told_at_ms, left_out);
        assert_eq!(report.is_clean(), is_clean, "{:?}", report.sources[0]);
    }
    assert!(!plausible::report(60).is_clean(), "one was killed");
}

#[test]
fn a_report_of_a_newer_release_is_refused_by_its_version() {
    let mut report = plausible::report(1);
    report.version = REPORT_VERSION + 1;
    let error = Report::from_json(&report.to_json().unwrap()).unwrap_err();
    assert!(matches!(error, ReportError::Newer { found } if found == REPORT_VERSION + 1));
    let more = format!("{{\"version\":{},\"all\":\"else differs\"}}", REPORT_VERSION + 1);
    assert!(matches!(Report::from_json(&more), Err(ReportError::Newer { .. })));
    assert!(matches!(Report::from_json("{"), Err(ReportError::Unreadable(_))));
}

#[test]
fn a_big_ledger_makes_a_bounded_page_that_says_what_it_left_out() {
    let report = plausible::report(10_000);
    let page = page(&report);
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
    let left_out = format!("9,{} more rows left out here", 1_000 - FLOW_ROWS_MAX);
    assert!(page.contains(&left_out), "{left_out}");
    assert!(page.contains("killed by an operator"), "what broke is shown first");
    let json = report.to_json().unwrap();
    assert_eq!(Report::from_json(&json).unwrap().ledger.flows.len(), 10_000);
    check_balance(&page);
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "\"><script>alert(1)</script><svg onload='x'>\u{202e}\0&lt;";
    let mut report = plausible::report(3);
    report.migration.name = hostile.to_owned();
    report.outcome = Outcome::GaveUp { step: hostile.to_owned(), because: hostile.to_owned() };
    for run in &mut report.steps {
        run.step = hostile.to_owned();
        run.reasons = vec![hostile.to_owned()];
        run.outcome = StepOutcome::Failed { reason: hostile.repeat(100) };
    }
    for moment in &mut report.moments {
        moment.what = hostile.to_owned();
    }
    for thing in &mut report.reclaimed {
        (thing.what, thing.name) = (hostile.to_owned(), hostile.to_owned());
    }
    for source in &mut report.sources {
        source.said = Said::Silent { because: hostile.to_owned() };
    }
    if let Some(hold) = &mut report.hold {
        hold.dropped.insert(hostile.to_owned(), 3);
    }
    let page = page(&report);
    check_balance(&page);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    for raw in ["<script", "<svg onload", "\u{202e}", "\0"] {
        assert!(!page.contains(raw), "{raw:?}");
    }
}

#[test]
fn a_report_of_nothing_yet_still_makes_a_page() {
    let mut report = plausible::report(0);
    report.outcome = Outcome::UnderWay { step: "check".to_owned() };
    (report.pause, report.hold, report.ended_at_ms) = (None, None, None);
    report.steps.clear();
    report.moments.clear();
    report.samples.clear();
    report.stall_samples.clear();
    report.reclaimed.clear();
    report.comparison = Default::default();
    report.ledger = Default::default();
    let page = page(&report);
    check_balance(&page);
    assert!(page.contains("web-1, on its way from oslo to bergen"));
}

/// Any number in a report may be any number: a page is made of what a file says.
#[test]
fn absurd_numbers_make_a_page_all_the_same() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let json = plausible::report(20).to_json().unwrap();
    for _ in 0..60 {
        let mut mutated = serde_json::from_str::<serde_json::Value>(&json).unwrap();
        spoil(&mut mutated, &mut chance);
        mutated["version"] = REPORT_VERSION.into();
        if let Ok(page) = page_of_json(&mutated.to_string()) {
            check_balance(&page);
            assert!(!page.contains("NaN") && !page.contains("inf"), "seed {seed}");
        }
    }
    for _ in 0..200 {
        let mut bytes = json.clone().into_bytes();
        for _ in 0..3 {
            let at = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            bytes[at] = u8::try_from(chance.below(128)).unwrap();
        }
        if let Ok(page) = page_of_json(&String::from_utf8(bytes).unwrap()) {
            check_balance(&page);
        }
    }
}

/// Replaces some of the numbers.
fn spoil(value: &mut serde_json::Value, chance: &mut Chance) {
    match value {
        serde_json::Value::Number(number) if chance.below(10) == 0 => {
            let absurd = [0, 1, u64::MAX, u64::MAX / 2, chance.next()];
            *number = absurd[usize::try_from(chance.below(5)).unwrap()].into();
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, chance)),
        serde_json::Value::Object(fields) => {
            fields.values_mut().for_each(|field| spoil(field, chance));
        }
        _ => {}
    }
}
