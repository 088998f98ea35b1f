//! How much of an image is really there: compared with what the link has carried, it shows that no
//! byte of a disk came to a site by another way.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::LabError;

/// The unit of `st_blocks`, whatever the file system's own block size.
const BLOCK_BYTES: u64 = 512;

/// The bytes that the file at `path` takes on its disk; holes take none.
pub fn allocated_bytes(path: &Path) -> Result<u64, LabError> {
    let metadata = path.metadata().map_err(|cause| LabError::file("look at", path, cause))?;
    Ok(metadata.blocks() * BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};

    #[test]
    fn holes_take_no_space_and_written_bytes_do() {
        let descriptor =
            rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut image = std::fs::File::from(descriptor);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&image));
        image.set_len(64 << 20).unwrap();
        assert_eq!(allocated_bytes(Path::new(&path)).unwrap(), 0);
        image.seek(SeekFrom::Start(32 << 20)).unwrap();
        image.write_all(&[7; 1 << 20]).unwrap();
        assert_eq!(allocated_bytes(Path::new(&path)).unwrap(), 1 << 20);
    }
}
