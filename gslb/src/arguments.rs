//! The command line, and the help that teaches it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use daemon::program::RunArguments;

const EXAMPLES: &str = "\
Examples:
  causeway-gslb check --config /etc/causeway/gslb.toml
      Say what the file means, and every mistake in it, without starting anything.

  causeway-gslb run --config /etc/causeway/gslb.toml
      Answer until SIGTERM. SIGHUP reads file and certificates again: all of it
      is taken, or nothing changes and the log says why. Nothing that was steered
      is forgotten, neither then nor over a restart.

A first configuration; paths are relative to the file, names are whole names:

  site = \"a\"
  name = \"ns1\"

  [control]
  listen = \"192.0.2.10:7403\"

  [identity]
  certificate = \"certificate.pem\"
  key = \"key.pem\"
  authority = \"ca.pem\"

  [state]
  folder = \"/var/lib/causeway/gslb\"

  [dns]
  listen = [\"192.0.2.10:53\", \"[2001:db8::10]:53\"]     # UDP and TCP

  [[zone]]
  name = \"example.net\"
  ns = [\"ns1.example.net\"]
  contact = \"hostmaster@example.net\"
  ttl_s = 3600
  negative_ttl_s = 5

  [[zone.record]]
  name = \"ns1.example.net\"
  type = \"A\"                          # A, AAAA, CNAME, MX or TXT
  data = [\"192.0.2.10\"]

  [[steered]]
  name = \"shop.example.net\"
  vms = [\"web-1\"]                     # the name is where all of these run
  initial_site = \"a\"                  # until something else is said
  ttl_s = 300
  ttl_moving_s = 5                    # while a move is prepared

  [[steered.at]]
  site = \"a\"
  address = [\"192.0.2.80\", \"2001:db8::80\"]

  [[steered.at]]
  site = \"b\"
  address = [\"198.51.100.80\"]

`causeway pki issue --role gslb` writes the three files of [identity].

Exit codes: 0 done; 2 usage, configuration or certificates are wrong; 1 all else.";

/// An authoritative name server that answers with the site that serves a name now.
#[derive(Debug, Parser)]
#[command(name = "causeway-gslb", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer until a signal ends it.
    Run(RunArguments),
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
