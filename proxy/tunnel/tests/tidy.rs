//! The protocol stays pure: whoever reaches for a clock, a socket, a thread or a dice in it is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// What pure code has no business with, and where it would find it instead.
const BANNED: [(&str, &str); 10] = [
    ("Instant", "time comes in as a Moment"),
    ("SystemTime", "time comes in as a Moment"),
    ("tokio", "the driver waits and spawns"),
    ("async ", "the driver waits"),
    (".await", "the driver waits"),
    ("std::thread", "the driver spawns"),
    ("std::fs", "the driver opens files"),
    ("TcpStream", "the driver has the sockets"),
    ("UnixStream", "the driver has the sockets"),
    ("RandomState", "randomness comes in as a number"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn the_protocol_is_pure() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol"), &mut found);
    assert!(found.len() > 20, "the protocol has moved; tell this test where to");
    for path in found {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (banned, instead) in BANNED {
                let place = format!("{}:{}", path.display(), number + 1);
                assert!(!code.contains(banned), "{place}: '{banned}', but {instead}");
            }
        }
    }
}
