//! A socket that stands for a grant: what connects to it comes out at the far site.
//!
//! It is called `VM.EPOCH.CHANNEL` and belongs to whoever owns the folder it lies in: an operator
//! gives proxy and hypervisor one 0700 folder, which is the hypervisor's user's, and that user finds
//! the channel there by a name that both know. So the folder's owner is somebody that a proxy which
//! is root must not be led astray by: nothing here follows a link, and nothing is given away but the
//! very socket that was made.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chownat, fchmod, fstat, openat, statat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Gid, Uid, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::protocol::channel::Grant;

/// Connections of hypervisors that wait to be taken; a move opens a handful.
const BACKLOG: i32 = 64;
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
        "{}: this folder of sockets is open to others or not ours (mode {mode:04o}); give it mode 0700, and to the user of whoever connects",
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

/// Makes the folder of the entrances, or checks that it is open to nobody but its owner: ourselves,
/// or, where we are root, whoever connects.
pub(crate) fn prepare_folder(path: &Path) -> Result<(), EntranceError> {
    let system = |action| move |source| system(path, action, source);
    // Whoever the folder is given to must get through what lies above.
    let above = path.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
    made.map_err(system("reached"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(system("made"))?;
    let metadata = fs::metadata(path).map_err(system("looked at"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    let reachable = metadata.uid() == geteuid().as_raw() || geteuid().is_root();
    if mode & 0o077 != 0 || !reachable {
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
        let Grant { vm, epoch, channel, .. } = grant;
        let path = folder.join(format!("{vm}.{epoch}.{channel}"));
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(EntranceError::TooLong { path });
        }
        remove_dead(folder, &path)?;
        let listener = listen(&path).map_err(|source| system(&path, "listened on", source))?;
        let file = identity(&path).map_err(|source| system(&path, "looked at", source))?;
        let entrance = Entrance { path, file };
        entrance.give_to_owner()?;
        Ok((entrance, listener))
    }

    /// Gives the socket to whoever owns the folder now: it may have been given away since.
    pub(crate) fn give_to_owner(&self) -> Result<(), EntranceError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let owner = fs::metadata(folder).map_err(|source| system(folder, "looked at", source))?;
        give(&self.path, &owner).map_err(|source| system(&self.path, "given away", source))
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

/// A socket that is closed to others before it has a name.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    // The file takes the descriptor's mode: nobody's path has to be followed to close it.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Only a socket that is still ours and has no second name is given away.
fn give(path: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&file)?;
    if found.st_uid == owner.uid() && found.st_gid == owner.gid() {
        return Ok(());
    }
    let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
    if !is_socket || found.st_uid != geteuid().as_raw() || found.st_nlink != 1 {
        return Err(io::Error::other("something else has taken its place"));
    }
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    chownat(&file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// A socket that an earlier proxy left behind when it died has nobody listening.
fn remove_dead(folder: &Path, path: &Path) -> Result<(), EntranceError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(system(path, "looked at", source)),
    };
    let owner = fs::metadata(folder).map_err(|source| system(folder, "looked at", source))?;
    let known = metadata.uid() == geteuid().as_raw() || metadata.uid() == owner.uid();
    if !metadata.file_type().is_socket() || !known || is_listened_on(path) {
        return Err(EntranceError::Taken { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(|source| system(path, "removed", source))
}

/// Asks without waiting: somebody whose backlog is full listens too.
fn is_listened_on(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let tried = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    tried != Err(Errno::CONNREFUSED)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((found.st_dev, found.st_ino))
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
        let path = folder.join("web.2.mirror");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Entrance::open(&folder, &grant()).unwrap());
        fs::write(&path, "not ours").unwrap();
        assert!(matches!(Entrance::open(&folder, &grant()), Err(EntranceError::Taken { .. })));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_socket_belongs_to_the_owner_of_its_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shared");
        prepare_folder(&folder).unwrap();
        let (early, _listener) = Entrance::open(&folder, &grant()).unwrap();
        let hypervisor = (65_534, 65_534);
        std::os::unix::fs::chown(&folder, Some(hypervisor.0), Some(hypervisor.1)).unwrap();
        prepare_folder(&folder).unwrap();
        let late = Grant { channel: "memory".parse().unwrap(), ..grant() };
        let (late, _late_listener) = Entrance::open(&folder, &late).unwrap();
        let seen = |entrance: &Entrance| {
            let seen = fs::symlink_metadata(entrance.path()).unwrap();
            (seen.uid(), seen.gid(), seen.permissions().mode() & 0o777)
        };
        assert_eq!(late.path(), folder.join("web.2.memory"));
        assert_eq!(seen(&late), (hypervisor.0, hypervisor.1, 0o600));
        assert_ne!(seen(&early).0, hypervisor.0, "it was made before");
        early.give_to_owner().unwrap();
        assert_eq!(seen(&early), (hypervisor.0, hypervisor.1, 0o600));

        // What an earlier proxy left there is the folder's owner's too.
        let path = late.path().to_owned();
        drop((late, _late_listener));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(hypervisor.0), Some(hypervisor.1)).unwrap();
        let again = Grant { channel: "memory".parse().unwrap(), ..grant() };
        drop(Entrance::open(&folder, &again).unwrap());
    }

    #[tokio::test]
    async fn nothing_is_given_away_but_the_socket_that_was_made() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shared");
        prepare_folder(&folder).unwrap();
        let (entrance, _listener) = Entrance::open(&folder, &grant()).unwrap();
        std::os::unix::fs::chown(&folder, Some(65_534), Some(65_534)).unwrap();
        let secret = outer.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        for put in [
            std::os::unix::fs::symlink::<&Path, &Path>,
            fs::hard_link::<&Path, &Path>,
            |from, to| fs::copy(from, to).map(|_| ()),
        ] {
            fs::remove_file(entrance.path()).unwrap();
            put(&secret, entrance.path()).unwrap();
            entrance.give_to_owner().unwrap_err();
            assert_eq!(fs::symlink_metadata(&secret).unwrap().uid(), geteuid().as_raw());
            assert_eq!(fs::symlink_metadata(entrance.path()).unwrap().uid(), geteuid().as_raw());
        }
        let path = entrance.path().to_owned();
        drop(entrance);
        assert!(path.exists(), "what took its place is not its own to remove");
    }

    #[test]
    fn a_folder_is_reached_by_others_and_open_to_nobody_but_its_owner() {
        let outer = tempfile::tempdir().unwrap();
        let (above, path) = (outer.path().join("run"), outer.path().join("run/channels"));
        prepare_folder(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&above) & 0o011, 0o011, "{:o}", mode(&above));
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(prepare_folder(folder.path()), Err(EntranceError::FolderOpen { .. })));
    }
}
