//! The calling end of the clients' program, over its standard input and output.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use super::{ANSWER_BYTES_MAX, Answer, Command};
use crate::flows::Report;
use crate::flows::plan::{FlowSpec, Plan};

/// Why a command has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// The program is gone.
    #[error("the clients' program is gone; look at its error output")]
    Lost(#[source] io::Error),
    /// What came is no answer to the command.
    #[error("the clients' program answered something else: {0}")]
    Nonsense(String),
    /// The program refuses.
    #[error("the clients refuse: {0}")]
    Refused(String),
}

/// A running clients' program.
#[derive(Debug)]
pub struct Clients<W, R> {
    input: W,
    output: BufReader<R>,
}

impl<W: Write, R: Read> Clients<W, R> {
    /// Speaks to the program whose standard input and output these are.
    pub fn over(input: W, output: R) -> Self {
        Self { input, output: BufReader::new(output) }
    }

    /// Opens all of `plan`; returns once every flow has its hello or has failed, or after `wait`.
    ///
    /// # Errors
    /// The plan is out of bounds, the clients have started already, or they are gone.
    pub fn start(&mut self, plan: Plan, wait: Duration) -> Result<(), ClientsError> {
        self.change(&Command::Start { plan, wait_ms: millis(wait) })
    }

    /// Opens flows that are counted apart; returns as [`Clients::start`] does.
    ///
    /// # Errors
    /// The flows are out of bounds, or the clients are gone.
    pub fn open(&mut self, flows: FlowSpec, wait: Duration) -> Result<(), ClientsError> {
        self.change(&Command::Open { flows, wait_ms: millis(wait) })
    }

    /// Stops all messages and datagrams.
    ///
    /// # Errors
    /// The clients are gone.
    pub fn pause(&mut self) -> Result<(), ClientsError> {
        self.change(&Command::Pause)
    }

    /// Goes on after a pause.
    ///
    /// # Errors
    /// The clients are gone.
    pub fn resume(&mut self) -> Result<(), ClientsError> {
        self.change(&Command::Resume)
    }

    /// Ends one flow by RST.
    ///
    /// # Errors
    /// The flow is not open, or the clients are gone.
    pub fn rst(&mut self, flow: usize) -> Result<(), ClientsError> {
        self.change(&Command::Rst { flow })
    }

    /// Makes flows silent, or lets them speak.
    ///
    /// # Errors
    /// A flow is not known, or the clients are gone.
    pub fn silence(&mut self, flows: Vec<usize>, silent: bool) -> Result<(), ClientsError> {
        self.change(&Command::Silence { flows, silent })
    }

    /// How things stand.
    ///
    /// # Errors
    /// The clients are gone.
    pub fn report(&mut self) -> Result<Report, ClientsError> {
        self.ask_report(&Command::Report)
    }

    /// Ends everything in order, waits for it at most `wait`, and has the program exit.
    ///
    /// # Errors
    /// The clients are gone.
    pub fn stop(mut self, wait: Duration) -> Result<Report, ClientsError> {
        self.ask_report(&Command::Stop { wait_ms: millis(wait) })
    }

    fn change(&mut self, command: &Command) -> Result<(), ClientsError> {
        match self.command(command)? {
            Answer::Done => Ok(()),
            other @ (Answer::Report(_) | Answer::Refused { .. }) => Err(nonsense(&other)),
        }
    }

    fn ask_report(&mut self, command: &Command) -> Result<Report, ClientsError> {
        match self.command(command)? {
            Answer::Report(report) => Ok(report),
            other @ (Answer::Done | Answer::Refused { .. }) => Err(nonsense(&other)),
        }
    }

    fn command(&mut self, command: &Command) -> Result<Answer, ClientsError> {
        let line = self.ask(command).map_err(ClientsError::Lost)?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Refused { reason }) => Err(ClientsError::Refused(reason)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(ClientsError::Nonsense(error.to_string())),
        }
    }

    fn ask(&mut self, command: &Command) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        self.input.flush()?;
        line.clear();
        (&mut self.output).take(ANSWER_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn nonsense(answer: &Answer) -> ClientsError {
    ClientsError::Nonsense(format!("{answer:?}").chars().take(200).collect())
}
