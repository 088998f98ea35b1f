//! `causeway-proxy`: arguments in, exit code out. 0: done; 2: usage, configuration or certificates
//! are wrong; 1: all else.

mod arguments;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Error;
use clap::Parser;
use daemon::telemetry::{Telemetry, TelemetryError};
use proxy::running::{LoadError, Loaded};
use proxy::{check, run};

use arguments::{Arguments, Command, Run};

/// Blocking work that a stop may still wait for, once the proxy itself has ended.
const LEFT_OVER_MS_MAX: u64 = 500;

enum Failure {
    /// The operator can mend it before the next start.
    Wrong(Error),
    /// Everything was in order, and yet.
    Failed(Error),
}

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
        Command::Run(arguments) => serve(arguments),
        Command::Check { config, json } => say(&config, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Wrong(error)) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Run) -> Result<(), Failure> {
    let Run { config, log_format, log_level } = arguments;
    let loaded = Loaded::read(&config)?;
    let configured = &loaded.config.basics.log_level;
    let telemetry = Telemetry::start(log_format.into(), log_level.as_deref(), configured)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::Failed(error.into()))?;
    let ended = runtime.block_on(run::run(config, loaded, telemetry));
    runtime.shutdown_timeout(Duration::from_millis(LEFT_OVER_MS_MAX));
    ended.map_err(|error| Failure::Failed(error.into()))
}

fn say(config: &Path, json: bool) -> Result<(), Failure> {
    let loaded = Loaded::read(config);
    let told = match (&loaded, json) {
        (Ok(loaded), false) => check::told(config, loaded),
        (Ok(loaded), true) => format!("{}\n", check::told_as_json(loaded)),
        (Err(error), true) => format!("{}\n", check::wrong_as_json(error)),
        (Err(_), false) => String::new(),
    };
    let written = io::stdout().write_all(told.as_bytes());
    loaded?;
    written.map_err(|error| Failure::Failed(Error::from(error).context("stdout")))
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::Wrong(error.into())
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Failure {
        Failure::Wrong(error.into())
    }
}
