//! What goes into the image, and where it comes from.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ImageError;
use super::cpio::{Archive, Entry};

/// Names a guest program that was built already; then none is built.
pub const GUEST_PROGRAM: &str = "CAUSEWAY_GUEST_PROGRAM";

const BUSYBOX: &str = "/bin/busybox";

/// Drivers in the order in which they are loaded: each after what it needs. One that is not in the
/// kernel's folder is built into the kernel.
const MODULES: [&str; 9] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
];

/// What the init script and the guest program call busybox by.
const APPLETS: [&str; 5] = ["sh", "mount", "insmod", "ip", "sleep"];

/// How the first line of the console begins, before any driver is loaded.
pub(crate) const INIT_UP: &str = "causeway-init: up";

/// How the console's line begins that says the guest program is gone.
pub(crate) const INIT_FAILED: &str = "causeway-init: failed";

/// The image's parts.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) kernel: PathBuf,
    modules: Vec<(&'static str, Vec<u8>)>,
    busybox: Vec<u8>,
    guest: Vec<u8>,
}

impl Parts {
    pub(super) fn gather(target: &Path) -> Result<Self, ImageError> {
        let folder = target.join("kernel");
        let (kernel, modules) =
            read_kernel(&folder).map_err(|source| ImageError::NoKernel { folder, source })?;
        let busybox =
            fs::read(BUSYBOX).map_err(|source| ImageError::NoBusybox { path: BUSYBOX, source })?;
        let path = guest_program(target)?;
        let guest = fs::read(&path).map_err(|source| ImageError::File {
            what: "read",
            path: path.clone(),
            source,
        })?;
        if !is_static(&guest) {
            return Err(ImageError::NotStatic { path });
        }
        Ok(Self { kernel, modules, busybox, guest })
    }

    pub(super) fn archive(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "proc", "sys", "modules"] {
            archive.add(folder, &Entry::Folder);
        }
        // Where the kernel looks for the first process's input and output.
        archive.add("dev/console", &Entry::Device { major: 5, minor: 1 });
        archive.add("init", &Entry::Program(self.init().as_bytes()));
        archive.add("bin/busybox", &Entry::Program(&self.busybox));
        for applet in APPLETS {
            archive.add(&format!("bin/{applet}"), &Entry::Link("busybox"));
        }
        archive.add("bin/causeway-guest", &Entry::Program(&self.guest));
        for (name, module) in &self.modules {
            archive.add(&format!("modules/{name}.ko"), &Entry::File(module));
        }
        archive.finish()
    }

    /// The first process. It never ends, or the kernel would panic: a guest program that does is
    /// reported instead, for [`super::console`] to find.
    fn init(&self) -> String {
        let names: Vec<&str> = self.modules.iter().map(|(name, _)| *name).collect();
        format!(
            "#!/bin/sh\n\
             export PATH=/bin\n\
             echo '{INIT_UP}'\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sys /sys\n\
             mount -t devtmpfs dev /dev\n\
             for module in {}; do\n\
             \tinsmod /modules/$module.ko || echo \"{INIT_FAILED}: module $module\"\n\
             done\n\
             causeway-guest boot\n\
             echo \"{INIT_FAILED}: the guest program ended with status $?\"\n\
             while :; do sleep 3600; done\n",
            names.join(" ")
        )
    }
}

type Kernel = (PathBuf, Vec<(&'static str, Vec<u8>)>);

fn read_kernel(folder: &Path) -> std::io::Result<Kernel> {
    let kernel = folder.join("vmlinuz");
    // `version` is written last: without it the folder is not whole.
    fs::metadata(folder.join("version"))?;
    fs::metadata(&kernel)?;
    let mut modules = Vec::new();
    for name in MODULES {
        let path = folder.join("modules").join(format!("{name}.ko"));
        if path.is_file() {
            modules.push((name, fs::read(path)?));
        }
    }
    Ok((kernel, modules))
}

/// The guest program for the VM, linked statically: cargo decides whether it must be built anew. A
/// target folder of its own, because the programs of the host are linked otherwise.
fn guest_program(target: &Path) -> Result<PathBuf, ImageError> {
    if let Some(path) = std::env::var_os(GUEST_PROGRAM) {
        return Ok(path.into());
    }
    let folder = target.join("guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let words = ["rustc", "--quiet", "--package", "guest", "--bin", "causeway-guest"];
    let status = Command::new(cargo)
        .args(words)
        .arg("--target-dir")
        .arg(&folder)
        .args(["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    match status {
        Ok(status) if status.success() => Ok(folder.join("debug").join("causeway-guest")),
        Ok(status) => Err(ImageError::NoGuestProgram { outcome: status.to_string() }),
        Err(error) => Err(ImageError::NoGuestProgram { outcome: error.to_string() }),
    }
}

/// Whether an ELF program of 64 bits asks for no interpreter: then it needs no library either.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let read = |at: usize, length: usize| -> Option<u64> {
        let bytes = program.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let no_interpreter = || {
        let table = usize::try_from(read(32, 8)?).ok()?;
        let (size, count) = (read(54, 2)? as usize, read(56, 2)? as usize);
        let mut kinds = (0..count).map(|nth| read(table.checked_add(nth * size)?, 4));
        Some(kinds.all(|kind| kind.is_some_and(|kind| kind != u64::from(INTERPRETER))))
    };
    program.starts_with(b"\x7fELF\x02\x01") && no_interpreter().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_kernel_names_the_remedy() {
        let target = tempfile::tempdir().unwrap();
        let error = Parts::gather(target.path()).unwrap_err();
        assert!(matches!(error, ImageError::NoKernel { .. }));
        assert!(error.to_string().contains("cargo verify"));
    }

    #[test]
    fn drivers_are_loaded_in_order_and_those_built_in_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("modules")).unwrap();
        for file in ["vmlinuz", "modules/virtio_net.ko", "modules/virtio.ko"] {
            fs::write(folder.path().join(file), file).unwrap();
        }
        assert!(read_kernel(folder.path()).is_err(), "a fetch that was cut off");
        fs::write(folder.path().join("version"), "6.1").unwrap();
        let (kernel, modules) = read_kernel(folder.path()).unwrap();
        let parts = Parts { kernel, modules, busybox: Vec::new(), guest: Vec::new() };
        assert!(parts.init().contains("for module in virtio virtio_net; do"));
    }

    #[test]
    fn busybox_is_static_and_a_test_program_is_not() {
        assert!(is_static(&fs::read(BUSYBOX).unwrap()));
        assert!(!is_static(&fs::read(std::env::current_exe().unwrap()).unwrap()));
        assert!(!is_static(b"\x7fELF\x02\x01"));
        assert!(!is_static(b"#!/bin/sh\n"));
    }
}
