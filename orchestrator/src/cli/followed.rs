//! What followed a move, in words: the application's health, and names.

use ledger::page::Utc;
use orchestrator_api::operator::MoveView;
use orchestrator_api::{HealthTold, NamePlace, NamesTold};

/// A line for each thing worth knowing.
pub(super) fn lines(view: &MoveView) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(view.health.as_ref().map(|told| health(told, view)));
    if let Some(told) = &view.names {
        names(&mut lines, told);
    }
    lines
}

fn health(told: &HealthTold, view: &MoveView) -> String {
    let (vm, site) = (&view.id.vm, &view.to.site);
    match told {
        HealthTold::Healthy { .. } => format!("health: it takes connections at {site}"),
        HealthTold::Unchecked => {
            format!("health: not known; no service of {site}'s proxy checks {vm}")
        }
        HealthTold::Unserved => format!("health: not known; {site}'s proxy does not serve {vm}"),
        HealthTold::Unhealthy { addresses } => {
            let at: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!(
                "WARNING: it took no connections at {site} ({}); see the application, or move it \
                 back: causeway move {vm} --to {}",
                at.join(", "),
                view.from.site
            )
        }
        HealthTold::Unasked { why } => {
            format!("WARNING: health is not known; {site}'s proxy was not asked: {why}")
        }
    }
}

fn names(lines: &mut Vec<String>, told: &NamesTold) {
    for NamePlace { name, site } in &told.names {
        lines.push(format!("name {name} is answered with {site}"));
    }
    if told.names_left_out > 0 {
        lines.push(format!("and {} more names", told.names_left_out));
    }
    if let Some(until_s) = told.outdated_until_unix_s {
        let until = Utc(until_s.saturating_mul(1_000));
        lines.push(format!("older answers run out at {until}, where TTLs are honoured"));
    }
    for server in &told.unconfirmed {
        let (name, site, why) = (&server.name, &server.site, &server.why);
        lines.push(format!(
            "WARNING: name server {name} of site {site} has not confirmed, and may answer as \
             before: {why}"
        ));
    }
    if told.unconfirmed_left_out > 0 {
        lines.push(format!("WARNING: nor have {} more", told.unconfirmed_left_out));
    }
}
