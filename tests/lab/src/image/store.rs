//! Images that were built, in `target/lab`, each under a name made from its content.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;

use super::ImageError;

/// Images kept: those of the last few changes, so that going back and forth builds nothing.
const IMAGES_MAX: usize = 4;

const PREFIX: &str = "initramfs-";
const LOCK: &str = "images.lock";

/// The folder that cargo builds into, from where the running program lies.
pub(super) fn target_folder() -> Result<PathBuf, ImageError> {
    let program = std::env::current_exe().map_err(|source| ImageError::File {
        what: "find",
        path: "/proc/self/exe".into(),
        source,
    })?;
    // Cargo marks the folder, whatever its name.
    let found = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    found.map(Path::to_owned).ok_or(ImageError::NoTargetFolder { program })
}

/// The path of a file in `folder` with just this content.
pub(super) fn keep(folder: &Path, archive: &[u8]) -> Result<PathBuf, ImageError> {
    // The names are this machine's own, and a toolchain that hashes otherwise only writes anew.
    let mut hasher = DefaultHasher::new();
    hasher.write(archive);
    let path = folder.join(format!("{PREFIX}{:016x}.cpio", hasher.finish()));
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::File { what, path, source }
    };
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    let lock_path = folder.join(LOCK);
    let lock = File::create(&lock_path).map_err(failed("make", &lock_path))?;
    // Held for as long as a few megabytes are written; closing the file lets go of it.
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| failed("lock", &lock_path)(error.into()))?;
    if path.is_file() {
        return Ok(path);
    }
    // A name appears only once its content is whole. One left by a crash is overwritten.
    let new = folder.join("image.new");
    let mut file = File::create(&new).map_err(failed("make", &new))?;
    file.write_all(archive)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, &path))
        .map_err(failed("write", &path))?;
    drop_oldest(folder);
    Ok(path)
}

/// Whoever still boots one has it open; a name that cannot be removed is no reason to fail.
fn drop_oldest(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut images: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    images.sort();
    let surplus = images.len().saturating_sub(IMAGES_MAX);
    for (_, path) in &images[..surplus] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_kept_once_and_the_last_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = keep(folder.path(), b"first").unwrap();
        assert_eq!(keep(folder.path(), b"first").unwrap(), first);
        assert_eq!(fs::read(&first).unwrap(), b"first");
        let paths: Vec<PathBuf> = (0..6_u8).map(|n| keep(folder.path(), &[n]).unwrap()).collect();
        let images = fs::read_dir(folder.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(PREFIX)
        });
        assert_eq!(images.count(), IMAGES_MAX);
        assert!(paths[5].is_file());
    }

    #[test]
    fn many_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let content = vec![7; 1 << 20];
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let keeping = || keep(folder.path(), &content).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(keeping)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(paths.iter().all(|path| *path == paths[0]));
        assert_eq!(fs::read(&paths[0]).unwrap(), content);
    }
}
