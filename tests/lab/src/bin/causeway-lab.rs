//! The lab's own program: the first process of every place.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use lab::sandbox::{self, Proc, Settings};

#[derive(Parser)]
#[command(version, about = "Sites from namespaces, for Causeway's tests and demo")]
struct Arguments {
    #[command(subcommand)]
    command: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Be the first process of a place (started by the lab itself, with its socket as stdin).
    #[command(hide = true)]
    Place {
        /// The place's host name.
        #[arg(long)]
        hostname: String,
        /// A folder that stays in sight.
        #[arg(long)]
        keep: Vec<PathBuf>,
        /// Show the machine's processes, not the place's own.
        #[arg(long)]
        machine_proc: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Job::Place { hostname, keep, machine_proc } => sandbox::run(&Settings {
            hostname,
            kept: keep,
            proc: if machine_proc { Proc::Machine } else { Proc::Own },
        })?,
    }
    Ok(())
}
