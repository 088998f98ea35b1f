//! `causeway-proxy check`: says what a proxy would understand and be, and changes nothing.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use daemon::config::{ConfigError, Problem};
use serde_json::{Value, json};

use crate::running::{LoadError, Loaded, seconds};

/// What was understood, for people.
#[must_use]
pub fn told(path: &Path, loaded: &Loaded) -> String {
    let (basics, credentials) = (&loaded.config.basics, &loaded.credentials);
    let left_s = seconds(credentials.valid_until()).saturating_sub(seconds(SystemTime::now()));
    let days = left_s / 86_400;
    let mut text = format!("{}: sound\n\n", path.display());
    for (what, value) in [
        ("identity", credentials.identity().to_string()),
        ("certificate", format!("valid for {days} more days")),
        ("control", format!("listens on {}", basics.listen)),
        ("state", basics.state_folder.display().to_string()),
        ("log level", basics.log_level.clone()),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {what:<12} {value}");
    }
    text
}

/// What was understood, for programs.
#[must_use]
pub fn told_as_json(loaded: &Loaded) -> Value {
    let (basics, credentials) = (&loaded.config.basics, &loaded.credentials);
    json!({
        "sound": true,
        "site": basics.site,
        "identity": credentials.identity(),
        "certificate_valid_until_s": seconds(credentials.valid_until()),
        "control_listen": basics.listen,
        "state_folder": basics.state_folder,
        "log_level": basics.log_level,
    })
}

/// What is wrong, for programs. For people, the error's own words say it.
#[must_use]
pub fn wrong_as_json(error: &LoadError) -> Value {
    let problems: Vec<Value> = match error {
        LoadError::Config(ConfigError::Invalid { problems, .. }) => {
            problems.iter().map(problem_as_json).collect()
        }
        other => vec![json!({ "message": daemon::with_causes(other) })],
    };
    json!({ "sound": false, "problems": problems })
}

fn problem_as_json(problem: &Problem) -> Value {
    let Problem { line, column, field, message } = problem;
    json!({ "line": line, "column": column, "field": field, "message": message })
}
