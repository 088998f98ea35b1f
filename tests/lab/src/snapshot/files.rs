//! What the kernel tells of a place's processes and mounts, and every file that a place can have
//! written, without running anything inside.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Item, Kind};
use crate::LabError;
use crate::sandbox::{COPIED, COVERED, OWN, Place, STATE, layer_of};

/// Longer files are told by size and time, not by content.
const CONTENT_BYTES_MAX: u64 = 1 << 20;
/// Deeper than any program puts its files.
const DEPTH_MAX: usize = 32;

/// All processes but the place's first, by command line; each with its host.
pub(super) fn processes(place: &Place) -> Result<Vec<Item>, LabError> {
    let hosts = hosts_by_inode(place)?;
    let init = place.init_pid_shown().to_string();
    let folder = Path::new("/proc");
    let own = place.path(folder).join(&init).join("ns/pid");
    let own_tree =
        fs::metadata(&own).map_err(|cause| LabError::file("look at", &own, cause))?.ino();
    let mut items = Vec::new();
    let entries =
        fs::read_dir(place.path(folder)).map_err(|cause| LabError::file("list", folder, cause))?;
    for entry in entries {
        let entry = entry.map_err(|cause| LabError::file("list", folder, cause))?;
        let name = entry.file_name();
        let is_number = name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || name == init.as_str() {
            continue;
        }
        // One that ends while it is looked at is not there any more.
        let (Ok(words), Ok(netns), Ok(tree)) = (
            fs::read(entry.path().join("cmdline")),
            fs::metadata(entry.path().join("ns/net")),
            fs::metadata(entry.path().join("ns/pid")),
        ) else {
            continue;
        };
        if tree.ino() != own_tree {
            continue;
        }
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let host = hosts.get(&netns.ino());
        items.push(Item {
            host: host.cloned().unwrap_or_else(|| format!("{}/?", place.name())),
            kind: Kind::Process,
            text: words.trim_end().to_owned(),
        });
    }
    Ok(items)
}

pub(super) fn mounts(place: &Place) -> Result<Vec<Item>, LabError> {
    let path = PathBuf::from(format!("/proc/{}/mountinfo", place.init_pid()));
    let text = fs::read_to_string(&path).map_err(|cause| LabError::file("read", &path, cause))?;
    let told = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        Some(format!("{point} {}", right.split(' ').next()?))
    });
    Ok(told.map(|text| of_place(place, Kind::Mount, text)).collect())
}

pub(super) fn files(place: &Place) -> Result<Vec<Item>, LabError> {
    let mut walk = Walk { place, items: Vec::new() };
    for folder in COVERED.iter().chain(&STATE) {
        walk.folder(Path::new(folder), Path::new(folder))?;
    }
    for folder in COPIED {
        walk.folder(&layer_of(Path::new(folder)), Path::new(folder))?;
    }
    Ok(walk.items)
}

struct Walk<'a> {
    place: &'a Place,
    items: Vec<Item>,
}

impl Walk<'_> {
    /// Tells what is below `from`, in the place, as if it lay in `shown`.
    fn folder(&mut self, from: &Path, shown: &Path) -> Result<(), LabError> {
        let root = self.place.path(from);
        let failed = |cause| LabError::file("look through", shown, cause);
        let device = fs::metadata(&root).map_err(failed)?.dev();
        self.below(&root, shown, device, DEPTH_MAX).map_err(failed)
    }

    /// Stays on one file system: what is mounted below is told as a mount, and as itself.
    fn below(
        &mut self,
        real: &Path,
        shown: &Path,
        device: u64,
        depth_left: usize,
    ) -> io::Result<()> {
        if depth_left == 0 {
            return Err(io::Error::other("folders lie too deep"));
        }
        for entry in fs::read_dir(real)? {
            let entry = entry?;
            let (path, shown) = (entry.path(), shown.join(entry.file_name()));
            // A file that went while it was looked at is not there any more.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if shown == Path::new(OWN) || (metadata.dev() != device && metadata.is_dir()) {
                continue;
            }
            let is_foreign = metadata.dev() != device;
            let text = format!("{} {}", shown.display(), tell(&path, &metadata, is_foreign));
            self.items.push(of_place(self.place, Kind::File, text));
            if metadata.is_dir() {
                self.below(&path, &shown, device, depth_left - 1)?;
            }
        }
        Ok(())
    }
}

fn tell(path: &Path, metadata: &Metadata, is_foreign: bool) -> String {
    let kind = metadata.file_type();
    let owner = format!("{}:{} {:o}", metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    if is_foreign {
        return format!("mounted {owner}");
    }
    if kind.is_dir() {
        return format!("folder {owner}");
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        return format!("link to {}", target.display());
    }
    if !kind.is_file() {
        let kind = if kind.is_socket() { "socket" } else { "special" };
        return format!("{kind} {owner}");
    }
    let size = metadata.len();
    if size > CONTENT_BYTES_MAX {
        return format!(
            "file {owner} {size} bytes of {}.{:09}",
            metadata.mtime(),
            metadata.mtime_nsec()
        );
    }
    match fs::read(path) {
        Ok(bytes) => format!("file {owner} {size} bytes, digest {:016x}", digest(&bytes)),
        Err(_) => format!("file {owner} {size} bytes, unreadable"),
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn hosts_by_inode(place: &Place) -> Result<HashMap<u64, String>, LabError> {
    let names = place.netns_names()?;
    let hosts = names.iter().map(|name| place.host(Some(name)));
    let mut found = HashMap::new();
    for host in hosts.chain([place.host(None)]) {
        let path = host.netns_path();
        let metadata =
            fs::metadata(&path).map_err(|cause| LabError::file("look at", &path, cause))?;
        found.insert(metadata.ino(), host.to_string());
    }
    Ok(found)
}

fn of_place(place: &Place, kind: Kind, text: String) -> Item {
    Item { host: place.name().to_owned(), kind, text }
}
