//! A VM as the kernel's tables know it: a name that leads to numbers, and where it is on the subnet.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Mac, NetworkError};

/// Longest name, as elsewhere: a DNS label's limit.
const NAME_BYTES_MAX: usize = 63;
/// The kernel's longest name of an interface.
const INTERFACE_BYTES_MAX: usize = 15;
/// FNV-1a, 32 bits: numbers that stay the same over restarts and versions.
const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// A VM's name, fit for nft tables; interfaces and routing tables are numbered from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmTag(String);

impl VmTag {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nft table of this VM. nft's names have no hyphen at their end, and take inner ones.
    pub(crate) fn table(&self) -> String {
        format!("causeway_{}", self.0)
    }

    /// A number for objects that have no room for the name. Two names may share one.
    pub(crate) fn number(&self) -> u32 {
        self.0
            .bytes()
            .fold(FNV_BASIS, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME))
    }
}

impl FromStr for VmTag {
    type Err = NetworkError;

    fn from_str(name: &str) -> Result<VmTag, NetworkError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if fits {
            return Ok(VmTag(name.to_owned()));
        }
        let name =
            name.chars().take(NAME_BYTES_MAX).collect::<String>().escape_default().to_string();
        Err(NetworkError::BadName { name, most: NAME_BYTES_MAX })
    }
}

/// Names of interfaces and namespaces travel into rules and paths: what the kernel takes is more than
/// those do.
pub(crate) fn check_name(name: &str, most: usize) -> Result<(), NetworkError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fits =
        (1..=most).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
    if fits {
        return Ok(());
    }
    let name = name.chars().take(NAME_BYTES_MAX).collect::<String>().escape_default().to_string();
    Err(NetworkError::BadName { name, most })
}

/// As [`check_name`], for an interface.
pub(crate) fn check_interface(name: &str) -> Result<(), NetworkError> {
    check_name(name, INTERFACE_BYTES_MAX)
}

impl fmt::Display for VmTag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A VM on its subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its card's MAC.
    pub mac: Mac,
    /// Its addresses there, link-local ones left out.
    pub addresses: Vec<IpAddr>,
}

/// Both ends of a TCP or UDP conversation, the VM's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// The VM's address.
    pub vm: IpAddr,
    /// The VM's port.
    pub vm_port: u16,
    /// The other's address.
    pub peer: IpAddr,
    /// The other's port.
    pub peer_port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nft_would_misread_are_refused() {
        for wrong in ["", "-a", "a-", "a b", "a}", "A", "a_b", "a\n", &"x".repeat(64)] {
            assert!(wrong.parse::<VmTag>().is_err(), "{wrong}");
        }
        assert_eq!("web-1".parse::<VmTag>().unwrap().table(), "causeway_web-1");
    }

    #[test]
    fn a_names_number_stays_what_it_is() {
        assert_eq!("web".parse::<VmTag>().unwrap().number(), 0x0fd9_bc91);
    }

    #[test]
    fn an_interface_is_named_so_that_nft_reads_a_name() {
        for name in ["cwtap0", "vnet1", "tap-web.2"] {
            assert!(check_interface(name).is_ok(), "{name}");
        }
        for name in ["", "..", "a/b", "a b", "tap\"", "tap;", "sixteen-letters-", "täp"] {
            assert!(check_interface(name).is_err(), "{name}");
        }
    }
}
