//! An installation that grows: what is there keeps its CA and its keys, what is new gets keys, and
//! every configuration is made anew, for each names the others.
//!
//! The grown installation takes the place of the earlier one in one step, and the earlier one is kept
//! beside it: whoever has changed a configuration by hand finds the change there.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use placement::Identity;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::configurations::Part;
use super::{AUTHORITY, InitError, PAPERS, SITES, part_folder};
use crate::pki::folder::{self, Entry};

/// What the earlier installation is called from then on.
const BEFORE: &str = "before";

/// An installation that stands.
pub(super) struct Earlier {
    root: PathBuf,
    before: PathBuf,
}

impl Earlier {
    /// Finds what stands in `root`; all of it must be among the described parts.
    pub(super) fn find(root: &Path, described: &[Part]) -> Result<Earlier, InitError> {
        let nothing = || InitError::NothingThere { path: root.to_owned() };
        let name = root.file_name().ok_or_else(nothing)?;
        if !root.join(AUTHORITY).is_dir() {
            return Err(nothing());
        }
        let before = root.with_file_name(format!("{}.{BEFORE}", name.to_string_lossy()));
        if before.symlink_metadata().is_ok() {
            return Err(InitError::InTheWay { path: before });
        }
        for site in folders(&root.join(SITES))? {
            for part in folders(&site)? {
                if !described.iter().any(|one| part_folder(root, &one.identity) == part) {
                    return Err(InitError::Undescribed { path: part });
                }
            }
        }
        Ok(Earlier { root: root.to_owned(), before })
    }

    /// Brings the CA into the new folder.
    pub(super) fn carry_authority(&self, into: &Path) -> Result<(), InitError> {
        let files = ["ca.pem", "private/ca.key"];
        carry(&self.root.join(AUTHORITY), &files, &into.join(AUTHORITY))
    }

    /// Brings a part's papers into its new folder, where it has some.
    pub(super) fn carry_papers(&self, of: &Identity, into: &Path) -> Result<bool, InitError> {
        let from = part_folder(&self.root, of);
        if !from.is_dir() {
            return Ok(false);
        }
        carry(&from, &PAPERS, into)?;
        Ok(true)
    }

    /// Whether a part has exactly these files already.
    pub(super) fn has(&self, part: &Part) -> bool {
        let folder = part_folder(&self.root, &part.identity);
        let is_same = |(name, text): &(String, String)| {
            fs::read(folder.join(name)).is_ok_and(|there| there == text.as_bytes())
        };
        part.files.iter().all(is_same)
    }

    /// Puts the new folder in the place of this one, and keeps this one beside it; says where.
    pub(super) fn replace(self, made: TempDir) -> Result<PathBuf, InitError> {
        let failed = |source: io::Error| InitError::System { path: self.root.clone(), source };
        renameat_with(CWD, made.path(), CWD, &self.root, RenameFlags::EXCHANGE)
            .map_err(|error| failed(error.into()))?;
        // What has this name now are keys in use: they are never removed.
        let earlier = made.keep();
        // The new one stands, whatever becomes of this: the earlier one then keeps the odd name.
        let kept = match fs::rename(&earlier, &self.before) {
            Ok(()) => self.before,
            Err(_) => earlier,
        };
        folder::sync_outer(&self.root)?;
        Ok(kept)
    }
}

fn folders(of: &Path) -> Result<Vec<PathBuf>, InitError> {
    let system = |source| InitError::System { path: of.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(of).map_err(system)? {
        let path = entry.map_err(system)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Copies files, with their permissions, into a folder that it makes.
fn carry(from: &Path, files: &[&str], into: &Path) -> Result<(), InitError> {
    let mut entries = Vec::new();
    for path in files {
        let file = from.join(path);
        let system = |source| InitError::System { path: file.clone(), source };
        let mode = fs::metadata(&file).map_err(system)?.permissions().mode() & 0o777;
        let content = fs::read_to_string(&file).map_err(system)?;
        entries.push(Entry { path, mode, content });
    }
    let system = |source| InitError::System { path: into.to_owned(), source };
    super::make_folder(into).map_err(system)?;
    folder::fill(into, &entries).map_err(system)
}
