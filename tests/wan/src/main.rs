//! `causeway-wan`: the network between the sites, as a program.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use wan::{Change, Client, Emulator, Quitter, Reply, Request, Settings, WanPlan};

const EXAMPLE: &str = "\
Example: two sites 10 ms apart, 1 Gbit/s, 0.1 % loss

  causeway-wan run --control /run/lab/wan.sock --seed 7 \\
    --port a=/run/netns/router-a:wan0:10.255.1.0/24,fd00:1::/64 \\
    --port b=/run/netns/router-b:wan0:10.255.2.0/24,fd00:2::/64 \\
    --all delay_us=10000,rate_bits_per_s=1000000000,loss_ppm=1000 &

  ip -n router-a address add 10.255.1.1/24 dev wan0
  ip -n router-a link set wan0 up
  ip -n router-a route add 10.255.2.0/24 dev wan0        (and the same at b)

  causeway-wan ask /run/lab/wan.sock '{\"do\":\"cut\",\"pair\":{\"from\":\"a\",\"to\":\"b\",\"both\":true}}'
  causeway-wan ask /run/lab/wan.sock '{\"do\":\"counters\"}'

It makes the devices, with their MTU and queue length; addresses, routes and 'up' are yours, so are
namespaces. The devices disappear when it ends. It says 'ready' once it listens.
";

/// Emulates the network between sites: delay, jitter, loss, rate, queue and silent cuts, per
/// direction, from a seed.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Carry packets between ports until told to quit.
    #[command(after_help = EXAMPLE)]
    Run(RunArguments),
    /// Ask a running emulator something; prints its answer.
    Ask {
        /// Its control socket.
        socket: PathBuf,
        /// One line of JSON, for example {"do":"counters"}.
        request: String,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Where to listen for control; made with mode 0600.
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// A site: its name, its network namespace ('-' for this one), the device to make there, and the
    /// prefixes reached through it. At least two.
    #[arg(
        long = "port",
        value_name = "NAME=NAMESPACE:DEVICE:PREFIX[,PREFIX...]",
        value_parser = str::parse::<wan::PortPlan>,
        required = true
    )]
    ports: Vec<wan::PortPlan>,
    /// What every direction is like: delay_us, jitter_us, loss_ppm, rate_bits_per_s (0 for no
    /// bottleneck), queue_bytes_max; what is not named is that of a perfect line.
    #[arg(long, value_name = "SETTINGS", value_parser = str::parse::<Change>)]
    all: Option<Change>,
    /// What one direction is like instead, for example a/b:delay_us=30000.
    #[arg(long = "link", value_name = "FROM/TO:SETTINGS", value_parser = str::parse::<wan::LinkPlan>)]
    links: Vec<wan::LinkPlan>,
    /// Decides every loss and jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Largest packet on the line.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u16,
    /// End when standard input does: give it a pipe, and it cannot outlive whoever holds the other
    /// end.
    #[arg(long)]
    die_with_stdin: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Run(arguments) => run(arguments),
        Verb::Ask { socket, request } => ask(&socket, &request),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("causeway-wan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let settings = Settings::default().changed(arguments.all.unwrap_or_default());
    let plan = WanPlan {
        seed: arguments.seed,
        ports: arguments.ports,
        mtu_bytes: arguments.mtu,
        settings: settings.context("--all")?,
        links: arguments.links,
    };
    let emulator = Emulator::open(&plan, &arguments.control)?;
    if arguments.die_with_stdin {
        die_with_stdin(emulator.quitter())?;
    }
    let mut out = std::io::stdout();
    // Whoever started it may not care to read this; that is no reason to end.
    let _ = writeln!(out, "seed {}\nready", plan.seed).and_then(|()| out.flush());
    Ok(emulator.run()?)
}

fn ask(socket: &Path, request: &str) -> anyhow::Result<()> {
    let request: Request = serde_json::from_str(request)
        .context("the request is not understood; write for example {\"do\":\"counters\"}")?;
    let reply = Client::connect(socket)?.ask(&request)?;
    if let Reply::Refused { reason } = reply {
        anyhow::bail!("refused: {reason}");
    }
    println!("{}", serde_json::to_string(&reply)?);
    Ok(())
}

fn die_with_stdin(quitter: Quitter) -> anyhow::Result<()> {
    let watch = move || {
        let mut stdin = std::io::stdin().lock();
        // An error is an end too; bytes mean nothing.
        while matches!(stdin.read(&mut [0; 64]), Ok(1..)) {}
        quitter.quit();
    };
    thread::Builder::new().name("stdin".into()).spawn(watch).context("no thread for stdin")?;
    Ok(())
}
