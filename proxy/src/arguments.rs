//! The command line, and the help that teaches it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use daemon::program::RunArguments;

const EXAMPLES: &str = "\
Examples:
  causeway-proxy check --config /etc/causeway/proxy.toml
      Say what the file means, and every mistake in it, without starting anything.

  causeway-proxy run --config /etc/causeway/proxy.toml
      Serve until SIGTERM. SIGHUP reads file and certificates again: all of it
      is taken, or nothing changes and the log says why.

  causeway-proxy down --config /etc/causeway/proxy.toml
      After the last run: the leg goes back to where it came from, with its
      addresses. A restart or an upgrade does not need it.

A first configuration; paths are relative to the file:

  site = \"a\"

  [control]
  listen = \"192.0.2.10:7401\"

  [identity]
  certificate = \"certificate.pem\"
  key = \"key.pem\"
  authority = \"ca.pem\"

  [state]
  folder = \"/var/lib/causeway/proxy\"

  [log]
  level = \"info\"                      # \"info,access=warn\": no entry for each flow

  [[service]]
  name = \"web\"
  protocol = \"tcp\"
  listen = [\"192.0.2.10:80\", \"[2001:db8::10]:80\"]   # VIPs of this host

  [service.health]                    # TCP connections, 2 s apart unless said otherwise
  fall = 2

  [[service.backend]]
  name = \"web-1\"
  address = [\"10.0.0.11:80\", \"[fd10::11]:80\"]        # one for each family of the VIPs
  vm = \"web-1\"                        # where it is a VM that may move

  [[network]]                         # where VMs move: the proxy's leg on their subnet
  name = \"apps\"
  leg = \"eth1\"                        # an interface of its own
  gateway = [\"10.0.0.1\", \"fd10::1\"]

`causeway pki issue --role proxy` writes the three files of [identity].

Exit codes: 0 done; 2 usage, configuration or certificates are wrong; 1 all else.";

/// A connection-aware layer-4 proxy, and this site's end of the tunnel.
#[derive(Debug, Parser)]
#[command(name = "causeway-proxy", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve until a signal ends it.
    Run(RunArguments),
    /// Give the leg back and take away all that was set up in the kernel; no proxy may run.
    Down {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what a configuration means, or everything that is wrong with it.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Answer as one JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
}
