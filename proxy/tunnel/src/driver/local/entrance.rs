//! A socket that stands for a grant: what connects to it comes out at the far site.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokio::net::UnixListener;

use crate::protocol::channel::Grant;

/// Longest path that a unix socket can have.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a socket for hypervisors cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// The system refused.
    #[error("{}: cannot be {action}; check who owns the folder and that it has room", path.display())]
    System {
        /// The socket or its folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others may look into the folder, or it is not ours.
    #[error(
        "{}: this folder of sockets is open to others or not ours (mode {mode:04o}); give it to the proxy's user with mode 0700",
        path.display()
    )]
    FolderOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something is there that we did not make, or that somebody listens on.
    #[error("{}: is in use or no socket; see what made it, and remove it if it is not needed", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// Folder and names are too long together.
    #[error("{}: is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path; use a shorter folder or names", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
}

/// Makes the folder of the entrances, or checks that it is ours alone.
pub(crate) fn prepare_folder(path: &Path) -> Result<(), EntranceError> {
    let system = |action| move |source| system(path, action, source);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(system("made"))?;
    let metadata = fs::metadata(path).map_err(system("looked at"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 || metadata.uid() != geteuid().as_raw() {
        return Err(EntranceError::FolderOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// A listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Entrance {
    path: PathBuf,
    file: (u64, u64),
}

impl Entrance {
    /// Listens for hypervisors under a grant.
    pub(crate) fn open(
        folder: &Path,
        grant: &Grant,
    ) -> Result<(Entrance, UnixListener), EntranceError> {
        let Grant { vm, epoch, channel, to, .. } = grant;
        let path = folder.join(format!("{vm}.{epoch}.{to}.{channel}.sock"));
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(EntranceError::TooLong { path });
        }
        remove_dead(&path)?;
        let listener = UnixListener::bind(&path);
        let listener = listener.map_err(|source| system(&path, "listened on", source))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|source| system(&path, "closed to others", source))?;
        let file = identity(&path).map_err(|source| system(&path, "looked at", source))?;
        Ok((Entrance { path, file }, listener))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        // Another process may have put its own in this place; that is not ours to remove.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that a process of ours left behind when it died has nobody listening.
fn remove_dead(path: &Path) -> Result<(), EntranceError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(system(path, "looked at", source)),
    };
    let ours = metadata.file_type().is_socket() && metadata.uid() == geteuid().as_raw();
    let dead = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let probe = std::os::unix::net::UnixStream::connect;
    if !ours || !probe(path).is_err_and(|error| dead(&error)) {
        return Err(EntranceError::Taken { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(|source| system(path, "removed", source))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn system(path: &Path, action: &'static str, source: io::Error) -> EntranceError {
    EntranceError::System { path: path.to_owned(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            vm: "web".parse().unwrap(),
            epoch: placement::Epoch::new(2),
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            channel: "mirror".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_socket_is_ours_alone_and_goes_with_its_entrance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entrances");
        prepare_folder(&path).unwrap();
        let (entrance, listener) = Entrance::open(&path, &grant()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(entrance.path())), (0o700, 0o600));
        let again = Entrance::open(&path, &grant());
        assert!(matches!(again, Err(EntranceError::Taken { .. })), "somebody listens");
        let socket = entrance.path().to_owned();
        drop((entrance, listener));
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_file_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("entrances");
        prepare_folder(&folder).unwrap();
        let path = folder.join("web.2.b.mirror.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Entrance::open(&folder, &grant()).unwrap());
        fs::write(&path, "not ours").unwrap();
        assert!(matches!(Entrance::open(&folder, &grant()), Err(EntranceError::Taken { .. })));
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_is_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(prepare_folder(folder.path()), Err(EntranceError::FolderOpen { .. })));
    }
}
