//! Packet rules. All that is said to the kernel's nft goes through here, by the `nft` program: what
//! we need of it (netdev egress, payload writes, forwarding, dynamic sets) no kept crate carries.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use crate::NetworkError;

/// How long the program may take. It needs a few milliseconds; on a machine with five times more to do
/// than it can, ten seconds were not enough.
const RUN_S_MAX: i64 = 30;
/// The longest answer: four full sets are a third of it.
const ANSWER_BYTES_MAX: u64 = 128 << 20;
/// How much of a refusal is told.
const SAID_CHARS_MAX: usize = 600;
/// The program belongs to the system, wherever we were started from.
const PATH: &str = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin";

/// Whoever speaks to the kernel's nft, for the namespace of the calling thread.
pub(crate) trait Nft {
    /// Loads commands in one transaction: all of them, or none.
    fn load(&self, what: &str, commands: &str) -> Result<(), NetworkError>;

    /// Lists an object, for example `["set", "netdev", "table", "name"]`. `None` where it is not.
    fn list(&self, object: &[&str]) -> Result<Option<Value>, NetworkError>;
}

/// The `nft` program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NftProgram;

impl Nft for NftProgram {
    fn load(&self, what: &str, commands: &str) -> Result<(), NetworkError> {
        let done = run(&["-f", "-"], commands).map_err(NetworkError::NoNft)?;
        if done.is_success {
            return Ok(());
        }
        Err(NetworkError::Nft { what: format!("load {what}"), said: done.said })
    }

    fn list(&self, object: &[&str]) -> Result<Option<Value>, NetworkError> {
        // Numbers stay numbers: a port's name would depend on the system's tables.
        let arguments = [&["-j", "-n", "list"], object].concat();
        let done = run(&arguments, "").map_err(NetworkError::NoNft)?;
        let refused = |said| NetworkError::Nft { what: format!("list {}", object.join(" ")), said };
        if done.is_success {
            let told = serde_json::from_slice(&done.answer);
            return told.map(Some).map_err(|error| refused(error.to_string()));
        }
        if done.said.contains("No such file or directory") {
            return Ok(None);
        }
        Err(refused(done.said))
    }
}

struct Done {
    is_success: bool,
    answer: Vec<u8>,
    said: String,
}

/// Files in memory instead of pipes: neither end can wait for the other.
fn run(arguments: &[&str], input: &str) -> io::Result<Done> {
    let (mut commands, answer, said) = (memory()?, memory()?, memory()?);
    commands.write_all(input.as_bytes())?;
    commands.seek(SeekFrom::Start(0))?;
    let mut command = Command::new("nft");
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command.stdin(Stdio::from(commands));
    command.stdout(Stdio::from(answer.try_clone()?)).stderr(Stdio::from(said.try_clone()?));
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let bound = Timespec { tv_sec: RUN_S_MAX, tv_nsec: 0 };
    let is_late = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&bound))? == 0;
    if is_late {
        child.kill()?;
    }
    let status = child.wait()?;
    if is_late {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "nft did not end and was killed"));
    }
    let said = String::from_utf8_lossy(&read_back(said)?).trim().to_owned();
    let said = said.chars().take(SAID_CHARS_MAX).collect();
    Ok(Done { is_success: status.success(), answer: read_back(answer)?, said })
}

fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create("nft", MemfdFlags::CLOEXEC)?))
}

fn read_back(mut file: File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
