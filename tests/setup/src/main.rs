//! The first program that runs on a fresh machine: says what is missing, installs it, then builds
//! and runs the rest. It has no dependencies, so that it needs nothing but Rust and `cc` itself.

mod demo;
mod kernel;
mod machine;
mod packages;
mod process;
mod programs;
mod verify;

use std::process::ExitCode;

use setup::{Asked, DEMO_HELP, Demo};

const HELP: &str = "\
Prepares this machine, then builds and runs Causeway.

Usage: cargo demo [OPTIONS]                               see cargo demo --help
       cargo verify [--deep] [--yes] [--prepare-only]

  cargo demo        moves a running VM between two sites, and tells what became of its users
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
    Demo {
        yes: bool,
        /// The demo's own words, which make sense.
        words: Vec<String>,
    },
    Help(&'static str),
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
        Request::Help(text) => {
            print!("{text}");
            Ok(())
        }
        Request::Verify(wishes) => verify(&wishes),
        Request::Demo { yes, words } => prepare(yes).and_then(|()| demo::become_it(&words)),
    });
    let (words, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Step(words)) => (words, 1),
        Err(Failure::Usage(words)) => (words, 2),
        Err(Failure::Machine(words)) => (words, 3),
    };
    eprintln!("\n{words}");
    ExitCode::from(code)
}

/// What is missing is here after it, or the machine is no good for it.
fn prepare(yes: bool) -> Result<(), Failure> {
    machine::check()?;
    packages::install_missing(yes)?;
    kernel::fetch()?;
    machine::check_kernel_features()
}

fn verify(wishes: &Wishes) -> Result<(), Failure> {
    prepare(wishes.yes)?;
    if wishes.prepare_only {
        return Ok(());
    }
    verify::run_all(wishes.deep)
}

fn request(mut words: impl Iterator<Item = String>) -> Result<Request, Failure> {
    match words.next().as_deref() {
        Some("verify") => verify_request(words),
        Some("demo") => demo_request(words),
        Some("-h" | "--help") | None => Ok(Request::Help(HELP)),
        Some(other) => Err(Failure::Usage(format!("there is no command '{other}'\n\n{HELP}"))),
    }
}

fn demo_request(words: impl Iterator<Item = String>) -> Result<Request, Failure> {
    let (own, words): (Vec<_>, Vec<_>) = words.partition(|word| word == "--yes");
    match Demo::read(words.iter().cloned()) {
        Ok(Asked::Help) => Ok(Request::Help(DEMO_HELP)),
        Ok(Asked::Run(_)) => Ok(Request::Demo { yes: !own.is_empty(), words }),
        Err(error) => Err(Failure::Usage(format!("{error}; see cargo demo --help"))),
    }
}

fn verify_request(words: impl Iterator<Item = String>) -> Result<Request, Failure> {
    let mut wishes = Wishes { deep: false, yes: false, prepare_only: false };
    for word in words {
        match word.as_str() {
            "--deep" => wishes.deep = true,
            "--yes" => wishes.yes = true,
            "--prepare-only" => wishes.prepare_only = true,
            "-h" | "--help" => return Ok(Request::Help(HELP)),
            other => {
                let words = format!("there is no option '{other}'\n\n{HELP}");
                return Err(Failure::Usage(words));
            }
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
    fn the_demo_is_given_its_own_words_and_not_ours() {
        let Ok(Request::Demo { yes, words }) = asked("demo --flows 12 --yes --back") else {
            panic!()
        };
        assert!(yes && words == ["--flows", "12", "--back"]);
        let Ok(Request::Help(text)) = asked("demo --help") else { panic!() };
        assert!(text.contains("--rtt"));
    }

    #[test]
    fn what_it_does_not_know_is_named() {
        for words in ["verify --depe", "verfy", "verify deep", "demo --flows=0", "demo --yess"] {
            let Err(Failure::Usage(said)) = asked(words) else { panic!("{words} was taken") };
            let last = words.split(['=', ' ']).next_back().unwrap();
            assert!(said.contains(last), "{said}");
        }
    }
}
