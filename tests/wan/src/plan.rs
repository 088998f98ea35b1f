//! What is to be emulated, as it is written on the command line and checked before anything is made.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::prefix::{Prefix, PrefixError};
use crate::settings::{Change, Settings, SettingsError};

/// How many ports one emulator has at most. Each pair has two links, and each link holds packets.
pub const PORTS_MAX: usize = 16;
/// Longest name of a port.
const PORT_NAME_BYTES_MAX: usize = 32;
/// The kernel's limit on a device's name, without the closing zero.
const DEVICE_NAME_BYTES_MAX: usize = 15;
/// The smallest MTU over which IPv6 works.
const MTU_BYTES_MIN: u16 = 1280;

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A port's text has not the parts that it needs.
    #[error(
        "'{0}' is not a port; write NAME=NAMESPACE:DEVICE:PREFIX[,PREFIX...], for example \
         a=/run/netns/router-a:wan0:10.255.1.0/24,fd00:1::/64"
    )]
    NotAPort(String),
    /// A link's text has not the parts that it needs.
    #[error("'{0}' is not a link; write FROM/TO:SETTINGS, for example a/b:delay_us=10000")]
    NotALink(String),
    /// A port's name is empty, too long or has other characters.
    #[error("port name '{0}' cannot be used; write 1 to {PORT_NAME_BYTES_MAX} of a-z, 0-9 and '-'")]
    PortName(String),
    /// A device's name that the kernel would refuse or change.
    #[error(
        "device name '{0}' cannot be used; write 1 to {DEVICE_NAME_BYTES_MAX} letters, digits, \
         '-', '_' or '.'"
    )]
    DeviceName(String),
    /// A prefix of a port.
    #[error("a prefix of port '{port}' is wrong: {source}")]
    Prefix {
        /// The port.
        port: PortName,
        /// What is wrong.
        source: PrefixError,
    },
    /// Settings of a link.
    #[error("the settings of link {from}/{to} are wrong: {source}")]
    Settings {
        /// The port that the link comes from.
        from: PortName,
        /// The port that it goes to.
        to: PortName,
        /// What is wrong.
        source: SettingsError,
    },
    /// Fewer than two ports, or more than [`PORTS_MAX`].
    #[error("there are {0} ports; write at least 2 and at most {PORTS_MAX}")]
    PortCount(usize),
    /// Two ports of one name.
    #[error("there are two ports '{0}'; name each differently")]
    PortTwice(PortName),
    /// Two ports that claim one prefix, so that its packets could go to either.
    #[error("ports '{first}' and '{second}' both have prefix {prefix}; give it to one of them")]
    PrefixTwice {
        /// The port that has it first.
        first: PortName,
        /// The port that has it again.
        second: PortName,
        /// The prefix.
        prefix: Prefix,
    },
    /// A port that there is not.
    #[error("there is no port '{0}'; there are: {1}")]
    UnknownPort(PortName, String),
    /// A link from a port to itself.
    #[error("port '{0}' has no link to itself; name two different ports")]
    SamePort(PortName),
    /// An MTU over which IPv6 does not work.
    #[error("an MTU of {0} bytes is too small; write at least {MTU_BYTES_MIN}")]
    Mtu(u16),
}

/// The name of a port: usually that of the site behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName(String);

impl PortName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortName {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > PORT_NAME_BYTES_MAX || !text.bytes().all(allowed) {
            let start: String = text.chars().take(PORT_NAME_BYTES_MAX).collect();
            return Err(PlanError::PortName(start.escape_default().to_string()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PortName {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

impl From<PortName> for String {
    fn from(name: PortName) -> Self {
        name.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a port's device is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Path of the network namespace; none for the emulator's own.
    pub namespace: Option<PathBuf>,
    /// Name of the device there.
    pub device: String,
}

/// One port: a site, and the addresses that are reached through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// Its name.
    pub name: PortName,
    /// Where its device is made.
    pub site: Site,
    /// Destinations that go to it; of several ports' prefixes the longest decides.
    pub prefixes: Vec<Prefix>,
}

impl FromStr for PortPlan {
    type Err = PlanError;

    /// Reads `NAME=NAMESPACE:DEVICE:PREFIX[,PREFIX...]`; the namespace `-` is the emulator's own.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let not_a_port = || PlanError::NotAPort(text.to_owned());
        let (name, rest) = text.split_once('=').ok_or_else(not_a_port)?;
        let name: PortName = name.parse()?;
        let (namespace, rest) = rest.split_once(':').ok_or_else(not_a_port)?;
        let (device, prefixes) = rest.split_once(':').ok_or_else(not_a_port)?;
        if namespace.is_empty() {
            return Err(not_a_port());
        }
        let namespace = (namespace != "-").then(|| PathBuf::from(namespace));
        let prefix = |text: &str| {
            text.parse().map_err(|source| PlanError::Prefix { port: name.clone(), source })
        };
        let prefixes = prefixes.split(',').map(prefix).collect::<Result<_, _>>()?;
        let site = Site { namespace, device: device_name(device)?.to_owned() };
        Ok(Self { name, site, prefixes })
    }
}

/// What one direction is like where it is not like all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPlan {
    /// The port that it comes from.
    pub from: PortName,
    /// The port that it goes to.
    pub to: PortName,
    /// How it differs.
    pub change: Change,
}

impl FromStr for LinkPlan {
    type Err = PlanError;

    /// Reads `FROM/TO:SETTINGS`.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let not_a_link = || PlanError::NotALink(text.to_owned());
        let (ports, change) = text.split_once(':').ok_or_else(not_a_link)?;
        let (from, to) = ports.split_once('/').ok_or_else(not_a_link)?;
        let (from, to) = (from.parse()?, to.parse()?);
        match change.parse() {
            Ok(change) => Ok(Self { from, to, change }),
            Err(source) => Err(PlanError::Settings { from, to, source }),
        }
    }
}

/// All that is to be emulated.
#[derive(Debug, Clone)]
pub struct WanPlan {
    /// Decides every loss and jitter.
    pub seed: u64,
    /// The ports.
    pub ports: Vec<PortPlan>,
    /// Largest packet that the ports' devices send.
    pub mtu_bytes: u16,
    /// What every link is like unless written otherwise.
    pub settings: Settings,
    /// What single directions are like instead: later ones on top of earlier.
    pub links: Vec<LinkPlan>,
}

impl WanPlan {
    /// Refuses what would leave a packet's way unclear.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if !(2..=PORTS_MAX).contains(&self.ports.len()) {
            return Err(PlanError::PortCount(self.ports.len()));
        }
        if self.mtu_bytes < MTU_BYTES_MIN {
            return Err(PlanError::Mtu(self.mtu_bytes));
        }
        for (index, port) in self.ports.iter().enumerate() {
            let earlier = &self.ports[..index];
            if earlier.iter().any(|other| other.name == port.name) {
                return Err(PlanError::PortTwice(port.name.clone()));
            }
            for (place, prefix) in port.prefixes.iter().enumerate() {
                let of_others = earlier.iter().find(|other| other.prefixes.contains(prefix));
                let own = port.prefixes[..place].contains(prefix).then_some(port);
                if let Some(first) = of_others.or(own) {
                    return Err(PlanError::PrefixTwice {
                        first: first.name.clone(),
                        second: port.name.clone(),
                        prefix: *prefix,
                    });
                }
            }
        }
        Ok(())
    }
}

fn device_name(text: &str) -> Result<&str, PlanError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_relative = matches!(text, "." | "..");
    if text.is_empty() || text.len() > DEVICE_NAME_BYTES_MAX || is_relative {
        return Err(PlanError::DeviceName(text.escape_default().to_string()));
    }
    if !text.bytes().all(allowed) {
        return Err(PlanError::DeviceName(text.escape_default().to_string()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_with_prefixes_of_both_families() {
        let port: PortPlan =
            "a=/proc/7/root/run/netns/router:wan0:10.255.1.0/24,fd00:1::/64".parse().unwrap();
        assert_eq!(port.name.as_str(), "a");
        assert_eq!(port.site.namespace, Some(PathBuf::from("/proc/7/root/run/netns/router")));
        assert_eq!(port.site.device, "wan0");
        assert_eq!(
            port.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.255.1.0/24", "fd00:1::/64"]
        );
        assert_eq!("a=-:w:::/0".parse::<PortPlan>().unwrap().site.namespace, None);
    }

    #[test]
    fn a_port_that_cannot_be_is_refused() {
        for text in [
            "",
            "a",
            "a=x",
            "a=x:wan0",
            "a=:wan0:10.0.0.0/8",
            "A=x:wan0:10.0.0.0/8",
            "a=x:wan%d:10.0.0.0/8",
            "a=x:a-name-of-16-byt:10.0.0.0/8",
            "a=x:..:10.0.0.0/8",
            "a=x:wan0:",
            "a=x:wan0:10.0.0.1/8",
        ] {
            assert!(text.parse::<PortPlan>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_is_read_with_its_settings() {
        let link: LinkPlan = "a/b:delay_us=3".parse().unwrap();
        assert_eq!((link.from.as_str(), link.to.as_str()), ("a", "b"));
        assert_eq!(link.change, Change { delay_us: Some(3), ..Change::default() });
        for text in ["a/b", "a:delay_us=3", "a/b:", "a/b:delay=3", "/b:delay_us=3"] {
            assert!(text.parse::<LinkPlan>().is_err(), "{text}");
        }
    }
}
