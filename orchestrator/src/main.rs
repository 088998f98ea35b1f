//! `causeway`: arguments in, exit code out. 0: done; 2: what was asked for cannot be; 1: all else.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Error;
use clap::Parser;
use orchestrator::pki::{self, PkiError};

use arguments::{Arguments, Command, Pki};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help that nobody can read is no reason for another exit code.
            let _ = answer.print();
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
        }
    };
    let done = match arguments.command {
        Command::Pki(command) => pki(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if matches!(error, PkiError::System { .. }) { 1 } else { 2 };
            eprintln!("{:#}", Error::from(error));
            ExitCode::from(code)
        }
    }
}

fn pki(command: Pki) -> Result<(), PkiError> {
    let now = SystemTime::now();
    let (written, json) = match command {
        Pki::Init(asked) => (pki::init(&asked.out, now)?, asked.json),
        Pki::Issue(asked) => {
            let json = asked.json;
            let (authority, out, days) = (asked.pki.clone(), asked.out.clone(), asked.days);
            (pki::issue(&authority, &asked.identity(), days, &out, now)?, json)
        }
    };
    let told = if json { format!("{}\n", written.as_json()) } else { written.to_string() };
    // The files are there, whoever hears of them.
    let _ = io::stdout().write_all(told.as_bytes());
    Ok(())
}
