//! Names of things: sites, VMs, and the parts that serve them.
//!
//! A name travels into file names, nft table names, certificates and log lines, so that its alphabet
//! is the smallest that all of them take: lower-case letters, digits and inner hyphens, at most
//! [`NAME_LENGTH_MAX`] bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name in bytes: a DNS label's limit, so that every name can be one.
pub const NAME_LENGTH_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between the separators.
    #[error("a name is empty; write 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and '-'")]
    Empty,
    /// Longer than [`NAME_LENGTH_MAX`].
    #[error("name '{0}' is longer than {NAME_LENGTH_MAX} bytes; shorten it")]
    TooLong(String),
    /// A byte outside the alphabet, or a hyphen at an end.
    #[error("name '{0}' has a character that names may not have; write a-z, 0-9 and inner '-'")]
    Alphabet(String),
}

fn checked(text: &str) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LENGTH_MAX {
        // The text may come from a stranger: an error must not carry all of it into a log.
        let start: String = text.chars().take(NAME_LENGTH_MAX).collect();
        return Err(NameError::TooLong(format!("{start}…")));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Alphabet(text.escape_default().to_string()));
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A data center with its proxies, tunnel end and hypervisors.
    SiteName
);
name!(
    /// A virtual machine, the same wherever it runs.
    VmName
);
name!(
    /// One running part of ours at a site (an agent, a proxy, a name server) or one person or
    /// program that calls it; unique within site and role.
    PartName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_it_was_written() {
        let name: VmName = "web-01".parse().unwrap();
        assert_eq!(name.as_str(), "web-01");
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"web-01\"");
    }

    #[test]
    fn what_could_not_be_a_file_name_or_a_label_is_refused() {
        let long = "a".repeat(NAME_LENGTH_MAX + 1);
        for text in ["", "A", "a b", "a/b", "..", "-a", "a-", "ü", "a\n", long.as_str()] {
            assert!(text.parse::<SiteName>().is_err(), "{text:?} was taken");
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<SiteName>(&json).is_err(), "{json} was taken");
        }
        assert!("a".repeat(NAME_LENGTH_MAX).parse::<SiteName>().is_ok());
    }

    #[test]
    fn an_error_does_not_carry_a_strangers_whole_text() {
        let error = "x".repeat(1 << 20).parse::<VmName>().unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
