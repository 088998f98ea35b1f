//! The first program that runs on a fresh machine: says what is missing, installs it, then builds
//! and runs the rest. It has no dependencies, so that it needs nothing but Rust and `cc` itself.

mod kernel;
mod machine;
mod packages;
mod process;
mod verify;

use std::process::ExitCode;

const HELP: &str = "\
Prepares this machine, then builds and runs Causeway.

Usage: cargo verify [--deep] [--yes] [--prepare-only]

  cargo verify      formatting, lints and every test, once
      --deep        longer random walks, and the dependency policy (some 20 minutes more)
      --yes         install what is missing without asking
      --prepare-only
                    install and fetch, build and run nothing
  -h, --help        this text

Needs root, or sudo, for packages and for the tests: they make network namespaces, bridges, TUN
devices and virtual machines of their own, and leave nothing behind.

Exit codes: 0 all passed; 1 something failed; 2 wrong usage; 3 this machine cannot run the tests.
";

/// What the operator asked for.
struct Wishes {
    deep: bool,
    yes: bool,
    prepare_only: bool,
}

enum Request {
    Verify(Wishes),
    Help,
}

/// Why this program ends early.
pub(crate) enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The machine lacks something that cannot be installed from here.
    Machine(String),
    /// A step failed; its own output says why.
    Step(String),
}

fn main() -> ExitCode {
    let outcome = request(std::env::args().skip(1)).and_then(|request| match request {
        Request::Help => {
            print!("{HELP}");
            Ok(())
        }
        Request::Verify(wishes) => run(&wishes),
    });
    let (words, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Step(words)) => (words, 1),
        Err(Failure::Usage(words)) => (format!("{words}\n\n{HELP}"), 2),
        Err(Failure::Machine(words)) => (words, 3),
    };
    eprintln!("\n{words}");
    ExitCode::from(code)
}

fn run(wishes: &Wishes) -> Result<(), Failure> {
    machine::check()?;
    packages::install_missing(wishes.yes)?;
    kernel::fetch()?;
    machine::check_kernel_features()?;
    if wishes.prepare_only {
        return Ok(());
    }
    verify::run_all(wishes.deep)
}

fn request(mut words: impl Iterator<Item = String>) -> Result<Request, Failure> {
    match words.next().as_deref() {
        Some("verify") => {}
        Some("-h" | "--help") | None => return Ok(Request::Help),
        Some(other) => return Err(Failure::Usage(format!("there is no command '{other}'"))),
    }
    let mut wishes = Wishes { deep: false, yes: false, prepare_only: false };
    for word in words {
        match word.as_str() {
            "--deep" => wishes.deep = true,
            "--yes" => wishes.yes = true,
            "--prepare-only" => wishes.prepare_only = true,
            "-h" | "--help" => return Ok(Request::Help),
            other => return Err(Failure::Usage(format!("there is no option '{other}'"))),
        }
    }
    Ok(Request::Verify(wishes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Request, Failure> {
        request(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let Ok(Request::Verify(wishes)) = asked("verify --yes --deep") else { panic!() };
        assert!(wishes.yes && wishes.deep && !wishes.prepare_only);
    }

    #[test]
    fn what_it_does_not_know_is_named() {
        for words in ["verify --depe", "verfy", "verify deep"] {
            let Err(Failure::Usage(said)) = asked(words) else { panic!("{words} was taken") };
            assert!(said.contains(words.split_whitespace().next_back().unwrap()), "{said}");
        }
    }
}
