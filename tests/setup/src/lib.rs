//! What the demo can be asked for. The first program knows it as well, so that words that make no
//! sense are refused before anything is installed or built for them; and it has no dependencies, so
//! that nor has this.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Round trips between the sites, in milliseconds. The VM writes to its disk every 200 ms, and a mirror
/// that has not carried one write before the next one is never in step.
const RTT_MS: RangeInclusive<u64> = 0..=150;
/// The most of a million packets that the way between the sites may lose.
const LOSS_PPM_MAX: u32 = 50_000;
/// Rates of the link between the sites, in Mbit/s.
const RATE_MBIT: RangeInclusive<u64> = 50..=10_000;
/// How many TCP flows.
const FLOWS: RangeInclusive<u64> = 1..=1_000;
/// So many of them come with one UDP session.
const FLOWS_PER_SESSION: usize = 10;
const PPM_PER_PERCENT: f64 = 10_000.0;

/// The help that teaches the demo.
pub const DEMO_HELP: &str = "\
Moves a running virtual machine between two data centers while its users stay connected, from
nothing to the report, in about a minute after the build.

Usage: cargo demo [OPTIONS]

      --rtt MS         round trip between the sites, 0 to 150 [20]
      --loss PERCENT   packets lost between them, 0 to 5 [0.1]
      --rate MBIT      rate of the link between them, 50 to 10000 [1000]
      --flows N        TCP flows of its users, 1 to 1000; a tenth as many UDP sessions [200]
      --back           move the VM back as well, under the same connections
      --keep           leave it running at the end, to play with; says how
      --out FOLDER     where the reports are left [demo in cargo's target folder]
      --yes            install what is missing without asking
  -h, --help           this text

What you see is real: two sites made of namespaces on this machine, each with a causeway-proxy, a
causeway-gslb and a `causeway agent`; Linux in a virtual machine under QEMU; clients that check every
byte and know each connection again. A line that begins with $ was typed at the operator's desk, and
is what you would type. They are installed from examples/two-sites.

Examples:
  cargo demo --rtt 80 --loss 1 --rate 200     sites far apart, over a poor line
  cargo demo --flows 12 --back                there and back again
  cargo demo --keep                           and then it is yours

Needs root, or sudo: for packages, namespaces, TUN devices and QEMU. Nothing of the machine's own
network is touched. Ctrl-C takes everything away, at any time; the reports stay.

Exit codes: 0 every flow survived; 1 one did not, or the move failed; 2 wrong usage; 3 this machine
cannot run it; 130 interrupted.
";

/// What somebody wants the demo to be like.
#[derive(Debug, Clone, PartialEq)]
pub struct Demo {
    /// Round trip between the sites.
    pub rtt_ms: u64,
    /// Packets lost between them, each way, of a million.
    pub loss_ppm: u32,
    /// Rate of the link between them.
    pub rate_mbit: u64,
    /// TCP flows.
    pub flows: usize,
    /// Whether the VM moves back as well.
    pub back: bool,
    /// Whether all of it stays, to play with.
    pub keep: bool,
    /// Where reports are left.
    pub out: Option<PathBuf>,
}

/// What the words say.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Run.
    Run(Demo),
    /// Teach.
    Help,
}

/// Words that make no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordsError {
    /// There is no such option.
    Unknown(String),
    /// Nothing follows an option that needs it.
    NoValue(String),
    /// What follows an option cannot be.
    Value {
        /// The option.
        option: String,
        /// What follows it.
        value: String,
        /// What could.
        wanted: String,
    },
}

impl std::error::Error for WordsError {}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordsError::Unknown(word) => write!(f, "there is no option '{word}'"),
            WordsError::NoValue(option) => write!(f, "nothing follows {option}; give it a value"),
            WordsError::Value { option, value, wanted } => {
                write!(f, "{option} cannot be '{value}'; write {wanted}")
            }
        }
    }
}

impl Default for Demo {
    fn default() -> Demo {
        Demo {
            rtt_ms: 20,
            loss_ppm: 1_000,
            rate_mbit: 1_000,
            flows: 200,
            back: false,
            keep: false,
            out: None,
        }
    }
}

impl Demo {
    /// Reads the words after `cargo demo`.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Asked, WordsError> {
        let mut demo = Demo::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (option, joined) = match word.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None => (word.clone(), None),
            };
            let is_flag = matches!(option.as_str(), "--back" | "--keep" | "-h" | "--help");
            if is_flag && joined.is_some() {
                return Err(WordsError::Unknown(word));
            }
            let mut value = || {
                let value = joined.clone().or_else(|| words.next());
                value.ok_or_else(|| WordsError::NoValue(option.clone()))
            };
            match option.as_str() {
                "--back" => demo.back = true,
                "--keep" => demo.keep = true,
                "-h" | "--help" => return Ok(Asked::Help),
                "--rtt" => demo.rtt_ms = whole(&option, value()?, &RTT_MS)?,
                "--loss" => demo.loss_ppm = ppm(&option, value()?)?,
                "--rate" => demo.rate_mbit = whole(&option, value()?, &RATE_MBIT)?,
                "--flows" => demo.flows = whole(&option, value()?, &FLOWS)?,
                "--out" => demo.out = Some(folder(&option, value()?)?),
                _ => return Err(WordsError::Unknown(word)),
            }
        }
        Ok(Asked::Run(demo))
    }

    /// How many UDP sessions come with the flows.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.flows.div_ceil(FLOWS_PER_SESSION)
    }

    /// Packets lost, of a hundred.
    #[must_use]
    pub fn loss_percent(&self) -> f64 {
        f64::from(self.loss_ppm) / PPM_PER_PERCENT
    }
}

fn whole<N: TryFrom<u64>>(
    option: &str,
    value: String,
    within: &RangeInclusive<u64>,
) -> Result<N, WordsError> {
    let number = value.parse().ok().filter(|number| within.contains(number));
    number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| WordsError::Value {
        option: option.to_owned(),
        value,
        wanted: format!("a whole number, {} to {}", within.start(), within.end()),
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is within bounds by then"
)]
fn ppm(option: &str, value: String) -> Result<u32, WordsError> {
    let percent_max = f64::from(LOSS_PPM_MAX) / PPM_PER_PERCENT;
    let percent = value.parse().ok().filter(|percent| (0.0..=percent_max).contains(percent));
    let ppm = percent.map(|percent| (percent * PPM_PER_PERCENT).round() as u32);
    ppm.ok_or_else(|| WordsError::Value {
        option: option.to_owned(),
        value,
        wanted: format!("a percentage, 0 to {percent_max}"),
    })
}

fn folder(option: &str, value: String) -> Result<PathBuf, WordsError> {
    if value.is_empty() {
        let (option, wanted) = (option.to_owned(), "a folder".to_owned());
        return Err(WordsError::Value { option, value, wanted });
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Asked, WordsError> {
        Demo::read(words.split_whitespace().map(str::to_owned))
    }

    fn run(words: &str) -> Demo {
        match asked(words) {
            Ok(Asked::Run(demo)) => demo,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_is_as_the_help_says() {
        let usual = run("");
        for (option, value) in [
            ("--rtt", usual.rtt_ms.to_string()),
            ("--loss", usual.loss_percent().to_string()),
            ("--rate", usual.rate_mbit.to_string()),
            ("--flows", usual.flows.to_string()),
        ] {
            let line = DEMO_HELP.lines().find(|line| line.trim_start().starts_with(option));
            assert!(line.unwrap().ends_with(&format!("[{value}]")), "{line:?}");
        }
        assert_eq!((usual.sessions(), usual.back, usual.keep), (20, false, false));
    }

    #[test]
    fn options_are_taken_in_any_order_and_with_either_spelling() {
        let demo = run("--back --flows 12 --loss=0.25 --rtt=0 --keep --rate 50 --out there");
        let wanted = Demo {
            rtt_ms: 0,
            loss_ppm: 2_500,
            rate_mbit: 50,
            flows: 12,
            back: true,
            keep: true,
            out: Some("there".into()),
        };
        assert_eq!((&demo, demo.sessions()), (&wanted, 2));
        assert_eq!(asked("--flows 12 --help"), Ok(Asked::Help));
    }

    #[test]
    fn bad_words_are_refused_by_name() {
        for (words, named) in [
            ("--rtt 151", "--rtt cannot be '151'"),
            ("--rtt -1", "'-1'"),
            ("--rtt 20ms", "'20ms'"),
            ("--rtt", "nothing follows --rtt"),
            ("--loss 5.1", "--loss cannot be '5.1'; write a percentage, 0 to 5"),
            ("--loss NaN", "'NaN'"),
            ("--loss -0.1", "'-0.1'"),
            ("--rate 49", "--rate cannot be '49'; write a whole number, 50 to 10000"),
            ("--rate=10001", "'10001'"),
            ("--flows 0", "--flows cannot be '0'"),
            ("--flows 1001", "'1001'"),
            ("--out=", "--out cannot be ''"),
            ("--flow 3", "no option '--flow'"),
            ("--back=yes", "no option '--back=yes'"),
            ("there", "no option 'there'"),
        ] {
            let said = asked(words).unwrap_err().to_string();
            assert!(said.contains(named), "{words}: {said}");
        }
    }
}
