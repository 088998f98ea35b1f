//! `causeway-demo`, which `cargo demo` runs: from nothing to the report of a move, in numbered chapters.
//!
//! The [`story`] plays on a [`stage`] of the lab, with an example installed as its README says. What an
//! operator types is typed at a [`desk`]; [`users`] have the connections that are to survive, and a
//! [`verdict`] says whether they did. An [`ending`] that somebody asks for takes everything away at once;
//! what is [`left`] are the reports.

mod desk;
mod ending;
mod error;
mod left;
mod probe;
mod stage;
mod story;
mod telling;
mod users;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use setup::{Asked, DEMO_HELP, Demo};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use ending::Ending;
use error::DemoError;
use telling::Telling;

/// A flow did not survive, or the move failed.
const FAILED: u8 = 1;
/// The words make no sense.
const WRONG_USAGE: u8 = 2;
/// This machine cannot run it.
const UNFIT: u8 = 3;
/// Somebody interrupted it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let asked = match Demo::read(std::env::args().skip(1)) {
        Ok(Asked::Run(asked)) => asked,
        Ok(Asked::Help) => {
            print!("{DEMO_HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}; see cargo demo --help");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(told(asked))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("causeway-demo: the system gives no thread or signals: {error}");
            ExitCode::from(UNFIT)
        }
    }
}

/// Tells the story on a thread of its own, so that a signal is heard whatever it is at.
async fn told(asked: Demo) -> std::io::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let ending = Arc::new(Ending::default());
    let (sender, mut outcome) = oneshot::channel();
    let of_story = Arc::clone(&ending);
    thread::Builder::new().name("story".to_owned()).spawn(move || {
        let mut telling = Telling::new();
        // Nobody hears it where a second signal has ended the program.
        let _ = sender.send(story::tell(&asked, &mut telling, &of_story));
    })?;
    loop {
        tokio::select! {
            outcome = &mut outcome => return Ok(code(outcome.ok(), &ending)),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        if ending.is_asked() {
            // Asked twice: what is left ends with this program.
            return Ok(ExitCode::from(INTERRUPTED));
        }
        eprintln!("\nEnding: everything is taken away.");
        ending.ask();
    }
}

/// `None` where the story has panicked, which has said why.
fn code(outcome: Option<Result<bool, DemoError>>, ending: &Ending) -> ExitCode {
    match outcome {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::from(FAILED),
        _ if ending.is_asked() => ExitCode::from(INTERRUPTED),
        None => ExitCode::from(FAILED),
        Some(Err(error)) => {
            say(&error);
            ExitCode::from(if error.is_of_machine() { UNFIT } else { FAILED })
        }
    }
}

fn say(error: &DemoError) {
    eprintln!("\ncauseway-demo: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
