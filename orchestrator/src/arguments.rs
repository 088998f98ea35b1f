//! The command line, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use daemon::program::RunArguments;
use orchestrator::pki::LEAF_DAYS;
use placement::{Identity, PartName, Role, SiteName};

const EXAMPLES: &str = "\
Examples:
  causeway pki init --out pki
      Make a CA. Its key is pki/private/ca.key; keep that folder off every site.

  causeway pki issue --pki pki --site a --role proxy --name p1 --out a-p1
  causeway pki issue --pki pki --site a --role agent --name hv1 --out a-hv1
      Make the bundles of site a's proxy and of one of its hypervisor hosts.

  causeway pki issue --pki pki --site a --role viewer --name grafana --out grafana
      Make papers for something that may look and change nothing.

  causeway agent check --config /etc/causeway/agent.toml
  causeway agent run --config /etc/causeway/agent.toml
      Say what a hypervisor host's configuration means; then serve on it.

Exit codes: 0 done; 2 what was asked for cannot be; 1 all else.";

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

/// Moves running virtual machines between sites while their users stay connected.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the certificates that all parts know each other by.
    #[command(subcommand)]
    Pki(Pki),
    /// Own QEMU and the VMs' ports on this hypervisor host.
    #[command(subcommand, after_help = AGENT)]
    Agent(Agent),
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
