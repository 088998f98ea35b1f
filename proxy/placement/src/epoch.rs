//! What orders the moves of one VM: epochs, their owners, and the releases recorded under them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, PartName};

/// The number of a move of one VM. It only grows; 0 is before the first placement.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// Before the first placement.
    pub const NONE: Epoch = Epoch(0);
    /// The first placement's.
    pub const FIRST: Epoch = Epoch(1);

    /// The epoch of this number.
    #[must_use]
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next one. At one move a nanosecond the numbers last for 584 years.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One incarnation of an orchestrator. A restarted one is another owner: it knows nothing of what
/// its predecessor had in flight, and claims anew.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner {
    /// The orchestrator's name.
    pub name: PartName,
    /// Drawn at random when it started.
    pub incarnation: u64,
}

/// Why a text names no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Not of the form `NAME.INCARNATION`.
    #[error("not an owner; write NAME.INCARNATION, the latter as 16 hexadecimal digits")]
    Form,
    /// The orchestrator's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Owner {
    type Err = OwnerError;
    fn from_str(text: &str) -> Result<Owner, OwnerError> {
        let (name, digits) = text.rsplit_once('.').ok_or(OwnerError::Form)?;
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 16 || !digits.bytes().all(lower_hex) {
            return Err(OwnerError::Form);
        }
        let incarnation = u64::from_str_radix(digits, 16).map_err(|_| OwnerError::Form)?;
        Ok(Owner { name: name.parse()?, incarnation })
    }
}

impl TryFrom<String> for Owner {
    type Error = OwnerError;
    fn try_from(text: String) -> Result<Owner, OwnerError> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.to_string()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.name, self.incarnation)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a command acts under: the move, and who drives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// The move's epoch, as claimed.
    pub epoch: Epoch,
    /// Who claimed it.
    pub owner: Owner,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of {}", self.epoch, self.owner)
    }
}

/// The source's word that it runs the VM no more, named by the epoch and owner under which it was
/// recorded. It outlives its move: after a takeover the next owner carries it on under a later
/// epoch. The first placement counts as one, of [`Epoch::FIRST`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The move in which the source released.
    pub epoch: Epoch,
    /// Who drove it then.
    pub owner: Owner,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "release {} by {}", self.epoch, self.owner)
    }
}

impl From<Authority> for Release {
    fn from(Authority { epoch, owner }: Authority) -> Release {
        Release { epoch, owner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_the_way_through_its_text() {
        let owner = Owner { name: "serve-1".parse().unwrap(), incarnation: 0x00ab_cdef };
        assert_eq!(owner.to_string(), "serve-1.0000000000abcdef");
        assert_eq!(owner.to_string().parse(), Ok(owner));
    }

    #[test]
    fn what_an_operator_reads_names_epoch_and_owner() {
        let owner = Owner { name: "serve".parse().unwrap(), incarnation: 7 };
        let authority = Authority { epoch: Epoch::new(3), owner };
        assert_eq!(authority.epoch.get(), 3);
        assert_eq!(authority.to_string(), "epoch 3 of serve.0000000000000007");
        assert_eq!(format!("{:?}", authority.owner), "serve.0000000000000007");
        let release = Release::from(authority);
        assert_eq!(release.to_string(), "release 3 by serve.0000000000000007");
    }

    #[test]
    fn one_owner_has_one_spelling() {
        for text in [
            "serve",
            "serve.",
            ".0000000000abcdef",
            "serve.abcdef",
            "serve.0000000000ABCDEF",
            "serve.+000000000abcdef",
            "Serve.0000000000abcdef",
        ] {
            assert!(text.parse::<Owner>().is_err(), "{text:?} was taken");
        }
    }
}
