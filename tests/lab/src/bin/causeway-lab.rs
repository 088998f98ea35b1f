//! The lab's own program: the first process of every place, and a world to look around in.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lab::sandbox::{self, Proc, Settings};
use lab::world::{Gateway, World, WorldPlan};

#[derive(Parser)]
#[command(version, about = "Sites from namespaces, for Causeway's tests and demo")]
struct Arguments {
    #[command(subcommand)]
    command: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Build a world, say how to enter its machines, and keep it until standard input ends.
    World(WorldArguments),
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

#[derive(Args)]
struct WorldArguments {
    /// The sites' names.
    #[arg(long, value_delimiter = ',', default_value = "a,b")]
    sites: Vec<String>,
    /// How many neighbours the VMs have at each site.
    #[arg(long, default_value_t = 1)]
    neighbours: u8,
    /// How many client machines there are.
    #[arg(long, default_value_t = 1)]
    clients: u8,
    /// Give each site a gateway address and MAC of its own.
    #[arg(long)]
    own_gateways: bool,
    /// What the links between sites are like, for example delay_us=10000,loss_ppm=1000.
    #[arg(long, value_name = "SETTINGS", value_parser = str::parse::<wan::Change>)]
    wan: Option<wan::Change>,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Job::World(arguments) => keep_world(&arguments),
        Job::Place { hostname, keep, machine_proc } => Ok(sandbox::run(&Settings {
            hostname,
            kept: keep,
            proc: if machine_proc { Proc::Machine } else { Proc::Own },
        })?),
    }
}

fn keep_world(arguments: &WorldArguments) -> anyhow::Result<()> {
    let names: Vec<&str> = arguments.sites.iter().map(String::as_str).collect();
    let mut plan = WorldPlan::with_sites(&names);
    for site in &mut plan.sites {
        site.neighbours = arguments.neighbours;
    }
    plan.clients = arguments.clients;
    plan.wan = arguments.wan.unwrap_or_default();
    if arguments.own_gateways {
        plan.gateway = Gateway::Own;
    }
    let world = World::build(&plan)?;
    let mut out = std::io::stdout().lock();
    for place in world.places() {
        let pid = place.init_pid();
        writeln!(out, "{}: nsenter -t {pid} -m -u -i -p -n", place.name())?;
        for netns in place.netns_names()? {
            let path = format!("/proc/{pid}/root/run/netns/{netns}");
            writeln!(out, "  {netns}: nsenter -t {pid} -m -u -i -p --net={path}")?;
        }
    }
    writeln!(out, "ready; ends with standard input")?;
    out.flush()?;
    let mut stdin = std::io::stdin().lock();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored), Ok(1..)) {}
    Ok(())
}
