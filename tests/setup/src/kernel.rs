//! The guest's kernel, from the distribution's packages: fetched and unpacked, never installed.
//!
//! `target/kernel/` then holds `vmlinuz`, `modules/NAME.ko` for those of [`MODULES`] that the
//! kernel does not have built in, and `version`. It is fetched once; later runs need no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::machine::{Family, family};
use crate::packages::apt;
use crate::process::{output_of, run};
use crate::programs::target_folder;

/// What a guest with a network card and a disk needs.
const MODULES: &[&str] = &[
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

const FETCH_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// Brings the guest's kernel into the target folder, unless it is there.
pub(crate) fn fetch() -> Result<(), Failure> {
    let target = target_folder()?;
    let kernel = target.join("kernel");
    if kernel.join("version").is_file() {
        return Ok(());
    }
    let metapackage = match family() {
        Family::Debian => "linux-image-cloud-amd64",
        Family::Ubuntu => "linux-image-virtual",
        Family::Other => return Err(by_hand(&kernel)),
    };
    println!("Fetching a kernel for the guest ({metapackage}, unpacked and not installed)");
    let new = target.join(format!("kernel.{}", std::process::id()));
    let outcome = assemble(&new, metapackage).and_then(|()| {
        // A folder without `version` is a fetch that was cut off.
        let _ = fs::remove_dir_all(&kernel);
        fs::rename(&new, &kernel).map_err(|error| trouble(&kernel, &error))
    });
    let _ = fs::remove_dir_all(&new);
    outcome
}

fn by_hand(kernel: &Path) -> Failure {
    Failure::Machine(format!(
        "This is neither Debian nor Ubuntu. Put a kernel for the guest into {}: vmlinuz; as \
         modules/NAME.ko, uncompressed, those of {} that it does not have built in; and a file \
         'version' with its version.",
        kernel.display(),
        MODULES.join(", ")
    ))
}

fn assemble(new: &Path, metapackage: &str) -> Result<(), Failure> {
    let (packages, tree) = (new.join("packages"), new.join("tree"));
    for folder in [&packages, &tree, &new.join("modules")] {
        fs::create_dir_all(folder).map_err(|error| trouble(folder, &error))?;
    }
    let image = match image_package(metapackage) {
        Ok(image) => image,
        Err(_) => {
            // The list of packages was never fetched, or is empty.
            apt(&["update", "-qq"])?;
            image_package(metapackage)?
        }
    };
    let version = image.trim_start_matches("linux-image-").to_owned();
    let mut names = vec![image];
    let modules_apart = format!("linux-modules-{version}");
    if exists(&modules_apart) {
        names.push(modules_apart);
    }
    let mut download = Command::new("apt-get");
    download.current_dir(&packages);
    // The unprivileged user that apt would download as cannot write into our folder.
    download.args(["-o", "APT::Sandbox::User=root", "download", "-qq"]).args(&names);
    run(&mut download, FETCH_TIME_MAX)?;
    for package in files_below(&packages)? {
        output_of(Command::new("dpkg").arg("-x").arg(&package).arg(&tree))?;
    }
    let image = tree.join("boot").join(format!("vmlinuz-{version}"));
    fs::copy(&image, new.join("vmlinuz")).map_err(|error| trouble(&image, &error))?;
    collect_modules(&tree, &new.join("modules"))?;
    for folder in [packages, tree] {
        fs::remove_dir_all(&folder).map_err(|error| trouble(&folder, &error))?;
    }
    fs::write(new.join("version"), version + "\n").map_err(|error| trouble(new, &error))
}

/// The package that a metapackage stands for at present.
fn image_package(metapackage: &str) -> Result<String, Failure> {
    let depends = output_of(Command::new("apt-cache").args(["depends", metapackage]))?;
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .ok_or_else(|| Failure::Step(format!("{metapackage} depends on no kernel image")))
}

fn exists(package: &str) -> bool {
    output_of(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .is_ok_and(|said| !said.is_empty())
}

fn collect_modules(tree: &Path, modules: &Path) -> Result<(), Failure> {
    let files = files_below(tree)?;
    let builtin: String = files
        .iter()
        .filter(|file| file.ends_with("modules.builtin"))
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    for name in MODULES {
        let wanted = format!("{name}.ko");
        let is_it = |file: &&PathBuf| {
            let file = file.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            file.strip_prefix(&wanted).is_some_and(|rest| matches!(rest, "" | ".xz" | ".zst"))
        };
        match files.iter().find(is_it) {
            Some(file) => unpack(file, &modules.join(&wanted))?,
            None if builtin.contains(&format!("/{wanted}")) => {}
            None => return Err(Failure::Step(format!("the kernel's package has no {wanted}"))),
        }
    }
    Ok(())
}

/// The guest loads plain modules: what unpacks them stays outside.
fn unpack(file: &Path, to: &Path) -> Result<(), Failure> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::copy(file, to).map(drop).map_err(|error| trouble(file, &error)),
    };
    let plain = fs::File::create(to).map_err(|error| trouble(to, &error))?;
    let mut command = Command::new(program);
    run(command.args(["-d", "-c"]).arg(file).stdout(plain), FETCH_TIME_MAX)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| trouble(&folder, &error))? {
            let entry = entry.map_err(|error| trouble(&folder, &error))?;
            let kind = entry.file_type().map_err(|error| trouble(&entry.path(), &error))?;
            if kind.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    Ok(files)
}

fn trouble(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Step(format!("{}: {error}", path.display()))
}
