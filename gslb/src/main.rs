//! `causeway-gslb`: arguments in, exit code out.

mod arguments;

use std::path::Path;
use std::process::ExitCode;

use daemon::program::{self, Failure, RunArguments};
use gslb::running::Loaded;
use gslb::{check, run};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    program::program(|arguments: Arguments| match arguments.command {
        Command::Run(arguments) => serve(arguments),
        Command::Check { config, json } => say(&config, json),
    })
}

fn serve(arguments: RunArguments) -> Result<(), Failure> {
    let loaded = Loaded::read(&arguments.config)?;
    let telemetry = arguments.telemetry(&loaded.config.basics)?;
    program::serve(run::run(arguments.config, loaded, telemetry))
}

fn say(config: &Path, json: bool) -> Result<(), Failure> {
    let loaded = Loaded::read(config);
    let told = match (&loaded, json) {
        (Ok(loaded), false) => check::told(config, loaded),
        (Ok(loaded), true) => format!("{}\n", check::told_as_json(loaded)),
        (Err(error), true) => format!("{}\n", error.as_json()),
        (Err(_), false) => String::new(),
    };
    let said = program::say(&told);
    loaded?;
    said
}
