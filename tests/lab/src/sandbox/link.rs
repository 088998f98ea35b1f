//! The harness's end of a place's socket: requests go out, and one thread takes in what comes back.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use super::wire::{self, Event, Request};
use crate::LabError;

/// How long a place's first process may take to start a program.
const START_MS_MAX: u64 = 20_000;

pub(super) struct Link {
    place: String,
    socket: OwnedFd,
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Default)]
struct Known {
    is_ready: bool,
    failed: Option<String>,
    is_gone: bool,
    next_id: u64,
    /// The processes with a handle.
    processes: HashMap<u64, Life>,
}

enum Life {
    Asked,
    Refused(String),
    Running { pid: u32 },
    Ended { pid: u32, status: i32 },
}

impl Link {
    pub(super) fn new(place: String, socket: OwnedFd) -> Self {
        Self { place, socket, known: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Takes in what the place tells until it is gone.
    pub(super) fn read_to_end(&self) {
        let mut buffer = Vec::new();
        loop {
            match wire::receive(&self.socket, &mut buffer) {
                Ok(Some((event, _))) => self.note(event),
                Ok(None) => break,
                Err(error) => {
                    self.known().failed = Some(error.to_string());
                    break;
                }
            }
        }
        self.known().is_gone = true;
        self.changed.notify_all();
    }

    pub(super) fn wait_ready(&self, bound: Duration) -> Result<(), LabError> {
        let what = format!("place {} standing", self.place);
        let known = self.wait(&what, bound, |known| {
            known.is_ready || known.failed.is_some() || known.is_gone
        })?;
        if known.is_ready {
            return Ok(());
        }
        Err(LabError::PlaceNotMade {
            place: self.place.clone(),
            reason: known
                .failed
                .clone()
                .unwrap_or_else(|| "its first process ended at once".to_owned()),
        })
    }

    /// Asks for a start and waits for it; the request is built from the id that it gets. Gives the
    /// id and the process's number in the place.
    pub(super) fn start(
        &self,
        program: &str,
        request: impl FnOnce(u64) -> Request,
        streams: &[BorrowedFd<'_>],
    ) -> Result<(u64, u32), LabError> {
        let id = {
            let mut known = self.known();
            known.next_id += 1;
            let id = known.next_id;
            known.processes.insert(id, Life::Asked);
            id
        };
        let started =
            self.send(&request(id), streams).and_then(|()| self.wait_started(program, id));
        match started {
            Ok(pid) => Ok((id, pid)),
            Err(error) => {
                self.forget(id);
                Err(error)
            }
        }
    }

    fn wait_started(&self, program: &str, id: u64) -> Result<u32, LabError> {
        let what = format!("the start of {program} in {}", self.place);
        let known = self.wait(&what, Duration::from_millis(START_MS_MAX), |known| {
            known.is_gone || !matches!(known.processes.get(&id), Some(Life::Asked))
        })?;
        match known.processes.get(&id) {
            Some(Life::Running { pid } | Life::Ended { pid, .. }) => Ok(*pid),
            Some(Life::Refused(reason)) => Err(LabError::NotStarted {
                program: program.to_owned(),
                place: self.place.clone(),
                reason: reason.clone(),
            }),
            Some(Life::Asked) | None => Err(self.gone()),
        }
    }

    /// The wait status of a process, once it has ended and was reaped; `None` at the bound.
    pub(super) fn wait_ended(&self, id: u64, bound: Duration) -> Result<Option<i32>, LabError> {
        let ended = |known: &mut Known| match known.processes.get(&id) {
            Some(Life::Ended { status, .. }) => Some(*status),
            _ => None,
        };
        let known = self.known();
        let (mut known, _) = self
            .changed
            .wait_timeout_while(known, bound, |known| ended(known).is_none() && !known.is_gone)
            .unwrap_or_else(PoisonError::into_inner);
        match ended(&mut known) {
            Some(status) => Ok(Some(status)),
            None if known.is_gone => Err(self.gone()),
            None => Ok(None),
        }
    }

    pub(super) fn signal(&self, id: u64, signal: i32) -> Result<(), LabError> {
        self.send(&Request::Signal { id, signal }, &[])
    }

    /// Nobody will ask about this process again.
    pub(super) fn forget(&self, id: u64) {
        self.known().processes.remove(&id);
    }

    /// The place's first process reads this as the end of the harness.
    pub(super) fn close(&self) {
        // Refused only where the other end is gone already, which is what was wanted.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    fn send(&self, request: &Request, streams: &[BorrowedFd<'_>]) -> Result<(), LabError> {
        wire::send(self.socket.as_fd(), request, streams).map_err(|cause| match cause.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.gone(),
            _ => LabError::refused(format!("ask place {}", self.place), cause),
        })
    }

    fn note(&self, event: Event) {
        let mut known = self.known();
        match event {
            Event::Ready => known.is_ready = true,
            Event::Failed { reason } => known.failed = Some(reason),
            Event::Spawned { id, pid } => known.change(id, |_| Life::Running { pid }),
            Event::Refused { id, reason } => known.change(id, |_| Life::Refused(reason)),
            Event::Ended { id, status } => known.change(id, |life| match life {
                Life::Running { pid } => Life::Ended { pid: *pid, status },
                _ => Life::Ended { pid: 0, status },
            }),
        }
        drop(known);
        self.changed.notify_all();
    }

    fn wait(
        &self,
        what: &str,
        bound: Duration,
        until: impl Fn(&Known) -> bool,
    ) -> Result<MutexGuard<'_, Known>, LabError> {
        let deadline = Instant::now() + bound;
        let mut known = self.known();
        while !until(&known) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LabError::TookTooLong { what: what.to_owned(), bound });
            }
            let waited = self.changed.wait_timeout(known, left);
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(known)
    }

    fn gone(&self) -> LabError {
        LabError::PlaceEnded { place: self.place.clone() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Of processes whose handle is gone nothing is kept.
    fn change(&mut self, id: u64, next: impl FnOnce(&Life) -> Life) {
        if let Some(life) = self.processes.get_mut(&id) {
            *life = next(life);
        }
    }
}
