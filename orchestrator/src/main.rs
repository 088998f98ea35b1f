//! `causeway`: arguments in, exit code out.

mod arguments;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use agent::run::Loaded;
use daemon::program::{self, Failure, RunArguments};
use orchestrator::pki::{self, PkiError};

use arguments::{Agent, Arguments, Command, Pki};

fn main() -> ExitCode {
    program::program(|arguments: Arguments| match arguments.command {
        Command::Pki(command) => pki(command).map_err(pki_failure),
        Command::Agent(Agent::Run(arguments)) => serve(&arguments),
        Command::Agent(Agent::Check { config }) => say(&config),
    })
}

fn serve(arguments: &RunArguments) -> Result<(), Failure> {
    let loaded = Loaded::read(&arguments.config)?;
    let telemetry = arguments.telemetry(&loaded.config.basics)?;
    program::serve(agent::run::run(loaded, telemetry))
}

fn say(config: &Path) -> Result<(), Failure> {
    let loaded = Loaded::read(config)?;
    program::say(&agent::check::told(config, &loaded))
}

fn pki_failure(error: PkiError) -> Failure {
    match error {
        PkiError::System { .. } => Failure::failed(error),
        _ => Failure::wrong(error),
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
