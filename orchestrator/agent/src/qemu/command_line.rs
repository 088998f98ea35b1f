//! QEMU's command line, from a definition and this host's own configuration. Nothing in it comes
//! from elsewhere. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use orchestrator_api::VmDefinition;

use crate::config::{Accelerator, Image};

/// How a QEMU begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Boots.
    Boot,
    /// Waits to receive the VM, and then for the order to run it: never runs by itself.
    Receive,
}

/// The first slot of the cards on the VM's bus, and that of the disks. Fixed: the guest finds each
/// device where it was, whatever else it has.
const CARD_SLOT: usize = 0x4;
const DISK_SLOT: usize = 0x8;

/// What a process is given beside its definition.
#[derive(Debug)]
pub(crate) struct Given<'g> {
    pub(crate) process_name: String,
    pub(crate) definition: &'g VmDefinition,
    pub(crate) accelerator: Accelerator,
    pub(crate) image: &'g Image,
    pub(crate) disks: Vec<PathBuf>,
    pub(crate) console: PathBuf,
    /// One descriptor for each card.
    pub(crate) taps: Vec<i32>,
    /// One socket for each client.
    pub(crate) monitors: Vec<PathBuf>,
}

impl Given<'_> {
    pub(crate) fn arguments(&self, begin: Begin) -> Vec<OsString> {
        let definition = self.definition;
        let mut line = Line(Vec::new());
        line.flag("-nodefaults").flag("-no-user-config").two("-display", "none");
        line.two("-name", &self.process_name).two("-uuid", definition.uuid.as_str());
        line.two("-machine", definition.machine.as_str())
            .two("-accel", accelerator(self.accelerator));
        // Of the host's model only what every host of the move has may be shown; `max` is what
        // emulation can do, the same everywhere.
        let model = if self.accelerator == Accelerator::Kvm { "host" } else { "max" };
        line.two("-cpu", model).two("-smp", definition.processors.to_string());
        line.two("-m", format!("{}K", definition.memory_kib));
        line.two("-kernel", &self.image.kernel).two("-initrd", &self.image.initramfs);
        line.two("-append", self.kernel_words());
        line.two("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny");
        line.two("-serial", prefixed("file:", &self.console));
        for monitor in &self.monitors {
            let mut socket = prefixed("unix:", escaped(monitor));
            socket.push(",server=on,wait=off");
            line.two("-qmp", socket);
        }
        self.devices(&mut line);
        if begin == Begin::Receive {
            line.two("-incoming", "defer").flag("-S");
        }
        line.0
    }

    fn kernel_words(&self) -> String {
        let fixed = "console=ttyS0 quiet panic=-1".to_owned();
        self.definition.boot.words.iter().fold(fixed, |line, word| line + " " + word.as_str())
    }

    fn devices(&self, line: &mut Line) {
        for (index, disk) in self.disks.iter().enumerate() {
            let mut file = OsString::from(format!(
                "driver=file,node-name=disk{index}-file,discard=unmap,filename="
            ));
            file.push(escaped(disk));
            line.two("-blockdev", file);
            let raw =
                format!("driver=raw,node-name=disk{index},file=disk{index}-file,discard=unmap");
            line.two("-blockdev", raw);
            let slot = DISK_SLOT + index;
            line.two(
                "-device",
                format!("virtio-blk-pci,drive=disk{index},bus=pcie.0,addr={slot:#x}"),
            );
        }
        for (index, (card, tap)) in self.definition.cards.iter().zip(&self.taps).enumerate() {
            line.two("-netdev", format!("tap,id=n{index},fd={tap},vhost=off"));
            let (mac, slot) = (card.mac, CARD_SLOT + index);
            // Without a boot ROM: its memory would be one more thing to move.
            let device = format!(
                "virtio-net-pci,netdev=n{index},mac={mac},romfile=,bus=pcie.0,addr={slot:#x}"
            );
            line.two("-device", device);
        }
    }
}

fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg,thread=multi",
    }
}

struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Line {
        self.0.push(flag.into());
        self
    }

    fn two(&mut self, flag: &str, value: impl AsRef<OsStr>) -> &mut Line {
        self.0.push(flag.into());
        self.0.push(value.as_ref().into());
        self
    }
}

fn prefixed(prefix: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut whole = OsString::from(prefix);
    whole.push(value);
    whole
}

/// QEMU ends an option's value at a comma, and takes two as one.
fn escaped(value: impl AsRef<OsStr>) -> OsString {
    let bytes = value.as_ref().as_bytes();
    let doubled = bytes.iter().flat_map(|byte| {
        let times = if *byte == b',' { 2 } else { 1 };
        std::iter::repeat_n(*byte, times)
    });
    OsStr::from_bytes(&doubled.collect::<Vec<u8>>()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(begin: Begin) -> String {
        let definition = serde_json::from_value(serde_json::json!({
            "name": "web", "uuid": "6f1c7f2e-5f0a-4d5e-9a57-000000000001",
            "machine": "pc-q35-7.2", "memory_kib": 262_016, "processors": 1,
            "disks": [{ "bytes": 1 << 20 }, { "bytes": 1 << 20 }],
            "cards": [{ "mac": "02:00:00:00:02:01", "network": "app", "addresses": [] }],
            "boot": { "image": "debian", "words": ["causeway.records=20"] },
        }))
        .unwrap();
        let image =
            Image { name: "debian".parse().unwrap(), kernel: "/k".into(), initramfs: "/i".into() };
        let given = Given {
            process_name: "web.1.serve.00000000000000ab".into(),
            definition: &definition,
            accelerator: Accelerator::Tcg,
            image: &image,
            disks: vec!["/d,x/disk0".into(), "/d/disk1".into()],
            console: "/d/console".into(),
            taps: vec![9],
            monitors: vec!["/s/web.1.work".into()],
        };
        let words: Vec<String> =
            given.arguments(begin).iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn a_target_differs_in_nothing_but_that_it_waits() {
        assert_eq!(line(Begin::Receive), format!("{} -incoming defer -S", line(Begin::Boot)));
    }

    #[test]
    fn each_device_has_its_slot_and_each_path_stays_one() {
        let line = line(Begin::Boot);
        for piece in [
            "-name web.1.serve.00000000000000ab -uuid 6f1c7f2e",
            "-append console=ttyS0 quiet panic=-1 causeway.records=20",
            "filename=/d,,x/disk0",
            "drive=disk1,bus=pcie.0,addr=0x9",
            "tap,id=n0,fd=9,vhost=off",
            "mac=02:00:00:00:02:01,romfile=,bus=pcie.0,addr=0x4",
        ] {
            assert!(line.contains(piece), "no {piece} in {line}");
        }
    }
}
