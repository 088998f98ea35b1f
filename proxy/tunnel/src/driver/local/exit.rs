//! Dialling out for a peer: only what a permit has resolved to, and for a unix socket only in a
//! folder that is closed to others, or any user of the host could stand in for the hypervisor.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::LocalStream;
use crate::protocol::channel::Exit;

/// Longest wait for a program on this host to take a connection.
const DIAL_MS_MAX: u64 = 3_000;

/// Why a permitted target is not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitError {
    #[error("folder {} is open to others (mode {mode:04o}); run: chmod 700 {}", path.display(), path.display())]
    FolderOpen { path: PathBuf, mode: u32 },
    #[error("{target} does not answer; see that the program listens there")]
    Unreachable {
        target: String,
        #[source]
        source: io::Error,
    },
}

/// Dials a permitted target.
pub(crate) async fn dial(exit: &Exit) -> Result<LocalStream, ExitError> {
    let unreachable =
        |source: io::Error| ExitError::Unreachable { target: exit.to_string(), source };
    let dialling = async {
        match exit {
            Exit::Unix(path) => {
                check_folder(path)?;
                UnixStream::connect(path).await.map(LocalStream::Unix).map_err(unreachable)
            }
            Exit::Loopback(address) => {
                let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
                tcp.set_nodelay(true).map_err(unreachable)?;
                Ok(LocalStream::Loopback(tcp))
            }
        }
    };
    match timeout(Duration::from_millis(DIAL_MS_MAX), dialling).await {
        Ok(dialled) => dialled,
        Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
    }
}

fn check_folder(socket: &Path) -> Result<(), ExitError> {
    let path = socket.parent().unwrap_or(Path::new("/"));
    let unreachable =
        |source| ExitError::Unreachable { target: path.display().to_string(), source };
    let mode = fs::metadata(path).map_err(unreachable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ExitError::FolderOpen { path: path.to_owned(), mode });
    }
    Ok(())
}
