//! Why the kernel is not in the state that was wanted.

use std::io;
use std::path::PathBuf;

/// Why the kernel is not in the state that was wanted. What was done before stays; asking again goes
/// on from there.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// An interface is missing.
    #[error("there is no interface {name}; {remedy}")]
    NoInterface {
        /// Its name.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Another process holds the TUN.
    #[error("{name} is in use; end the other causeway-proxy that has this leg")]
    TunInUse {
        /// Its name.
        name: String,
    },
    /// The kernel refuses.
    #[error("cannot {what}; is CAP_NET_ADMIN (for namespaces: CAP_SYS_ADMIN) granted?")]
    Kernel {
        /// What was tried, with the object's name.
        what: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The nft program cannot be run.
    #[error("nft cannot be run; install the package nftables")]
    NoNft(#[source] io::Error),
    /// The nft program refuses.
    #[error("nft does not {what}: {said}")]
    Nft {
        /// What was tried, with the table's name.
        what: String,
        /// What it says, shortened.
        said: String,
    },
    /// What a leg was before it was moved is not known.
    #[error(
        "{} cannot be read or written; without it the leg cannot be given back with its addresses",
        path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A name that cannot stand in rules and paths.
    #[error(
        "'{name}' cannot stand in rules and paths; write 1 to {most} of a-z, 0-9 and inner '-'"
    )]
    BadName {
        /// The name.
        name: String,
        /// Longest name.
        most: usize,
    },
    /// Two VMs whose names lead to the same tables.
    #[error("VMs {one} and {other} would share routing tables; name one of them differently")]
    Clash {
        /// One.
        one: String,
        /// The other.
        other: String,
    },
    /// More than is kept for one VM.
    #[error("{count} {what} for {vm}; keep it to {most}")]
    TooMany {
        /// Whose.
        vm: String,
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
}

impl NetworkError {
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
        let what = what.into();
        move |source| NetworkError::Kernel { what, source }
    }
}
