//! The command line, and the help that teaches it.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use wan::Change;

/// Longest round trip between the sites.
const RTT_MS_MAX: u64 = 500;
/// Most packets lost on the way, in parts per million.
const LOSS_PPM_MAX: u32 = 50_000;
/// The slowest and the fastest link between the sites.
const RATE_MBIT: std::ops::RangeInclusive<u64> = 50..=10_000;
/// Most TCP flows.
const FLOWS_MAX: u64 = 1_000;
/// So many TCP flows come with one UDP session.
const FLOWS_PER_SESSION: usize = 10;

const PPM_PER_PERCENT: f64 = 10_000.0;

const HELP: &str = "\
What you see is the real thing: two data centers made of namespaces on this machine, each with a
causeway-proxy, a causeway-gslb and a `causeway agent`; a real virtual machine under QEMU; clients that
check every byte. What is typed at the operator's desk is shown with a $ and is what you would type.

Examples:
  cargo demo
      200 TCP flows and 20 UDP sessions over 20 ms, 0.1 % loss and 1 Gbit/s.
  cargo demo --rtt 80 --loss 1 --rate 200
      Sites far apart, over a poor link.
  cargo demo --back
      There and back again, under the same connections.
  cargo demo --keep
      Leaves all of it running, and says how to enter each host and what to type there.

Needs root, for namespaces, TUN devices and QEMU; nothing of the machine's own network is touched, and
everything is taken away at the end, also after Ctrl-C. The report stays.

Exit codes: 0 every flow survived; 1 one did not, or the move failed; 2 wrong usage; 3 this machine
cannot run it; 130 it was interrupted.";

/// Moves a running virtual machine between two sites under its users' connections, and tells what
/// became of each.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo", version, after_help = HELP)]
pub(crate) struct Arguments {
    /// Round trip between the sites.
    #[arg(long, value_name = "MS", default_value_t = 20,
        value_parser = RangedU64ValueParser::<u64>::new().range(0..=RTT_MS_MAX))]
    pub(crate) rtt: u64,
    /// Packets lost between the sites, of a hundred; up to 5.
    #[arg(long, value_name = "PERCENT", default_value = "0.1", value_parser = Loss::read)]
    pub(crate) loss: Loss,
    /// Rate of the link between the sites.
    #[arg(long, value_name = "MBIT", default_value_t = 1_000,
        value_parser = RangedU64ValueParser::<u64>::new().range(RATE_MBIT))]
    pub(crate) rate: u64,
    /// TCP flows; a tenth as many UDP sessions come with them.
    #[arg(long, value_name = "N", default_value_t = 200,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=FLOWS_MAX))]
    pub(crate) flows: usize,
    /// Move the VM back as well, under the same connections.
    #[arg(long)]
    pub(crate) back: bool,
    /// Leave it running at the end, to play with.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where the report is left; cargo's target folder has a folder 'demo' for it, if left out.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// Packets lost, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    ppm: u32,
}

impl Loss {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within bounds by then"
    )]
    fn read(text: &str) -> Result<Loss, String> {
        let percent_max = f64::from(LOSS_PPM_MAX) / PPM_PER_PERCENT;
        let percent: Option<f64> = text.parse().ok();
        let fits = percent.filter(|percent| (0.0..=percent_max).contains(percent));
        let percent = fits.ok_or_else(|| format!("write 0 to {percent_max}, such as 0.1"))?;
        Ok(Loss { ppm: (percent * PPM_PER_PERCENT).round() as u32 })
    }

    pub(crate) fn percent(self) -> f64 {
        f64::from(self.ppm) / PPM_PER_PERCENT
    }
}

impl Arguments {
    /// How many UDP sessions come with the flows.
    pub(crate) fn sessions(&self) -> usize {
        self.flows.div_ceil(FLOWS_PER_SESSION)
    }

    /// What lies between the sites.
    pub(crate) fn wan(&self) -> Change {
        Change {
            delay_us: Some(self.rtt * 500),
            loss_ppm: Some(self.loss.ppm),
            rate_bits_per_s: Some(self.rate * 1_000_000),
            ..Change::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["demo"].into_iter().chain(words.split_whitespace()))
    }

    #[test]
    fn what_is_left_out_is_as_the_help_says() {
        let usual = asked("").unwrap();
        assert_eq!(
            (usual.flows, usual.sessions(), usual.back, usual.keep),
            (200, 20, false, false)
        );
        let wan = usual.wan();
        assert_eq!((wan.delay_us, wan.loss_ppm), (Some(10_000), Some(1_000)));
        assert_eq!(wan.rate_bits_per_s, Some(1_000_000_000));
        assert_eq!(asked("--flows 12").unwrap().sessions(), 2);
        assert_eq!(asked("--loss 0.25").unwrap().loss, Loss { ppm: 2_500 });
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (words, named) in [
            ("--rtt 501", "--rtt"),
            ("--rtt -1", "-1"),
            ("--rtt 20ms", "20ms"),
            ("--loss 6", "--loss"),
            ("--loss NaN", "NaN"),
            ("--loss -0.1", "-0.1"),
            ("--rate 0", "--rate"),
            ("--rate 10001", "--rate"),
            ("--flows 0", "--flows"),
            ("--flows 1001", "--flows"),
            ("--flow 3", "--flow"),
            ("there", "there"),
        ] {
            let refused = asked(words).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{words}");
            assert!(refused.to_string().contains(named), "{refused}");
        }
    }
}
