//! The clients' own event loop.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use mio::event::Event as Readiness;
use mio::{Events, Poll, Waker};

use super::{Answer, COMMAND_BYTES_MAX, Command};
use crate::flows::plan::Plan;
use crate::flows::{Flows, OpenError, Pool};
use crate::slots::Part;

const EVENTS_MAX: usize = 1024;

/// Commands that may wait. Each is answered before the next is read from here.
const COMMANDS_MAX: usize = 16;

/// Why the program ended early.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The system lets no event loop run.
    #[error("the system gives no event loop or thread")]
    System(#[source] io::Error),
    /// Whoever reads the answers is gone.
    #[error("the answers can no longer be written; is their reader gone?")]
    Output(#[source] io::Error),
}

/// Obeys the commands that `input` holds, a line each, and answers on `output`, until `Stop` or the
/// input's end.
///
/// # Errors
/// What ended it early.
pub fn run(input: impl Read + Send + 'static, output: impl Write) -> Result<(), ProgramError> {
    let poll = Poll::new().map_err(ProgramError::System)?;
    let waker = Waker::new(poll.registry(), Part::Waker.token(0, 0));
    let waker = Arc::new(waker.map_err(ProgramError::System)?);
    // Kept to the end: with it, a call that was not heard yet would go too.
    let kept = Arc::clone(&waker);
    let (sender, commands) = sync_channel(COMMANDS_MAX);
    // Not joined: it may wait for input for ever, and ends with the process.
    std::thread::Builder::new()
        .name("commands".into())
        .spawn(move || read_commands(input, sender, &waker))
        .map_err(ProgramError::System)?;
    Program {
        poll,
        commands,
        output,
        flows: Flows::default(),
        started: false,
        awaited: None,
        _waker: kept,
    }
    .run()
}

struct Program<W> {
    poll: Poll,
    commands: Receiver<Result<Command, String>>,
    output: W,
    flows: Flows,
    /// The one start has been; sockets opened from now on are counted apart.
    started: bool,
    awaited: Option<Awaited>,
    _waker: Arc<Waker>,
}

/// What the answer to the command in hand waits for.
#[derive(Debug, Clone, Copy)]
enum Awaited {
    Hellos { until: Instant },
    Ends { until: Instant },
}

enum Next {
    GoOn,
    Exit,
}

impl<W: Write> Program<W> {
    fn run(mut self) -> Result<(), ProgramError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut more = false;
        loop {
            let wait = if more { Some(Duration::ZERO) } else { self.rest() };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(ProgramError::System(error));
                }
                _ => {}
            }
            let now = Instant::now();
            for event in events.iter().map(Readiness::token) {
                self.flows.event(event, now);
            }
            more = self.flows.go_on(now);
            if let Next::Exit = self.obey_all(now)? {
                return Ok(());
            }
        }
    }

    fn rest(&self) -> Option<Duration> {
        let until = self.awaited.map(|(Awaited::Hellos { until } | Awaited::Ends { until })| until);
        let due = self.flows.next_due().into_iter().chain(until).min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Obeys the commands that are here, in order; each waits for the one before it.
    fn obey_all(&mut self, now: Instant) -> Result<Next, ProgramError> {
        loop {
            match self.awaited {
                Some(Awaited::Hellos { until }) if self.flows.is_settled() || until <= now => {
                    self.awaited = None;
                    self.answer(&Answer::Done)?;
                }
                Some(Awaited::Ends { until }) if self.flows.is_over() || until <= now => {
                    let report = self.flows.report(Instant::now());
                    self.answer(&Answer::Report(report))?;
                    return Ok(Next::Exit);
                }
                Some(_) => return Ok(Next::GoOn),
                None => {}
            }
            match self.commands.try_recv() {
                Ok(Ok(command)) => {
                    if let Some(answer) = self.obey(command) {
                        self.answer(&answer)?;
                    }
                }
                Ok(Err(reason)) => self.answer(&Answer::Refused { reason })?,
                Err(TryRecvError::Empty) => return Ok(Next::GoOn),
                Err(TryRecvError::Disconnected) => return Ok(Next::Exit),
            }
        }
    }

    /// Carries out a command; `None` when its answer comes later.
    fn obey(&mut self, command: Command) -> Option<Answer> {
        let now = Instant::now();
        match command {
            Command::Start { .. } if self.started => {
                Some(Answer::Refused { reason: "started already; use 'open'".into() })
            }
            Command::Start { plan, wait_ms } => {
                self.started = true;
                let opened = self.open_all(&plan);
                self.await_hellos(opened, now, wait_ms)
            }
            Command::Open { flows, wait_ms } => {
                let opened = self.flows.open(self.poll.registry(), &flows, Pool::New);
                self.await_hellos(opened, now, wait_ms)
            }
            Command::Pause => {
                self.flows.pause();
                Some(Answer::Done)
            }
            Command::Resume => {
                self.flows.resume();
                Some(Answer::Done)
            }
            Command::Rst { flow } if self.flows.reset(flow) => Some(Answer::Done),
            Command::Rst { flow } => {
                Some(Answer::Refused { reason: format!("flow {flow} is not open") })
            }
            Command::Silence { flows, silent } => {
                let known = self.flows.set_silent(&flows, silent);
                let all = known == flows.len();
                let reason = format!("only {known} of these {} flows are known", flows.len());
                Some(if all { Answer::Done } else { Answer::Refused { reason } })
            }
            Command::Report => Some(Answer::Report(self.flows.report(now))),
            Command::Stop { wait_ms } => {
                self.flows.finish(now);
                self.awaited = Some(Awaited::Ends { until: now + Duration::from_millis(wait_ms) });
                None
            }
        }
    }

    fn open_all(&mut self, plan: &Plan) -> Result<(), OpenError> {
        let registry = self.poll.registry();
        for spec in &plan.sessions {
            self.flows.open_sessions(registry, spec, Pool::Start)?;
        }
        for spec in &plan.flows {
            self.flows.open(registry, spec, Pool::Start)?;
        }
        Ok(())
    }

    fn await_hellos(
        &mut self,
        opened: Result<(), OpenError>,
        now: Instant,
        wait_ms: u64,
    ) -> Option<Answer> {
        match opened {
            Err(error) => Some(refused(&error)),
            Ok(()) => {
                let until = now + Duration::from_millis(wait_ms);
                self.awaited = Some(Awaited::Hellos { until });
                None
            }
        }
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), ProgramError> {
        let mut write = || {
            let mut line = serde_json::to_vec(answer)?;
            line.push(b'\n');
            self.output.write_all(&line)?;
            self.output.flush()
        };
        write().map_err(ProgramError::Output)
    }
}

fn refused(error: &OpenError) -> Answer {
    let mut reason = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        reason = format!("{reason}: {source}");
    }
    Answer::Refused { reason }
}

fn read_commands(input: impl Read, sender: SyncSender<Result<Command, String>>, waker: &Waker) {
    let mut input = io::BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(COMMAND_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if !matches!(read, Ok(read) if read > 0) || !line.ends_with(b"\n") {
            break;
        }
        let command = serde_json::from_slice(&line).map_err(|error| format!("no command: {error}"));
        if sender.send(command).is_err() || waker.wake().is_err() {
            return;
        }
    }
    // The program sees that nobody commands it any more once the sender is gone; the call wakes it.
    // Should the call fail, it sees so at its next event.
    drop(sender);
    let _ = waker.wake();
}
