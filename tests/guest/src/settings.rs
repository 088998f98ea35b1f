//! What a guest is told: words of the kernel's command line inside a VM, flags on a host. Both are the
//! same words: `causeway.port=7` there is `--port=7` here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// How a word of ours begins on the kernel's command line.
pub const WORD_PREFIX: &str = "causeway.";

/// How a flag begins.
pub const FLAG_PREFIX: &str = "--";

/// Port of the checked service, unless told otherwise.
pub const PORT: u16 = 7000;

/// Port of the control port, unless told otherwise.
pub const CONTROL_PORT: u16 = 7001;

const NAMES: &str = "addr4, gw4, addr6, gw6, listen, port, control, disk, disk_start, records, dirty, \
                     dirty_set, heartbeat, neighbours, neighbour_idle, neighbour_paced";

/// An address with the length of its subnet's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// The subnet's prefix.
    pub prefix: u8,
}

/// All that a guest can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `addr4`: the IPv4 address of eth0, with its prefix. Inside a VM only, as the next three.
    pub addr4: Option<Interface>,
    /// `gw4`: the IPv4 gateway.
    pub gw4: Option<IpAddr>,
    /// `addr6`: the IPv6 address.
    pub addr6: Option<Interface>,
    /// `gw6`: the IPv6 gateway.
    pub gw6: Option<IpAddr>,
    /// `listen`: addresses of the service and of the control port, separated by commas; all, unless
    /// told otherwise.
    pub listen: Vec<IpAddr>,
    /// `port`: of the checked service, TCP and UDP; 0 takes a free one.
    pub port: u16,
    /// `control`: the control port; 0 takes a free one.
    pub control: u16,
    /// `disk`: the disk for records.
    pub disk: Option<PathBuf>,
    /// `disk_start`: where on the disk the first record lies.
    pub disk_start: u64,
    /// `records`: records written in each second.
    pub records_per_s: u32,
    /// `dirty`: MiB of memory dirtied in each second.
    pub dirty_mib_per_s: u32,
    /// `dirty_set`: MiB of memory that are dirtied in turn.
    pub dirty_set_mib: u32,
    /// `heartbeat`: milliseconds between two lines on the console that say the event loop turns; 0:
    /// none. A VM that has moved has no other reason to write there.
    pub heartbeat_ms: u64,
    /// `neighbours`: addresses to keep connections to from the start on, separated by commas.
    pub neighbours: Vec<SocketAddr>,
    /// `neighbour_idle`: idle connections in all.
    pub neighbour_idle: usize,
    /// `neighbour_paced`: connections with a message of 200 bytes each 100 ms in all.
    pub neighbour_paced: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            addr4: None,
            gw4: None,
            addr6: None,
            gw6: None,
            listen: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            port: PORT,
            control: CONTROL_PORT,
            disk: None,
            disk_start: 0,
            records_per_s: 0,
            dirty_mib_per_s: 0,
            dirty_set_mib: 0,
            heartbeat_ms: 0,
            neighbours: Vec::new(),
            neighbour_idle: 0,
            neighbour_paced: 0,
        }
    }
}

/// A word that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No such word.
    #[error("'{0}' is no setting of the guest; they are {NAMES}, each with =VALUE")]
    Unknown(String),
    /// A word whose value is not what it should be.
    #[error("'{word}' does not fit; give it {wanted}")]
    Value {
        /// The whole word.
        word: String,
        /// What its value should be.
        wanted: &'static str,
    },
}

impl Settings {
    /// Reads those of `words` that begin with `prefix`. Others are somebody else's on the kernel's
    /// command line, and an error among flags.
    ///
    /// # Errors
    /// The first word that cannot be obeyed.
    pub fn from_words<'a>(
        words: impl IntoIterator<Item = &'a str>,
        prefix: &str,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for word in words {
            match word.strip_prefix(prefix) {
                Some(ours) => settings.set(word, ours)?,
                None if prefix == FLAG_PREFIX => return Err(SettingsError::Unknown(word.into())),
                None => {}
            }
        }
        Ok(settings)
    }

    fn set(&mut self, word: &str, ours: &str) -> Result<(), SettingsError> {
        let Some((name, value)) = ours.split_once('=') else {
            return Err(SettingsError::Unknown(word.into()));
        };
        let read = Value { word, value };
        match name {
            "addr4" => self.addr4 = Some(read.interface(IpAddr::is_ipv4)?),
            "gw4" => self.gw4 = Some(read.parse("an IPv4 address").map(IpAddr::V4)?),
            "addr6" => self.addr6 = Some(read.interface(IpAddr::is_ipv6)?),
            "gw6" => self.gw6 = Some(read.parse("an IPv6 address").map(IpAddr::V6)?),
            "listen" => self.listen = read.list("addresses, separated by commas")?,
            "port" => self.port = read.parse("a port")?,
            "control" => self.control = read.parse("a port")?,
            "disk" => self.disk = Some(value.into()),
            "disk_start" => self.disk_start = read.parse("an offset in bytes")?,
            "records" => self.records_per_s = read.parse("records in each second")?,
            "dirty" => self.dirty_mib_per_s = read.parse("MiB in each second")?,
            "dirty_set" => self.dirty_set_mib = read.parse("MiB")?,
            "heartbeat" => self.heartbeat_ms = read.parse("milliseconds")?,
            "neighbours" => self.neighbours = read.list("ADDRESS:PORT, separated by commas")?,
            "neighbour_idle" => self.neighbour_idle = read.parse("a number")?,
            "neighbour_paced" => self.neighbour_paced = read.parse("a number")?,
            _ => return Err(SettingsError::Unknown(word.into())),
        }
        Ok(())
    }
}

struct Value<'a> {
    word: &'a str,
    value: &'a str,
}

impl Value<'_> {
    fn parse<T: FromStr>(&self, wanted: &'static str) -> Result<T, SettingsError> {
        self.value.parse().map_err(|_| self.unfit(wanted))
    }

    fn list<T: FromStr>(&self, wanted: &'static str) -> Result<Vec<T>, SettingsError> {
        let parts = self.value.split(',').map(|part| part.parse().map_err(|_| self.unfit(wanted)));
        parts.collect()
    }

    fn interface(&self, family: fn(&IpAddr) -> bool) -> Result<Interface, SettingsError> {
        let interface = self.value.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix = prefix.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            (family(&address) && prefix <= bits).then_some(Interface { address, prefix })
        });
        interface.ok_or_else(|| self.unfit("ADDRESS/PREFIX of the word's own family"))
    }

    fn unfit(&self, wanted: &'static str) -> SettingsError {
        SettingsError::Value { word: self.word.into(), wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_command_line_is_read_and_others_words_are_left() {
        let line = "console=ttyS0 quiet causeway.addr4=192.0.2.5/24 causeway.gw4=192.0.2.1 \
                    causeway.addr6=2001:db8::5/64 causeway.port=9 causeway.disk=/dev/vda \
                    causeway.neighbours=192.0.2.7:9,[2001:db8::7]:9 panic=-1";
        let settings = Settings::from_words(line.split_whitespace(), WORD_PREFIX).unwrap();
        let addr4 = Interface { address: "192.0.2.5".parse().unwrap(), prefix: 24 };
        assert_eq!(settings.addr4, Some(addr4));
        assert_eq!((settings.port, settings.control), (9, CONTROL_PORT));
        assert_eq!((settings.neighbours.len(), settings.listen.len()), (2, 2));
    }

    #[test]
    fn every_setting_that_an_error_names_is_one() {
        for name in NAMES.split(", ") {
            let word = format!("--{name}=!");
            let outcome = Settings::from_words([&word[..]], FLAG_PREFIX);
            assert!(!matches!(outcome, Err(SettingsError::Unknown(_))), "{name}");
        }
    }

    #[test]
    fn a_wrong_word_is_named_with_what_it_should_be() {
        for (flag, wanted) in [
            ("--addr4=2001:db8::5/64", "own family"),
            ("--addr4=192.0.2.5/33", "ADDRESS/PREFIX"),
            ("--port=70000", "a port"),
            ("--porf=7", "no setting"),
            ("--listen=here", "addresses"),
            ("stray", "no setting"),
        ] {
            let error = Settings::from_words([flag], FLAG_PREFIX).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(wanted), "{error}");
        }
    }
}
