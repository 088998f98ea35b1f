//! `causeway`: arguments in, exit code out. 0: done; 2: what was asked for cannot be; 1: all else.

mod arguments;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use agent::run::Loaded;
use anyhow::Error;
use clap::Parser;
use daemon::telemetry::Telemetry;
use orchestrator::pki::{self, PkiError};

use arguments::{Agent, AgentRun, Arguments, Command, Pki};

/// Blocking work that a stop may still wait for, once the agent itself has ended.
const LEFT_OVER_MS_MAX: u64 = 500;

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
        Command::Pki(command) => pki(command).map_err(Failure::from),
        Command::Agent(Agent::Run(arguments)) => serve(arguments),
        Command::Agent(Agent::Check { config }) => say(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            eprintln!("{error:#}");
            ExitCode::from(code)
        }
    }
}

/// What went wrong, and whether the caller can mend it (2) or not (1).
struct Failure {
    code: u8,
    error: Error,
}

impl Failure {
    fn wrong(error: impl Into<Error>) -> Failure {
        Failure { code: 2, error: error.into() }
    }

    fn failed(error: impl Into<Error>) -> Failure {
        Failure { code: 1, error: error.into() }
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Failure {
        let code = if matches!(error, PkiError::System { .. }) { 1 } else { 2 };
        Failure { code, error: error.into() }
    }
}

fn serve(arguments: AgentRun) -> Result<(), Failure> {
    let AgentRun { config, log_format, log_level } = arguments;
    let loaded = Loaded::read(&config).map_err(Failure::wrong)?;
    let configured = &loaded.config.basics.log_level;
    Telemetry::start(log_format.into(), log_level.as_deref(), configured)
        .map_err(Failure::wrong)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let ended = runtime.block_on(agent::run::run(loaded));
    runtime.shutdown_timeout(Duration::from_millis(LEFT_OVER_MS_MAX));
    ended.map_err(Failure::failed)
}

fn say(config: &Path) -> Result<(), Failure> {
    let loaded = Loaded::read(config).map_err(Failure::wrong)?;
    let told = agent::check::told(config, &loaded);
    io::stdout().write_all(told.as_bytes()).map_err(Failure::failed)
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
