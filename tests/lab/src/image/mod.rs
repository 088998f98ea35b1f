//! What a VM of the lab boots: Debian's cloud kernel, and an initial file system of busybox, the
//! guest program and the few drivers that it needs.
//!
//! [`GuestImage::build`] gathers the [`parts`], writes them as one [`cpio`] archive, and keeps it under
//! a name made from its content, so that the next test finds it ready. Nothing is compressed: QEMU
//! reads the archive from the page cache faster than a kernel under emulation would unpack it.
//! [`console`] judges what a VM that booted it has printed.

pub mod console;
pub mod cpio;
mod parts;
mod store;

use std::io;
use std::path::PathBuf;

pub use parts::GUEST_PROGRAM;
pub(crate) use parts::INIT_UP;

use parts::Parts;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The guest's kernel was not fetched.
    #[error("the guest's kernel is not in {folder}; run `cargo verify` once, which fetches it")]
    NoKernel {
        /// Where it should be.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no static busybox.
    #[error("there is no static busybox at {path}; install the package busybox-static")]
    NoBusybox {
        /// Where it was looked for.
        path: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The guest program was not built.
    #[error("the guest program could not be built ({outcome}); see cargo's own words above")]
    NoGuestProgram {
        /// How cargo ended, or why it did not start.
        outcome: String,
    },
    /// The guest program would not run in the VM, where there is no library.
    #[error("the guest program {path} is not linked statically; build it with +crt-static")]
    NotStatic {
        /// The program.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}; check the disk's room and the folder's owner")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The folder that cargo builds into cannot be found.
    #[error(
        "{program} does not lie in a target folder of cargo's; run it from where cargo built it"
    )]
    NoTargetFolder {
        /// The running program.
        program: PathBuf,
    },
}

/// What QEMU is given to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImage {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
}

impl GuestImage {
    /// The image of the guest program as its sources are now; built only where it is not there yet.
    /// Safe to call from several processes at once.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn build() -> Result<Self, ImageError> {
        let target = store::target_folder()?;
        let parts = Parts::gather(&target)?;
        let initramfs = store::keep(&target.join("lab"), &parts.archive())?;
        Ok(Self { kernel: parts.kernel, initramfs })
    }
}
