//! The command line, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use daemon::program::RunArguments;
use orchestrator::cli::Common;
use orchestrator::cli::commands::{Abort, Move, Status, VmStart, Wish};
use orchestrator::cli::flows::Flows;
use orchestrator::cli::reclaim::Reclaim;
use orchestrator::cli::report::Report;
use orchestrator::pki::LEAF_DAYS;
use placement::{Identity, PartName, Role, SiteName};

const EXAMPLES: &str = "\
Examples:
  causeway init causeway.toml --out causeway
      From one description of sites and services: every configuration, every certificate.

  causeway pki init --out pki
      Make a CA. Its key is pki/private/ca.key; keep that folder off every site.

  causeway pki issue --pki pki --site a --role proxy --name p1 --out a-p1
  causeway pki issue --pki pki --site a --role agent --name hv1 --out a-hv1
      Make the bundles of site a's proxy and of one of its hypervisor hosts.

  causeway pki issue --pki pki --site a --role viewer --name grafana --out grafana
      Make papers for something that may look and change nothing.

  causeway vm start web --site a --definition web.toml --new
  causeway plan web --to b
  causeway move web --to b
  causeway status web --follow
      Start a VM, see what a move would be like, move it, watch.

  causeway reclaim web
      Give back what the move left, once nobody uses it.

  causeway report web --html web.html
      What became of every connection that was alive when it moved.

  causeway serve run --config /etc/causeway/serve.toml
      The service that these ask; ~/.config/causeway/operator.toml says where it is:
        [server]
        address = \"192.0.2.10:7400\"
        site = \"hq\"
        name = \"serve\"
        [identity]                  # `causeway pki issue --role operator` writes these
        certificate = \"certificate.pem\"
        key = \"key.pem\"
        authority = \"ca.pem\"

  causeway agent check --config /etc/causeway/agent.toml
  causeway agent run --config /etc/causeway/agent.toml
      Say what a hypervisor host's configuration means; then serve on it.

Exit codes: 0 done; 2 what was asked for cannot be; 3 a move was undone; 1 all else.";

const AGENT: &str = "\
A first configuration; paths are relative to the file:

  site = \"a\"
  name = \"hv1\"                      # as in the certificate

  [control]
  listen = \"192.0.2.3:7402\"

  [identity]                        # `causeway pki issue --role agent` writes these
  certificate = \"certificate.pem\"
  key = \"key.pem\"
  authority = \"ca.pem\"

  [state]
  folder = \"/var/lib/causeway/agent\"

  [qemu]
  user = \"causeway-qemu\"            # never root; useradd --system causeway-qemu
  accelerator = \"kvm\"               # tcg where guests cannot run on the processor

  [folders]
  disks = \"/var/lib/causeway/disks\"
  sockets = \"/run/causeway/agent\"   # 0700: monitors, and the ends of a move's channels

  [[image]]                         # what definitions may boot
  name = \"debian\"
  kernel = \"/var/lib/causeway/images/vmlinuz\"
  initramfs = \"/var/lib/causeway/images/initrd\"

  [[network]]                       # what definitions may connect to
  name = \"app\"
  bridge = \"br0\"
  proxy = \"p1\"                      # the proxy whose leg stands on it
  proxy_address = \"192.0.2.10:7401\" # where it is asked to keep packets back

The agent needs CAP_NET_ADMIN for taps, and root to start QEMU as its user. VMs outlive
it: a restarted agent finds them again, and gives up a copy that was under way.
Without proxy_address no packets are kept back: the agent refuses `hold`, and stops without one.

Exit codes: 0 done; 2 usage, configuration or certificates are wrong; 1 all else.";

const SERVE: &str = "\
A first configuration; paths are relative to the file:

  site = \"hq\"
  name = \"serve\"                    # as in the certificate

  [control]
  listen = \"192.0.2.10:7400\"

  [identity]                        # `causeway pki issue --role orchestrator` writes these
  certificate = \"certificate.pem\"
  key = \"key.pem\"
  authority = \"ca.pem\"

  [state]
  folder = \"/var/lib/causeway/serve\"

  [[sites]]                         # each site, any number
  name = \"a\"

  [[sites.proxy]]
  name = \"p1\"
  address = \"198.51.100.2:7401\"

  [[sites.agent]]
  name = \"hv1\"
  address = \"198.51.100.3:7402\"

  [[sites]]
  name = \"b\"
  # ...

Each service has a name of its own: what an earlier one of that name began, it goes on with.

Exit codes: 0 done; 2 usage, configuration or certificates are wrong; 1 all else.";

const DEFINITION: &str = "\
A definition, as TOML; images and networks are named as the agents name them:

  name = \"web\"
  uuid = \"6f0e7a1c-0b7e-4d5f-9a57-3b1f0a6f9f10\"
  machine = \"pc-q35-7.2\"           # versioned: the same at both ends of a move
  memory_kib = 262016
  processors = 1

  [[disks]]
  bytes = 33554432

  [[cards]]
  mac = \"02:00:00:00:00:01\"
  network = \"app\"
  addresses = [\"10.9.2.1\", \"fd10::2:1\"]

  [boot]
  image = \"debian\"
  words = [\"console=ttyS0\"]

Exit codes: 0 it runs; 2 it cannot be started like this; 1 all else.";

const MOVE: &str = "\
Examples:
  causeway move web --to b
      Move VM web to the only host of site b, and tell how it goes.
  causeway move web --to b --agent hv2 --rate-mbit 400 --no-wait
      To one of several hosts, slower, and without waiting for the end.

Ctrl-C ends the telling, not the move: the service drives it. `causeway status web --follow` tells
again, `causeway abort web.1` calls it off.

Exit codes: 0 the VM runs at the target; 3 the move was undone and the VM runs where it ran; 2 what
was asked for cannot be; 1 all else.";

const RECLAIM: &str = "\
Examples:
  causeway status web
      How far the places that VM web has left are drained.
  causeway reclaim web
      Give back each of them: what leads packets from there to the VM, and the disk set aside.
  causeway reclaim web --release 2 --keep-disk
      One of them, and leave the disk web.moved-2 where it lies.
  causeway flows kill 650f3a-1a
  causeway reclaim web --force
      Break off one flow that keeps a place; or all that do.

It is refused while the VM is not well where it runs, while a move of it is under way, and while
flows live at the place: they are listed then. What was done is not done again: after any failure,
say the same once more.

Exit codes: 0 done; 2 it cannot be, for the reason told; 1 all else.";

const REPORT: &str = "\
Examples:
  causeway report web
      The ledger of the last move of VM web, as a table.
  causeway report web.3 --html web.html --json web.json
      Of its third move, also as a page for browsers, and as the file that has all of it.
  causeway report --from web.json --html web.html
      The same page, made again from the file; no service is asked.

Everybody who carries flows is asked anew for each report, so that one asked for later shows what
ended meanwhile. What a proxy told last is kept when it forgets: it does with `reclaim`, and when it
is restarted.

Exit codes: 0 done; 4 with --strict, where a flow broke or is not accounted for, or a proxy could
not be asked; 2 what was asked for cannot be; 1 all else.";

const INIT: &str = "\
The folder then holds the CA (authority/, which stays off every host) and one folder for each daemon
and operator (sites/SITE/ROLE-NAME/) with its configuration, its own key, its certificate and the
CA's; copy each to its host. It is there whole or not at all, and nothing is overwritten.

A description; examples/two-sites and examples/three-sites have whole ones:

  [serve]
  site = \"hq\"
  name = \"serve\"
  address = \"192.0.2.10:7400\"
  operators = [\"ada\"]

  [[site]]                          # each site, any number
  name = \"a\"

  [[site.proxy]]
  name = \"p1\"
  control = \"192.0.2.20:7401\"
  tunnel = \"198.51.100.20:7403\"   # where other sites' proxies reach it
  network = \"app\"
  leg = \"eth1\"                    # an interface of its own on that network
  gateway = [\"10.0.0.1\"]

  [[site.host]]                     # a hypervisor host
  name = \"hv1\"
  address = \"192.0.2.20:7402\"
  bridge = \"br0\"

  [[site.name_server]]
  name = \"ns1\"
  control = \"192.0.2.20:7404\"
  host = \"ns-a.example.net\"
  dns = [\"198.51.100.20:53\"]

  [[zone]]
  name = \"example.net\"
  contact = \"hostmaster@example.net\"

  # [[image]], [[vm]], [[service]] with [[service.at]], [[steered]]: as in the examples

A site later: describe it in the same file, and `causeway init causeway.toml --out FOLDER --add`.

Of each pair of proxies exactly one dials the other: the later by site and name, or the only one
that has no 'tunnel'.

Exit codes: 0 done; 2 the description is wrong or the folder holds something; 1 all else.";

/// Moves running virtual machines between sites while their users stay connected.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a VM into the world, or see where VMs run.
    #[command(subcommand)]
    Vm(Vm),
    /// Say whether a move can be made, and what it would be like. Nothing is touched.
    #[command(after_help = "Exit codes: 0 it can; 2 it cannot, for the reasons told; 1 all else.")]
    Plan(Wish),
    /// Move a running VM to another site, or to another host of one.
    #[command(after_help = MOVE)]
    Move(Move),
    /// Tell of moves: all, one, or one as it goes.
    Status(Status),
    /// Call a move off: the VM stays where it is. Refused once the VM runs at the target.
    Abort(Abort),
    /// Give back what moves of a VM left where it was.
    #[command(after_help = RECLAIM)]
    Reclaim(Reclaim),
    /// List the connections that proxies carry, or kill some.
    Flows(Flows),
    /// Tell what became of every flow in a move, as a table, a page and a file.
    #[command(after_help = REPORT)]
    Report(Report),
    /// Drive moves: the service behind these commands.
    #[command(subcommand, after_help = SERVE)]
    Serve(Serve),
    /// Make all configurations and certificates from one description of sites and services.
    #[command(after_help = INIT)]
    Init(Installation),
    /// Make the certificates that all parts know each other by.
    #[command(subcommand)]
    Pki(Pki),
    /// Own QEMU and the VMs' ports on this hypervisor host.
    #[command(subcommand, after_help = AGENT)]
    Agent(Agent),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// Start a VM for the first time.
    #[command(after_help = DEFINITION)]
    Start(VmStart),
    /// List the VMs, and where each runs.
    List(Common),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
    /// Serve until a signal ends it; moves go on when the next one starts.
    #[command(after_help = SERVE)]
    Run(RunArguments),
    /// Say what a configuration means, or everything that is wrong with it.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Serve until a signal ends it; VMs run on.
    #[command(after_help = AGENT)]
    Run(RunArguments),
    /// Say what a configuration means, or everything that is wrong with it.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pki {
    /// Make a CA in a new folder.
    Init(Init),
    /// Make certificate and key of one part, in a new folder of its own.
    #[command(
        after_help = "The folder then holds certificate.pem, key.pem (0600) and ca.pem, as a \
        daemon's [identity] wants them.\nTo renew, issue into a new folder, move the files over \
        the old ones, and send the daemon SIGHUP."
    )]
    Issue(Issue),
}

#[derive(Debug, Args)]
pub(crate) struct Installation {
    /// The description, as TOML.
    #[arg(value_name = "DESCRIPTION")]
    pub(crate) description: PathBuf,
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Bring what is new in the description, such as a site, into the installation in that folder. Its
    /// keys stay, configurations are made anew, and what it was is kept as FOLDER.before.
    #[arg(long)]
    pub(crate) add: bool,
    /// How long the certificates are valid.
    #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) days: u32,
    /// Say what was written as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Say what was written as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The folder that `pki init` made.
    #[arg(long, value_name = "DIR")]
    pub(crate) pki: PathBuf,
    /// The site that the part stands at.
    #[arg(long)]
    site: SiteName,
    /// What it may do: orchestrator, agent, proxy, gslb, operator or viewer.
    #[arg(long)]
    role: Role,
    /// Which one of its role at its site.
    #[arg(long)]
    name: PartName,
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How long the certificate is valid.
    #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) days: u32,
    /// Say what was written as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Issue {
    /// Whose certificate it is to be.
    pub(crate) fn identity(self) -> Identity {
        Identity { site: self.site, role: self.role, name: self.name }
    }
}
