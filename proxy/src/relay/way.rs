//! One way of a flow: from one peer's connection into the other's.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll};
use std::time::Instant;

use proxy_api::Side;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe::{Pipe, Pipes};
use crate::flow::{Ends, Event, Flow, broken_by};
use crate::worker::Worker;

/// The buffer that a worker's flows share, and so the most that a copied way holds.
pub const BUFFER_BYTES: usize = 64 * 1024;
/// Reads of one way before others have their turn.
const READS_PER_TURN: u32 = 8;
/// So many full buffers in a row, and the way is bulk.
const FULL_READS: u8 = 2;
/// A chunk below this is small, for a way that goes through a pipe.
const SMALL_BYTES: usize = 16 * 1024;
/// So many small chunks in a row, and the way is bulk no longer.
const SMALL_CHUNKS: u8 = 4;

/// What carries one way.
#[derive(Debug)]
pub(super) struct Carrier {
    from: Side,
    by: By,
    has_ended: bool,
}

#[derive(Debug)]
enum By {
    /// The shared buffer; nothing is held between turns.
    Copy { full_reads: u8 },
    /// The same, but the receiver has not taken all yet.
    Rest { bytes: Box<[u8]>, at: usize, is_bulk: bool },
    /// A pipe of its own.
    Pipe { pipe: Pipe, small_chunks: u8 },
}

/// What one step came to.
enum Step {
    /// Bytes passed, and there may be more.
    Passed,
    /// Nothing more to do until the sender, or the receiver, is ready.
    Waits,
    /// The sender has ended.
    End,
}

impl Carrier {
    pub(super) fn from(from: Side) -> Carrier {
        Carrier { from, by: By::Copy { full_reads: 0 }, has_ended: false }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Gives the pipe back, if there is one.
    pub(super) fn give_back(&mut self, pipes: &Pipes) {
        if let By::Pipe { pipe, .. } = std::mem::replace(&mut self.by, By::Copy { full_reads: 0 }) {
            pipes.take_back(pipe);
        }
    }

    /// Passes on what there is, within the bound of a turn; arranges to be called again.
    ///
    /// # Errors
    /// The event that ends the whole flow.
    pub(super) fn turn(
        &mut self,
        context: &mut Context<'_>,
        worker: &Worker,
        flow: &Flow,
        ends: &Ends,
    ) -> Result<(), Event> {
        if self.has_ended {
            return Ok(());
        }
        for _ in 0..READS_PER_TURN {
            match self.step(context, worker, flow, ends)? {
                Step::Passed => {}
                Step::Waits => return Ok(()),
                Step::End => {
                    let receiver = self.from.other();
                    rustix::net::shutdown(ends.of(receiver), rustix::net::Shutdown::Write)
                        .map_err(|error| broken_by(receiver, &error.into()))?;
                    self.has_ended = true;
                    self.give_back(&worker.pipes);
                    flow.happened(Event::Ended { from: self.from });
                    return Ok(());
                }
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    fn step(
        &mut self,
        context: &mut Context<'_>,
        worker: &Worker,
        flow: &Flow,
        ends: &Ends,
    ) -> Result<Step, Event> {
        let receiver = self.from.other();
        let (source, sink) = (ends.of(self.from), ends.of(receiver));
        let (ready, asked) = match self.by.holds() {
            true => (sink.poll_write_ready(context), receiver),
            false => (source.poll_read_ready(context), self.from),
        };
        match ready {
            Poll::Pending => return Ok(Step::Waits),
            Poll::Ready(Err(error)) => return Err(broken_by(asked, &error)),
            Poll::Ready(Ok(())) => {}
        }
        match &mut self.by {
            By::Copy { .. } => self.copy(worker, flow, source, sink),
            By::Rest { .. } => self.give_rest(worker, flow, sink),
            By::Pipe { .. } => self.pipe(worker, flow, source, sink),
        }
    }

    /// One read and one write through the shared buffer.
    fn copy(
        &mut self,
        worker: &Worker,
        flow: &Flow,
        source: &TcpStream,
        sink: &TcpStream,
    ) -> Result<Step, Event> {
        let By::Copy { full_reads } = &mut self.by else { return Ok(Step::Passed) };
        let mut buffer = worker.buffer.borrow_mut();
        let Some(taken) = tried(source.try_read(&mut buffer), self.from)? else {
            return Ok(Step::Passed);
        };
        if taken == 0 {
            return Ok(Step::End);
        }
        if taken < BUFFER_BYTES {
            *full_reads = 0;
            emptied(source);
        } else {
            *full_reads += 1;
        }
        let is_bulk = *full_reads == FULL_READS;
        let bytes = buffer.get(..taken).unwrap_or_default();
        let given = tried(sink.try_write(bytes), self.from.other())?.unwrap_or(0);
        flow.passed(self.from, taken as u64, given as u64, Instant::now());
        if given < taken {
            let rest = bytes.get(given..).unwrap_or_default();
            self.by = By::Rest { bytes: rest.into(), at: 0, is_bulk: taken == BUFFER_BYTES };
        } else if is_bulk {
            self.by = bulk(worker);
        }
        Ok(Step::Passed)
    }

    /// One write of what the receiver has not taken yet.
    fn give_rest(&mut self, worker: &Worker, flow: &Flow, sink: &TcpStream) -> Result<Step, Event> {
        let By::Rest { bytes, at, is_bulk } = &mut self.by else { return Ok(Step::Passed) };
        let rest = bytes.get(*at..).unwrap_or_default();
        let given = tried(sink.try_write(rest), self.from.other())?.unwrap_or(0);
        flow.passed(self.from, 0, given as u64, Instant::now());
        *at += given;
        if *at == bytes.len() {
            self.by = if *is_bulk { bulk(worker) } else { By::Copy { full_reads: 0 } };
        }
        Ok(Step::Passed)
    }

    /// One move into the pipe, or out of it.
    fn pipe(
        &mut self,
        worker: &Worker,
        flow: &Flow,
        source: &TcpStream,
        sink: &TcpStream,
    ) -> Result<Step, Event> {
        let By::Pipe { pipe, small_chunks } = &mut self.by else { return Ok(Step::Passed) };
        if pipe.bytes() == 0 {
            let Some(taken) = tried(pipe.fill(source), self.from)? else {
                return Ok(Step::Passed);
            };
            if taken == 0 {
                return Ok(Step::End);
            }
            *small_chunks = if taken < SMALL_BYTES { *small_chunks + 1 } else { 0 };
            flow.passed(self.from, taken as u64, 0, Instant::now());
        } else {
            let given = tried(pipe.drain(sink), self.from.other())?.unwrap_or(0);
            let is_done = pipe.bytes() == 0 && *small_chunks >= SMALL_CHUNKS;
            flow.passed(self.from, 0, given as u64, Instant::now());
            if is_done {
                self.give_back(&worker.pipes);
            }
        }
        Ok(Step::Passed)
    }
}

impl By {
    /// Whether bytes wait for the receiver.
    fn holds(&self) -> bool {
        match self {
            By::Copy { .. } => false,
            By::Rest { .. } => true,
            By::Pipe { pipe, .. } => pipe.bytes() > 0,
        }
    }
}

fn bulk(worker: &Worker) -> By {
    match worker.pipes.lend() {
        Some(pipe) => By::Pipe { pipe, small_chunks: 0 },
        None => By::Copy { full_reads: 0 },
    }
}

/// What the system gave or took; none where it would block, or was interrupted.
fn tried(result: io::Result<usize>, side: Side) -> Result<Option<usize>, Event> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
            _ => Err(broken_by(side, &error)),
        },
    }
}

/// A read that did not fill the buffer has emptied the socket: the next one may wait for word from
/// the kernel, and saves a call.
fn emptied(source: &TcpStream) {
    let would_block = || Err::<(), _>(ErrorKind::WouldBlock.into());
    let _ = source.try_io(Interest::READABLE, would_block);
}
