//! The calling end of the control port.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{ANSWER_BYTES_MAX, Answer, Command, Counters};
use crate::dirty::DirtyRate;
use crate::flows::plan::FlowSpec;
use crate::log::Log;
use crate::server::{CloseHow, Filter};

/// Why a command has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The guest cannot be reached, or was lost on the way: whether it obeyed is not known.
    #[error("the guest's control port does not answer; check that the guest runs and is reachable")]
    Lost(#[source] io::Error),
    /// What came is no answer to the command.
    #[error("the guest's control port answered something else: {0}")]
    Nonsense(String),
    /// The guest refuses, and has changed nothing.
    #[error("the guest refuses: {0}")]
    Refused(String),
}

/// A connection to a guest's control port.
///
/// It need not be TCP from here: whoever must cross namespaces hands over a stream that does.
#[derive(Debug)]
pub struct Control<S> {
    stream: BufReader<S>,
}

impl Control<TcpStream> {
    /// Connects, and lets no answer take longer than `answer_max`.
    ///
    /// # Errors
    /// The guest cannot be reached.
    pub fn connect(address: SocketAddr, answer_max: Duration) -> Result<Self, ControlError> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, answer_max)?;
            stream.set_read_timeout(Some(answer_max))?;
            stream.set_write_timeout(Some(answer_max))?;
            Ok(stream)
        };
        Ok(Self::over(connect().map_err(ControlError::Lost)?))
    }
}

impl<S: Read + Write> Control<S> {
    /// Speaks over a stream that is connected already.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// All that the guest has seen.
    ///
    /// # Errors
    /// The guest has no good answer.
    pub fn log(&mut self) -> Result<Log, ControlError> {
        match self.command(&Command::Log)? {
            Answer::Log(log) => Ok(log),
            other => Err(nonsense(&other)),
        }
    }

    /// Ends connections; says how many.
    ///
    /// # Errors
    /// The guest has no good answer.
    pub fn close(&mut self, filter: Filter, how: CloseHow) -> Result<usize, ControlError> {
        self.change(&Command::Close { filter, how })
    }

    /// Sets the rate at which memory is dirtied.
    ///
    /// # Errors
    /// The guest has no good answer, or not so much memory.
    pub fn dirty(&mut self, rate: DirtyRate) -> Result<(), ControlError> {
        self.change(&Command::Dirty(rate)).map(drop)
    }

    /// Sets the rate at which records are written.
    ///
    /// # Errors
    /// The guest has no good answer, or no disk.
    pub fn records(&mut self, per_second: u32) -> Result<(), ControlError> {
        self.change(&Command::Records { per_second }).map(drop)
    }

    /// The guest's counters.
    ///
    /// # Errors
    /// The guest has no good answer.
    pub fn counters(&mut self) -> Result<Counters, ControlError> {
        match self.command(&Command::Counters)? {
            Answer::Counters(counters) => Ok(*counters),
            other => Err(nonsense(&other)),
        }
    }

    /// Has the guest open connections to a neighbour.
    ///
    /// # Errors
    /// The guest has no good answer.
    pub fn connect_to(&mut self, spec: FlowSpec) -> Result<(), ControlError> {
        self.change(&Command::Connect(spec)).map(drop)
    }

    /// Makes the guest's own connections silent, or lets them speak; says how many of them there are.
    ///
    /// # Errors
    /// The guest has no good answer.
    pub fn silence(&mut self, flows: Vec<usize>, silent: bool) -> Result<usize, ControlError> {
        self.change(&Command::Silence { flows, silent })
    }

    fn change(&mut self, command: &Command) -> Result<usize, ControlError> {
        match self.command(command)? {
            Answer::Done { count } => Ok(count),
            other => Err(nonsense(&other)),
        }
    }

    fn command(&mut self, command: &Command) -> Result<Answer, ControlError> {
        let line = ask(&mut self.stream, command).map_err(ControlError::Lost)?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Refused { reason }) => Err(ControlError::Refused(reason)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(ControlError::Nonsense(error.to_string())),
        }
    }
}

fn ask<S: Read + Write>(stream: &mut BufReader<S>, command: &Command) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line)?;
    stream.get_mut().flush()?;
    line.clear();
    stream.take(ANSWER_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn nonsense(answer: &Answer) -> ControlError {
    ControlError::Nonsense(format!("{answer:?}").chars().take(200).collect())
}
