//! The archive format that the kernel unpacks at its start: cpio, "newc". Pure.

/// Every header and every file's content begins at a multiple of this.
const ALIGNMENT: usize = 4;

const MAGIC: &str = "070701";
const LAST: &str = "TRAILER!!!";

/// What an entry is, by the bits that the kernel reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A folder.
    Folder,
    /// A program or script.
    Program(&'a [u8]),
    /// A file that is only read.
    File(&'a [u8]),
    /// A symbolic link to this path.
    Link(&'a str),
    /// A character device.
    Device {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an entry at `path`, which has no leading slash. A folder comes before what is in it.
    pub fn add(&mut self, path: &str, entry: &Entry<'_>) {
        let (mode, content, device) = match entry {
            Entry::Folder => (0o040_755, &[][..], (0, 0)),
            Entry::Program(content) => (0o100_755, *content, (0, 0)),
            Entry::File(content) => (0o100_644, *content, (0, 0)),
            Entry::Link(target) => (0o120_777, target.as_bytes(), (0, 0)),
            Entry::Device { major, minor } => (0o020_600, &[][..], (*major, *minor)),
        };
        self.entries += 1;
        self.write(path, mode, content, device);
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.write(LAST, 0, &[], (0, 0));
        self.bytes
    }

    fn write(&mut self, path: &str, mode: u32, content: &[u8], (major, minor): (u32, u32)) {
        let length = u32::try_from(content.len()).expect("the format's files are below 4 GiB");
        let path_length = u32::try_from(path.len() + 1).expect("a path is short");
        // Inode numbers tell hard links apart, of which there are none: one to an entry.
        let number = self.entries;
        // Inode, mode, owner, group, links, time, length, device, device itself, path, checksum.
        // Owner root, time 0: the same content is the same archive.
        let fields = [number, mode, 0, 0, 1, 0, length, 0, 0, major, minor, path_length, 0];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.add("bin", &Entry::Folder);
        archive.add("bin/tool", &Entry::Program(b"#!/bin/sh\n"));
        archive.add("bin/sh", &Entry::Link("tool"));
        archive.add("note", &Entry::File(b"12345"));
        archive.add("empty", &Entry::File(b""));
        archive.finish()
    }

    #[test]
    fn an_archive_is_byte_for_byte_what_the_format_says() {
        let mut archive = Archive::default();
        archive.add("a", &Entry::File(b"hello"));
        let expected = concat!(
            "07070100000001000081a4000000000000000000000001000000000000000500000000000000000000000000\
             0000000000000200000000",
            "a\0",
            "hello\0\0\0",
            "07070100000001000000000000000000000000000000010000000000000000000000000000000000000000\
             000000000000000b00000000",
            "TRAILER!!!\0\0\0\0"
        );
        assert_eq!(String::from_utf8(archive.finish()).unwrap(), expected);
    }

    #[test]
    fn the_same_entries_are_the_same_archive() {
        assert_eq!(sample(), sample());
        assert!(sample().len().is_multiple_of(ALIGNMENT));
    }

    #[test]
    fn another_reader_of_the_format_finds_every_entry() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Command::new("busybox")
            .args(["cpio", "-id"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        reader.stdin.take().unwrap().write_all(&sample()).unwrap();
        assert!(reader.wait().unwrap().success());
        let read = |path: &str| std::fs::read(folder.path().join(path)).unwrap();
        assert_eq!(read("bin/tool"), b"#!/bin/sh\n");
        assert_eq!(read("bin/sh"), b"#!/bin/sh\n", "through the link");
        assert_eq!(read("note"), b"12345");
        assert_eq!(read("empty"), b"");
        let mode = |path: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("bin/tool"), mode("note")), (0o755, 0o644));
    }
}
