//! `causeway report`: the ledger of a move as a table, as a page, and as the file that has all of it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use daemon::program::{Failure, say};
use ledger::page::page;
use ledger::report::{REPORT_BYTES_MAX, Report as Told};
use orchestrator_api::CallError;
use orchestrator_api::operator::{MoveId, REPORT_GONE};

use super::commands::{failed, newest_of};
use super::line::{Line, LineError};
use super::operator_file::OperatorFile;
use super::tabled::tabled;

/// A flow broke or is not accounted for, and the caller wants to know.
pub const NOT_CLEAN: u8 = 4;
/// How often a report is begun anew because others were asked for meanwhile.
const TRIES_MAX: usize = 3;

/// `causeway report`.
#[derive(Debug, Args)]
pub struct Report {
    /// A move, as VM.NUMBER, or a VM: its last move.
    #[arg(required_unless_present = "from")]
    what: Option<String>,
    /// Make the page from this file, and ask nobody.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "json", "config"])]
    from: Option<PathBuf>,
    /// Write the page to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write all of it to this file, from which the page can be made again.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail where a flow broke or is not accounted for, or a proxy could not be asked.
    #[arg(long)]
    strict: bool,
    /// The operator's file: where the service is, and who you are. Else CAUSEWAY_CONFIG, else
    /// ~/.config/causeway/operator.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Tells the ledger of a move.
///
/// # Errors
/// It cannot be told; with `--strict` also where it is not clean.
pub async fn report(asked: Report) -> Result<(), Failure> {
    let json = match (&asked.from, &asked.what) {
        (Some(file), _) => read(file)?,
        (None, Some(what)) => fetched(&asked, what).await?,
        (None, None) => return Err(Failure::wrong("name a move, or a file with --from")),
    };
    let told = Told::from_json(&json).map_err(Failure::wrong)?;
    if let Some(file) = &asked.json {
        write(file, &json)?;
    }
    if let Some(file) = &asked.html {
        write(file, &page(&told))?;
    }
    say(&tabled(&told))?;
    if asked.strict && !told.is_clean() {
        let why = "a flow broke or is not accounted for, or a proxy has not told; see above";
        return Err(Failure::coded(NOT_CLEAN, why));
    }
    Ok(())
}

/// A new report from the service, whole.
async fn fetched(asked: &Report, what: &str) -> Result<String, Failure> {
    let file = OperatorFile::load(asked.config.as_deref()).map_err(Failure::wrong)?;
    let mut line = Line::new(file);
    let id = match what.parse::<MoveId>() {
        Ok(id) => id,
        Err(_) => newest_of(&mut line, what).await?,
    };
    let mut tried = 1;
    loop {
        match parts(&mut line, &id).await {
            Err(Unfetched::Line(LineError::Call(CallError::Refused { refusal, .. })))
                if refusal.code == REPORT_GONE && tried < TRIES_MAX =>
            {
                tried += 1;
            }
            Err(Unfetched::Line(error)) => return Err(failed(error)),
            Err(Unfetched::TooLong) => {
                let why = format!("the report of {id} is longer than {REPORT_BYTES_MAX} bytes");
                return Err(Failure::failed(why));
            }
            Ok(json) => return Ok(json),
        }
    }
}

enum Unfetched {
    Line(LineError),
    TooLong,
}

async fn parts(line: &mut Line, id: &MoveId) -> Result<String, Unfetched> {
    let (mut json, mut later) = (String::new(), None);
    loop {
        let part = line.call(async |client| client.report(id, later).await).await;
        let part = part.map_err(Unfetched::Line)?;
        if json.len() + part.text.len() > REPORT_BYTES_MAX {
            return Err(Unfetched::TooLong);
        }
        json += &part.text;
        match part.more_from {
            Some(from) => later = Some((part.made_at_unix_ms, from)),
            None => return Ok(json),
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        Failure::wrong(format!("{} cannot be read: {why}; name a report's file", file.display()))
    };
    let metadata = fs::metadata(file).map_err(|error| refused(&error))?;
    if metadata.len() > REPORT_BYTES_MAX as u64 {
        return Err(refused(&format!("it has more than {REPORT_BYTES_MAX} bytes")));
    }
    fs::read_to_string(file).map_err(|error| refused(&error))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| {
        Failure::failed(format!("{} cannot be written: {error}; see to its folder", file.display()))
    })
}
