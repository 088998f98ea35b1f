//! What a channel is called, who may use it, and where it ends.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use placement::{Epoch, NameError, PartName, SiteName, VmName};

/// What a channel carries: `mirror`, `memory`, or an application's name for its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(PartName);

impl FromStr for ChannelName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<ChannelName, NameError> {
        text.parse().map(ChannelName)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to use one channel in one move: hypervisors connect to it at `from`, and it is dialled
/// out at `to`. Both ends hold it, each from the orchestrator itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Whose move.
    pub vm: VmName,
    /// Which move.
    pub epoch: Epoch,
    /// Where connections enter.
    pub from: SiteName,
    /// Where they leave.
    pub to: SiteName,
    /// Which channel of the move.
    pub channel: ChannelName,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant { vm, epoch, from, to, channel } = self;
        write!(f, "channel '{channel}' of vm '{vm}', epoch {epoch}, {from} to {to}")
    }
}

/// Where a channel may leave the tunnel: a unix socket or loopback TCP, never another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Absolute, without `..`; `{vm}` and `{epoch}` stand for the grant's.
    Unix(String),
    Loopback(SocketAddr),
}

/// Why a text is no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither form.
    #[error("'{0}' is no target; write unix:/PATH, or tcp:ADDRESS:PORT with a loopback address")]
    Form(String),
    /// TCP to elsewhere than this host.
    #[error("'{0}' leaves this host; a channel ends on a unix socket or a loopback address")]
    NotLoopback(SocketAddr),
    /// A path that does not say where it is.
    #[error("'{0}' is relative or has a '..'; write the socket's absolute path")]
    Path(String),
}

/// Where a channel under one grant really leaves the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// A unix socket; its folder must be closed to others (0700).
    Unix(PathBuf),
    /// A loopback address.
    Loopback(SocketAddr),
}

impl Target {
    /// The target for one grant.
    #[must_use]
    pub fn of(&self, grant: &Grant) -> Exit {
        match &self.0 {
            Place::Unix(path) => {
                let path = path.replace("{vm}", grant.vm.as_str());
                Exit::Unix(path.replace("{epoch}", &grant.epoch.to_string()).into())
            }
            Place::Loopback(address) => Exit::Loopback(*address),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Target, TargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
            if !path.starts_with('/') || !Path::new(path).components().all(plain) {
                return Err(TargetError::Path(path.to_owned()));
            }
            return Ok(Target(Place::Unix(path.to_owned())));
        }
        let address = text.strip_prefix("tcp:").and_then(|address| address.parse().ok());
        let address: SocketAddr = address.ok_or_else(|| TargetError::Form(text.to_owned()))?;
        if !address.ip().is_loopback() {
            return Err(TargetError::NotLoopback(address));
        }
        Ok(Target(Place::Loopback(address)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Unix(path) => write!(f, "unix:{path}"),
            Place::Loopback(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Unix(path) => write!(f, "unix:{}", path.display()),
            Exit::Loopback(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_never_leaves_the_host() {
        for text in ["tcp:10.0.0.1:22", "tcp:0.0.0.0:22", "tcp:[2001:db8::1]:22"] {
            assert!(matches!(text.parse::<Target>(), Err(TargetError::NotLoopback(_))), "{text}");
        }
        for text in ["", "22", "tcp:localhost:22", "tcp:127.0.0.1", "udp:127.0.0.1:22"] {
            assert!(matches!(text.parse::<Target>(), Err(TargetError::Form(_))), "{text}");
        }
        for text in ["unix:run/x", "unix:", "unix:/run/../etc/x"] {
            assert!(matches!(text.parse::<Target>(), Err(TargetError::Path(_))), "{text}");
        }
    }

    #[test]
    fn a_path_takes_the_grants_vm_and_epoch() {
        let target: Target = "unix:/run/causeway/{vm}/{epoch}/mirror.sock".parse().unwrap();
        let grant = Grant {
            vm: "web".parse().unwrap(),
            epoch: Epoch::new(7),
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            channel: "mirror".parse().unwrap(),
        };
        assert_eq!(target.of(&grant), Exit::Unix("/run/causeway/web/7/mirror.sock".into()));
    }
}
