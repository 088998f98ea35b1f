//! `causeway-guest`: the guest inside a VM, a neighbour on a host, checked clients, a record checker.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use guest::records::check::check_image;
use guest::service::{READY, Service};
use guest::settings::{FLAG_PREFIX, Settings};
use guest::{boot, clients};

const USAGE: &str = "\
causeway-guest boot                  inside a VM: set up what the kernel's command line says, serve
causeway-guest serve [--NAME=VALUE]  on a host: the same service; names as on the command line
causeway-guest clients               checked clients, told what to do in JSON lines on standard input
causeway-guest records IMAGE START   check the records of a disk image, the first at offset START";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["boot"] => boot::prepare().map_err(Into::into).and_then(|settings| serve(&settings)),
        ["serve", ref flags @ ..] => Settings::from_words(flags.iter().copied(), FLAG_PREFIX)
            .map_err(Into::into)
            .and_then(|settings| serve(&settings)),
        ["clients"] => clients::run(std::io::stdin(), std::io::stdout().lock()).map_err(Into::into),
        ["records", image, start] => check_records(image, start),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn Error>>;

fn serve(settings: &Settings) -> Outcome {
    let service = Service::new(settings)?;
    // The lab waits for this line, on a console or a pipe.
    println!(
        "{READY} port={} control={} boot={}",
        service.port()?,
        service.control_port()?,
        service.boot()
    );
    Ok(service.run()?)
}

fn check_records(image: &str, start: &str) -> Outcome {
    println!("{}", check_image(Path::new(image), start.parse()?)?);
    Ok(())
}

fn report(error: &dyn Error) {
    eprintln!("causeway-guest: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
