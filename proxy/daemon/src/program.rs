//! What every program's `main` does: arguments in, exit code out. 0: done; 2: usage, configuration
//! or certificates are wrong; 1: all else.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::config::Basics;
use crate::loaded::LoadError;
use crate::telemetry::{LogFormat, Telemetry, TelemetryError};

/// Blocking work that an end may still wait for, once the daemon itself has ended.
const LEFT_OVER_MS_MAX: u64 = 500;

/// What went wrong, and whether the caller can mend it before the next start.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// What was asked for cannot be: 2.
    pub fn wrong(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { code: 2, error: error.into() }
    }

    /// With a code of the program's own, which its help tells.
    pub fn coded(code: u8, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { code, error: error.into() }
    }

    /// Everything was in order, and yet: 1.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { code: 1, error: error.into() }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::wrong(error)
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Failure {
        Failure::wrong(error)
    }
}

/// Reads the command line as an `A`, does it, and says what went wrong.
pub fn program<A: Parser>(act: impl FnOnce(A) -> Result<(), Failure>) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help that nobody can read is no reason for another exit code.
            let _ = answer.print();
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
        }
    };
    match act(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            eprintln!("{}", crate::with_causes(&*error));
            ExitCode::from(code)
        }
    }
}

/// Runs a daemon's life on threads of its own, until it ends.
///
/// # Errors
/// It did not end as asked.
pub fn serve<E: Error + Send + Sync + 'static>(
    life: impl Future<Output = Result<(), E>>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let ended = runtime.block_on(life);
    runtime.shutdown_timeout(Duration::from_millis(LEFT_OVER_MS_MAX));
    ended.map_err(Failure::failed)
}

/// Answers on stdout.
///
/// # Errors
/// Nobody can read it.
pub fn say(told: &str) -> Result<(), Failure> {
    io::stdout().write_all(told.as_bytes()).map_err(|error| Failure::failed(Unsaid(error)))
}

#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written to; see where it leads")]
struct Unsaid(#[source] io::Error);

/// The arguments that start a daemon.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// For whom the log on stderr is written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    log_format: Format,
    /// How much is logged: error, warn, info, debug, trace, or a list as in `info,daemon=debug`.
    /// Wins over RUST_LOG, which wins over the configuration.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl RunArguments {
    /// Starts the log and the metrics as the arguments, else the configuration, want them.
    ///
    /// # Errors
    /// A level that is none, or a second start.
    pub fn telemetry(&self, basics: &Basics) -> Result<Telemetry, TelemetryError> {
        let format = match self.log_format {
            Format::Human => LogFormat::Human,
            Format::Json => LogFormat::Json,
        };
        Telemetry::start(format, self.log_level.as_deref(), &basics.log_level)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A line for people, coloured on a terminal.
    Human,
    /// A JSON object a line.
    Json,
}
