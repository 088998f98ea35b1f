//! `causeway`: arguments in, exit code out.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use daemon::program::{self, Failure, RunArguments};
use orchestrator::cli::{commands, flows, reclaim, report};
use orchestrator::init::{self, InitError};
use orchestrator::pki::{self, PkiError};
use orchestrator::serve;

use arguments::{Agent, Arguments, Command, Installation, Pki, Serve, Vm};

fn main() -> ExitCode {
    program::program(|arguments: Arguments| match arguments.command {
        Command::Init(asked) => install(&asked),
        Command::Pki(command) => pki(command).map_err(pki_failure),
        Command::Agent(Agent::Run(arguments)) => run_agent(&arguments),
        Command::Agent(Agent::Check { config }) => {
            let loaded = agent::run::Loaded::read(&config)?;
            program::say(&agent::check::told(&config, &loaded))
        }
        Command::Serve(Serve::Run(arguments)) => run_service(&arguments),
        Command::Serve(Serve::Check { config }) => {
            let loaded = serve::run::Loaded::read(&config)?;
            program::say(&serve::check::told(&config, &loaded))
        }
        Command::Vm(Vm::Start(asked)) => ask(commands::vm_start(asked)),
        Command::Vm(Vm::List(asked)) => ask(commands::vm_list(asked)),
        Command::Plan(asked) => ask(commands::plan(asked)),
        Command::Move(asked) => ask(commands::order_move(asked)),
        Command::Status(asked) => ask(commands::status(asked)),
        Command::Abort(asked) => ask(commands::abort(asked)),
        Command::Reclaim(asked) => ask(reclaim::reclaim(asked)),
        Command::Flows(asked) => ask(flows::flows(asked)),
        Command::Report(asked) => ask(report::report(asked)),
    })
}

fn run_agent(arguments: &RunArguments) -> Result<(), Failure> {
    let loaded = agent::run::Loaded::read(&arguments.config)?;
    let telemetry = arguments.telemetry(&loaded.config.basics)?;
    program::serve(agent::run::run(loaded, telemetry))
}

fn run_service(arguments: &RunArguments) -> Result<(), Failure> {
    let loaded = serve::run::Loaded::read(&arguments.config)?;
    let telemetry = arguments.telemetry(&loaded.config.basics)?;
    program::serve(serve::run::run(loaded, telemetry))
}

/// A command that asks the service needs no threads of its own.
fn ask(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::failed)?.block_on(command)
}

fn install(asked: &Installation) -> Result<(), Failure> {
    let make = if asked.add { init::add } else { init::init };
    let made = make(&asked.description, &asked.out, asked.days, SystemTime::now());
    let made = made.map_err(|error| match error {
        InitError::Pki(error) => pki_failure(error),
        InitError::System { .. } | InitError::Unfit { .. } | InitError::Text(_) => {
            Failure::failed(error)
        }
        InitError::Description(_)
        | InitError::Exists { .. }
        | InitError::NothingThere { .. }
        | InitError::Undescribed { .. }
        | InitError::InTheWay { .. } => Failure::wrong(error),
    })?;
    let told = if asked.json { format!("{}\n", made.as_json()) } else { made.to_string() };
    // The files are there, whoever hears of them.
    let _ = io::stdout().write_all(told.as_bytes());
    Ok(())
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
