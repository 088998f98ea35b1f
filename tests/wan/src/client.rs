//! The other end of the control socket: a small blocking client, for the lab and for scripts.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::counters::Counters;
use crate::protocol::{ANSWER_BYTES_MAX, Pair, Reply, Request};
use crate::settings::Change;

/// How long an answer may take. The emulator answers within a turn of its loop.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Why a client has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no emulator answers at {path:?}; start it first, it says 'ready' when it listens")]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The emulator ended, or did not answer in time; what was asked may have been done or not.
    #[error("the emulator ended, or gave no answer within {} s", ANSWER_WAIT.as_secs())]
    Lost(#[source] io::Error),
    /// The emulator says no, and has changed nothing.
    #[error("the emulator refuses: {0}")]
    Refused(String),
    /// What came is no answer to what was asked: the program at the other end is another version.
    #[error("the emulator's answer is not understood; run the same version at both ends")]
    NotUnderstood(#[source] Option<serde_json::Error>),
}

/// A connection to a running emulator.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the control socket at a path.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(ANSWER_WAIT))?;
            stream.set_write_timeout(Some(ANSWER_WAIT))?;
            Ok(Self { stream: BufReader::new(stream) })
        };
        connect().map_err(|source| ClientError::Unreachable { path: path.to_owned(), source })
    }

    /// Changes settings.
    pub fn set(&mut self, pair: &Pair, change: Change) -> Result<(), ClientError> {
        self.done(&Request::Set { pair: pair.clone(), change })
    }

    /// Cuts. When this returns, the cut is in force.
    pub fn cut(&mut self, pair: &Pair) -> Result<(), ClientError> {
        self.done(&Request::Cut { pair: pair.clone() })
    }

    /// Ends a cut.
    pub fn heal(&mut self, pair: &Pair) -> Result<(), ClientError> {
        self.done(&Request::Heal { pair: pair.clone() })
    }

    /// Everything that was counted.
    pub fn counters(&mut self) -> Result<Counters, ClientError> {
        match self.ask(&Request::Counters {})? {
            Reply::Counted { counters } => Ok(counters),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            Reply::Done {} => Err(ClientError::NotUnderstood(None)),
        }
    }

    /// Ends the emulator.
    pub fn quit(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Quit {})
    }

    /// Asks, and gives the answer whatever it is.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(request)
            .map_err(|source| ClientError::NotUnderstood(Some(source)))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(ClientError::Lost)?;
        let mut answer = Vec::new();
        let mut bounded = (&mut self.stream).take(ANSWER_BYTES_MAX as u64);
        bounded.read_until(b'\n', &mut answer).map_err(ClientError::Lost)?;
        if answer.is_empty() {
            return Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&answer).map_err(|source| ClientError::NotUnderstood(Some(source)))
    }

    fn done(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Reply::Done {} => Ok(()),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            Reply::Counted { .. } => Err(ClientError::NotUnderstood(None)),
        }
    }
}
