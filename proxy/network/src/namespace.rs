//! A network of our own on the proxy's host, by a name that `ip netns` knows.
//!
//! The host's routing, firewall and settings stay untouched, whatever the leg needs. It outlives us:
//! the bind mount holds it until it is removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::fstatfs;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::Netlink;
use crate::vm::check_name;
use crate::{NetworkError, own_namespace};

/// Longest name: more than a network's with what we put before it.
const NAME_BYTES_MAX: usize = 128;
/// Where `ip netns` looks.
const FOLDER: &str = "/run/netns";
/// The calling thread's own.
const OWN: &str = "/proc/thread-self/ns/net";
/// The file system of namespaces.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A network namespace that we made, and the way back from it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    namespace: OwnedFd,
    home: OwnedFd,
}

/// The calling thread is in a namespace as long as this lives.
#[derive(Debug)]
pub struct Inside<'n> {
    home: &'n OwnedFd,
    /// It is one thread that went in, and the same that comes out.
    _thread: PhantomData<*const ()>,
}

impl Namespace {
    /// The namespace of this name, made where it is not there.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn make(name: &str) -> Result<Namespace, NetworkError> {
        if let Some(there) = Namespace::find(name)? {
            return Ok(there);
        }
        let path = path_of(name);
        let failed = |what| NetworkError::kernel(format!("{what} network namespace {name}"));
        fs::create_dir_all(FOLDER).map_err(failed("make the folder of"))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.map_err(failed("make the file of"))?;
        let mount = || {
            own_namespace::leave()?;
            let netlink = Netlink::open()?;
            netlink.set_up(netlink.index("lo")?)?;
            Ok(mount_bind(OWN, &path)?)
        };
        on_a_thread(mount).map_err(failed("make"))?;
        let found = Namespace::find(name)?;
        found.ok_or_else(|| failed("find the new")(io::ErrorKind::NotFound.into()))
    }

    /// The namespace of this name, if it is there.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn find(name: &str) -> Result<Option<Namespace>, NetworkError> {
        check_name(name, NAME_BYTES_MAX)?;
        let failed = || NetworkError::kernel(format!("open network namespace {name}"));
        let namespace = match File::open(path_of(name)) {
            Ok(file) => OwnedFd::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed()(error)),
        };
        // A file that nothing is mounted on is what a crash left of a making or a removal.
        let kind = fstatfs(&namespace).map_err(|error| failed()(error.into()))?.f_type;
        if u64::try_from(kind).ok() != Some(NSFS_MAGIC) {
            return Ok(None);
        }
        let home = File::open(OWN).map_err(failed())?.into();
        Ok(Some(Namespace { name: name.to_owned(), namespace, home }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the calling thread into it, until the value is dropped. Sockets belong to the namespace
    /// in which they were opened for as long as they live.
    ///
    /// # Errors
    /// The kernel does not let us in.
    pub fn enter(&self) -> Result<Inside<'_>, NetworkError> {
        let failed = || NetworkError::kernel(format!("enter network namespace {}", self.name));
        enter(&self.namespace).map_err(failed())?;
        Ok(Inside { home: &self.home, _thread: PhantomData })
    }

    pub(crate) fn home(&self) -> &OwnedFd {
        &self.home
    }

    pub(crate) fn as_descriptor(&self) -> &OwnedFd {
        &self.namespace
    }

    /// Takes the name away; the namespace goes with the last process that has something in it.
    pub(crate) fn remove(self) -> Result<(), NetworkError> {
        let failed = || NetworkError::kernel(format!("remove network namespace {}", self.name));
        let path = path_of(&self.name);
        match unmount(&path, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(failed()(error.into())),
        }
        remove_file(&path).map_err(failed())
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // A thread that stayed would open other sockets in the wrong network: it must not go on.
        enter(self.home).expect("a thread may return to the network that it came from");
    }
}

fn enter(namespace: &OwnedFd) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}

fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
