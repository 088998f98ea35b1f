//! `causeway-proxy`: arguments in, exit code out.

mod arguments;

use std::path::Path;
use std::process::ExitCode;

use daemon::loaded::Configuration;
use daemon::program::{self, Failure, RunArguments};
use daemon::state::StateFolder;
use proxy::config::Config;
use proxy::running::Loaded;
use proxy::{check, leg, run};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    program::program(|arguments: Arguments| match arguments.command {
        Command::Run(arguments) => serve(arguments),
        Command::Down { config } => down(&config),
        Command::Check { config, json } => say(&config, json),
    })
}

fn serve(arguments: RunArguments) -> Result<(), Failure> {
    let loaded = Loaded::read(&arguments.config)?;
    let telemetry = arguments.telemetry(&loaded.config.basics)?;
    program::serve(run::run(arguments.config, loaded, telemetry))
}

fn down(config: &Path) -> Result<(), Failure> {
    let config = <Config as Configuration>::read(config).map_err(Failure::wrong)?;
    // As long as it is ours, no proxy runs.
    let _state = StateFolder::open(&config.basics.state_folder).map_err(Failure::failed)?;
    leg::down(&config).map_err(Failure::failed)
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
