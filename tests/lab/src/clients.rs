//! The checked clients, as a program on one of the lab's machines.

use std::io::{PipeReader, PipeWriter};

use guest::clients::Clients;

use crate::LabError;
use crate::host::Host;
use crate::sandbox::{Launch, Process};

/// Starts them, and speaks to them by their standard input and output. They end with the process.
pub fn start(host: &Host) -> Result<(Process, Clients<PipeWriter, PipeReader>), LabError> {
    let launch = Launch::ours("causeway-guest")?.arg("clients").with_stdin().with_stdout();
    let mut process = host.spawn(&launch)?;
    let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
    let (stdin, stdout) = stdin.zip(stdout).expect("both were asked for");
    Ok((process, Clients::over(stdin, stdout)))
}
