//! What a VM is, wherever it runs. Nothing in it is a path, a bridge or a user: those are each
//! agent's own, found by the names that stand here.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use placement::{PartName, VmName};
use serde::{Deserialize, Serialize};

/// Memory of one VM, in KiB.
pub const MEMORY_KIB: RangeInclusive<u64> = 64 * 1024..=1024 * 1024 * 1024;
/// Processors of one VM.
pub const PROCESSORS: RangeInclusive<u16> = 1..=128;
/// Disks of one VM: each has a fixed slot on the bus.
pub const DISKS_MAX: usize = 8;
/// Bytes of one disk.
pub const DISK_BYTES: RangeInclusive<u64> = 1024 * 1024..=64 << 40;
/// A disk is made of whole blocks of so many bytes.
pub const DISK_BLOCK_BYTES: u64 = 4096;
/// Network cards of one VM: each has a fixed slot on the bus.
pub const CARDS_MAX: usize = 4;
/// Addresses of one network card.
pub const ADDRESSES_MAX: usize = 16;
/// Words for the guest's kernel.
pub const KERNEL_WORDS_MAX: usize = 64;
/// Bytes of one of them.
pub const KERNEL_WORD_BYTES_MAX: usize = 256;

/// Why something is no definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// A number outside its bounds.
    #[error("the VM's {what} is {found}; write {least} to {most}")]
    OutOfBounds {
        /// Of what.
        what: &'static str,
        /// As written.
        found: u64,
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// A disk of a broken number of blocks.
    #[error("a disk of {0} bytes is not made of whole blocks of {DISK_BLOCK_BYTES}; round it up")]
    Blocks(u64),
    /// Not a UUID.
    #[error("'{0}' is no UUID; write it as 8-4-4-4-12 lower-case hexadecimal digits")]
    Uuid(String),
    /// Not a MAC that a VM could have.
    #[error("'{0}' is no MAC of one machine; write 02:00:00:00:00:01, not a group's address")]
    Mac(String),
    /// Two cards with one MAC.
    #[error("MAC {0} stands at two network cards; give each its own")]
    MacTwice(Mac),
    /// A machine type that is not listed.
    #[error("machine type '{0}' is not known; write one of: pc-q35-7.2")]
    Machine(String),
    /// A word that the guest's kernel would not read as one.
    #[error(
        "'{0}' cannot be one word for the kernel; leave out blanks, quotes and what is not ASCII"
    )]
    Word(String),
}

/// A virtual machine as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct VmDefinition {
    /// Its name.
    pub name: VmName,
    /// Its identity as the guest sees it.
    pub uuid: Uuid,
    /// The machine: versioned, so that both ends of a move mean the same one.
    pub machine: MachineType,
    /// Its memory.
    pub memory_kib: u64,
    /// Its processors.
    pub processors: u16,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// Its network cards, in order.
    pub cards: Vec<Card>,
    /// What it boots.
    pub boot: Boot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: VmName,
    uuid: Uuid,
    machine: MachineType,
    memory_kib: u64,
    processors: u16,
    disks: Vec<Disk>,
    cards: Vec<Card>,
    boot: Boot,
}

impl TryFrom<Written> for VmDefinition {
    type Error = DefinitionError;
    fn try_from(written: Written) -> Result<VmDefinition, DefinitionError> {
        let Written { name, uuid, machine, memory_kib, processors, disks, cards, boot } = written;
        within("memory in KiB", memory_kib, &MEMORY_KIB)?;
        within("processors", processors.into(), &(1..=u64::from(*PROCESSORS.end())))?;
        within("disks", count(disks.len()), &(1..=count(DISKS_MAX)))?;
        within("network cards", count(cards.len()), &(1..=count(CARDS_MAX)))?;
        within("kernel words", count(boot.words.len()), &(0..=count(KERNEL_WORDS_MAX)))?;
        for disk in &disks {
            within("disk in bytes", disk.bytes, &DISK_BYTES)?;
            if !disk.bytes.is_multiple_of(DISK_BLOCK_BYTES) {
                return Err(DefinitionError::Blocks(disk.bytes));
            }
        }
        let mut macs = BTreeSet::new();
        for card in &cards {
            within("addresses", count(card.addresses.len()), &(0..=count(ADDRESSES_MAX)))?;
            if !macs.insert(card.mac) {
                return Err(DefinitionError::MacTwice(card.mac));
            }
        }
        Ok(VmDefinition { name, uuid, machine, memory_kib, processors, disks, cards, boot })
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn within(
    what: &'static str,
    found: u64,
    bounds: &RangeInclusive<u64>,
) -> Result<(), DefinitionError> {
    if bounds.contains(&found) {
        return Ok(());
    }
    let (least, most) = (*bounds.start(), *bounds.end());
    Err(DefinitionError::OutOfBounds { what, found, least, most })
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its size.
    pub bytes: u64,
}

/// One network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its address on the wire.
    pub mac: Mac,
    /// The network that it is on, by the name that each site's agents know it by.
    pub network: PartName,
    /// The addresses that the guest has there.
    pub addresses: Vec<IpAddr>,
}

/// What a VM boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Kernel and initial file system, by the name that each agent's configuration has for them.
    pub image: PartName,
    /// Words for the guest's kernel, after the agent's own.
    pub words: Vec<KernelWord>,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = DefinitionError;
            fn try_from(text: String) -> Result<Self, DefinitionError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
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

text!(
    /// A VM's identity, in its one spelling.
    Uuid
);
text!(
    /// One word of the guest kernel's command line.
    KernelWord
);

impl FromStr for Uuid {
    type Err = DefinitionError;
    fn from_str(text: &str) -> Result<Uuid, DefinitionError> {
        let lengths = text.split('-').map(str::len);
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
        if lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(digit) {
            return Ok(Uuid(text.to_owned()));
        }
        Err(DefinitionError::Uuid(start_of(text)))
    }
}

impl FromStr for KernelWord {
    type Err = DefinitionError;
    fn from_str(text: &str) -> Result<KernelWord, DefinitionError> {
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\'';
        if (1..=KERNEL_WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(KernelWord(text.to_owned()));
        }
        Err(DefinitionError::Word(start_of(text)))
    }
}

/// The text may come from a stranger: an error carries no more of it than names the thing.
fn start_of(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

/// A machine type that this version knows how to make the same at both ends of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MachineType {
    /// QEMU's `pc-q35-7.2`.
    Q35V7_2,
}

impl MachineType {
    /// QEMU's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MachineType::Q35V7_2 => "pc-q35-7.2",
        }
    }
}

impl FromStr for MachineType {
    type Err = DefinitionError;
    fn from_str(text: &str) -> Result<MachineType, DefinitionError> {
        match text {
            "pc-q35-7.2" => Ok(MachineType::Q35V7_2),
            other => Err(DefinitionError::Machine(start_of(other))),
        }
    }
}

impl TryFrom<String> for MachineType {
    type Error = DefinitionError;
    fn try_from(text: String) -> Result<MachineType, DefinitionError> {
        text.parse()
    }
}

impl From<MachineType> for String {
    fn from(machine: MachineType) -> String {
        machine.as_str().to_owned()
    }
}

/// A network card's address: of one machine, never of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = DefinitionError;
    fn from_str(text: &str) -> Result<Mac, DefinitionError> {
        let wrong = || DefinitionError::Mac(start_of(text));
        let mut bytes = [0; 6];
        let mut words = text.split(':');
        for byte in &mut bytes {
            let word = words.next().filter(|word| word.len() == 2).ok_or_else(wrong)?;
            if !word.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(word, 16).map_err(|_| wrong())?;
        }
        let is_group = bytes.first().is_some_and(|first| first & 1 == 1);
        if words.next().is_some() || is_group || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Mac(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = DefinitionError;
    fn try_from(text: String) -> Result<Mac, DefinitionError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written() -> Value {
        json!({
            "name": "web", "uuid": "6f1c7f2e-5f0a-4d5e-9a57-000000000001",
            "machine": "pc-q35-7.2", "memory_kib": 262_016, "processors": 1,
            "disks": [{ "bytes": 64 << 20 }],
            "cards": [{ "mac": "02:00:00:00:02:01", "network": "app", "addresses": ["10.9.2.1"] }],
            "boot": { "image": "debian", "words": ["causeway.records=20"] },
        })
    }

    fn with(pointer: &str, value: Value) -> Result<VmDefinition, String> {
        let mut written = written();
        *written.pointer_mut(pointer).unwrap() = value;
        serde_json::from_value(written).map_err(|error| error.to_string())
    }

    #[test]
    fn a_definition_survives_the_way_through_its_text() {
        let definition: VmDefinition = serde_json::from_value(written()).unwrap();
        assert_eq!(serde_json::to_value(&definition).unwrap(), written());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let nine = json!(vec![json!({ "bytes": 1 << 20 }); 9]);
        for (pointer, value, named) in [
            ("/memory_kib", json!(1), "memory"),
            ("/processors", json!(0), "processors"),
            ("/disks", json!([]), "disks"),
            ("/disks", nine, "disks"),
            ("/disks/0/bytes", json!((64_u64 << 20) + 1), "whole blocks"),
            ("/disks/0/bytes", json!(u64::MAX), "disk"),
            ("/cards", json!([]), "network cards"),
            ("/cards/0/mac", json!("01:00:00:00:00:01"), "no MAC"),
            ("/cards/0/mac", json!("02:00:00:00:00:1"), "no MAC"),
            ("/cards/0/network", json!("../br0"), "character"),
            ("/cards/0/addresses", json!(["10.9.2.1/16"]), "IP address"),
            ("/uuid", json!("6F1C7F2E-5f0a-4d5e-9a57-000000000001"), "no UUID"),
            ("/machine", json!("pc"), "pc-q35-7.2"),
            ("/boot/image", json!("/etc/shadow"), "character"),
            ("/boot/words/0", json!("a init=/bin/sh"), "one word"),
            ("/boot/words/0", json!("a\n"), "one word"),
            ("/boot/words", json!(vec!["a"; 65]), "kernel words"),
        ] {
            let error = with(pointer, value.clone()).unwrap_err();
            assert!(error.contains(named), "{pointer} {value}: {error}");
        }
    }

    #[test]
    fn one_mac_at_two_cards_and_a_field_too_many_are_refused() {
        let card = written().pointer("/cards/0").unwrap().clone();
        let error = with("/cards", json!([card, card])).unwrap_err();
        assert!(error.contains("two network cards"), "{error}");
        let mut more = written();
        more["qemu_arguments"] = json!("-monitor stdio");
        assert!(serde_json::from_value::<VmDefinition>(more).is_err());
    }
}
