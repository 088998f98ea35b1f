//! What a place sees of the file system, arranged by its first process before anything runs there:
//! the machine's own programs, read-only, and private folders wherever a program writes.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    mount_remount, move_mount, open_tree,
};

/// Covered by an empty private folder each.
pub(crate) const COVERED: [&str; 4] = ["/run", "/tmp", "/var/tmp", "/dev/shm"];
/// Private copies: what a place writes here, only that place sees.
pub(crate) const COPIED: [&str; 3] = ["/etc", "/var/lib", "/var/log"];
/// Where our programs keep state: private, and empty even where the machine runs Causeway itself.
pub const STATE: [&str; 3] = ["/var/lib/causeway", "/etc/causeway", "/var/log/causeway"];
/// The lab's own folder in a place; the clean-up check leaves it out.
pub(crate) const OWN: &str = "/run/lab";
/// File systems in which no program can leave a file: left as they are.
const KERNEL_MADE: [&str; 13] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "debugfs",
    "devpts",
    "mqueue",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Which `/proc` a place shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proc {
    /// Its own processes, as a machine of its own has.
    Own,
    /// The machine's: for what stands around the sites and must reach into each, as a WAN does.
    Machine,
}

/// Rearranges the calling process's mount namespace. `kept` stays visible under its own path also
/// below a folder that gets covered.
pub(super) fn arrange(kept: &[PathBuf], proc: Proc) -> Result<(), (String, io::Error)> {
    let at = |what: &str, path: &Path| format!("{what} {}", path.display());
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|cause| ("make mounts private".to_owned(), cause.into()))?;
    let kept = keep(kept)?;
    for point in writable_mounts()? {
        make_read_only(&point)?;
    }
    for folder in COVERED {
        cover(Path::new(folder))?;
    }
    for folder in COPIED {
        copy(Path::new(folder))?;
    }
    for folder in STATE {
        make_folder(Path::new(folder))?;
        cover(Path::new(folder))?;
    }
    if proc == Proc::Own {
        cover_with("proc", Path::new("/proc"), "")?;
    }
    cover_with("sysfs", Path::new("/sys"), "")?;
    make_folder(Path::new("/run/netns"))?;
    for (path, tree) in kept {
        make_folder(&path)?;
        move_mount(tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|cause| (at("keep in sight", &path), cause.into()))?;
        make_read_only(&path)?;
    }
    Ok(())
}

fn keep(kept: &[PathBuf]) -> Result<Vec<(PathBuf, OwnedFd)>, (String, io::Error)> {
    kept.iter()
        .filter(|path| is_covered(path))
        .map(|path| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, path, flags)
                .map(|tree| (path.clone(), tree))
                .map_err(|cause| (format!("keep {} in sight", path.display()), cause.into()))
        })
        .collect()
}

fn is_covered(path: &Path) -> bool {
    COVERED.iter().chain(&STATE).any(|folder| path.starts_with(folder))
}

/// Every mount of the machine through which a file could pass from one place to another.
fn writable_mounts() -> Result<Vec<PathBuf>, (String, io::Error)> {
    let file = "/proc/self/mountinfo";
    let text = fs::read_to_string(file).map_err(|cause| (format!("read {file}"), cause))?;
    Ok(text
        .lines()
        .filter_map(parse_mount)
        .filter(|(point, kind)| {
            !is_covered(point) && !KERNEL_MADE.contains(kind) && !kind.starts_with("fuse")
        })
        .map(|(point, _)| point)
        .collect())
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS... - KIND SOURCE OPTIONS`, blanks in octal.
fn parse_mount(line: &str) -> Option<(PathBuf, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let point = left.split(' ').nth(4)?.replace("\\040", " ");
    Some((PathBuf::from(point), right.split(' ').next()?))
}

/// Devices stay writable; no file or folder is.
fn make_read_only(point: &Path) -> Result<(), (String, io::Error)> {
    mount_remount(point, MountFlags::BIND | MountFlags::RDONLY, "")
        .map_err(|cause| (format!("make {} read-only", point.display()), cause.into()))
}

fn cover(folder: &Path) -> Result<(), (String, io::Error)> {
    let mode =
        if folder.ends_with("tmp") || folder.ends_with("shm") { "mode=1777" } else { "mode=755" };
    cover_with("tmpfs", folder, mode)
}

fn copy(folder: &Path) -> Result<(), (String, io::Error)> {
    let upper = layer_of(folder);
    let work = upper.with_file_name("work");
    make_folder(&upper)?;
    make_folder(&work)?;
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        folder.display(),
        upper.display(),
        work.display()
    );
    cover_with("overlay", folder, &layers)
}

/// Where, in a place, that lies which the place itself wrote into a copied folder.
pub(crate) fn layer_of(folder: &Path) -> PathBuf {
    let name = folder.to_string_lossy().trim_matches('/').replace('/', "-");
    Path::new(OWN).join("layers").join(name).join("upper")
}

fn cover_with(kind: &str, folder: &Path, options: &str) -> Result<(), (String, io::Error)> {
    let options =
        std::ffi::CString::new(options).map_err(|cause| (format!("mount {kind}"), cause.into()))?;
    mount(kind, folder, kind, MountFlags::NOSUID, options.as_c_str())
        .map_err(|cause| (format!("mount {kind} on {}", folder.display()), cause.into()))
}

fn make_folder(folder: &Path) -> Result<(), (String, io::Error)> {
    let failed = |cause| (format!("make {}", folder.display()), cause);
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(failed)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_gives_its_point_and_kind() {
        let line = "29 1 254:0 / /mnt/with\\040blank rw,relatime shared:1 - ext4 /dev/vda rw";
        assert_eq!(parse_mount(line), Some((PathBuf::from("/mnt/with blank"), "ext4")));
    }

    #[test]
    fn folders_below_a_covered_one_need_keeping_and_others_not() {
        assert!(is_covered(Path::new("/tmp/clone/target/debug")));
        assert!(!is_covered(Path::new("/home/me/target/debug")));
        assert!(!is_covered(Path::new("/tmpfiles")));
    }
}
