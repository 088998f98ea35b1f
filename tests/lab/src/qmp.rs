//! A monitor of a QEMU: the lab's own client, blocking, for moves by hand and for watching.
//!
//! A socket takes one client, and a second one waits for ever: each purpose has a socket of its own.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take to answer a command, on a machine busy with other things.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a starting QEMU may take to open its sockets.
pub const OPEN_MAX: Duration = Duration::from_secs(30);
/// Longest line of a monitor.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Events kept for whoever asks later.
const EVENTS_MAX: usize = 4_096;
/// Between two tries to connect.
const TRY_INTERVAL: Duration = Duration::from_millis(5);

/// Why a monitor did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens there.
    #[error("no QEMU opened {} within {OPEN_MAX:?}", path.display())]
    NotOpen {
        /// The socket.
        path: PathBuf,
        /// What the system said to the last try.
        #[source]
        cause: io::Error,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// In its words.
        reason: String,
    },
    /// The monitor ended, or says what cannot be read.
    #[error("the monitor ended at {at}")]
    Ended {
        /// What was under way.
        at: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Nothing came in time.
    #[error("{what} did not come within {bound:?}")]
    TookTooLong {
        /// What was waited for.
        what: String,
        /// How long.
        bound: Duration,
    },
}

/// Something that QEMU said by itself.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name, in capitals.
    pub name: String,
    /// What comes with it.
    pub data: Value,
    /// When, by QEMU's own clock, since 1970.
    pub at: Duration,
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Of a line that has not ended yet.
    partial: Vec<u8>,
    events: VecDeque<Event>,
    last_id: u64,
}

impl Qmp {
    /// Connects once QEMU has opened the socket.
    ///
    /// # Errors
    /// It never does, or is no QEMU.
    pub fn connect(path: &Path) -> Result<Self, QmpError> {
        let until = Instant::now() + OPEN_MAX;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < until => thread::sleep(TRY_INTERVAL),
                Err(cause) => return Err(QmpError::NotOpen { path: path.to_owned(), cause }),
            }
        };
        let mut qmp = Self {
            stream: BufReader::new(stream),
            partial: Vec::new(),
            events: VecDeque::new(),
            last_id: 0,
        };
        // The greeting.
        qmp.next_message("the greeting", until)?;
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// A second handle, by which another thread can end this connection.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn lifeline(&self) -> io::Result<UnixStream> {
        self.stream.get_ref().try_clone()
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// QEMU refuses, ends, or is silent for [`ANSWER_MAX`].
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        let ended = |cause| QmpError::Ended { at: command.to_owned(), cause };
        self.stream.get_mut().write_all(format!("{message}\n").as_bytes()).map_err(ended)?;
        let until = Instant::now() + ANSWER_MAX;
        loop {
            let mut answer = self.next_message(command, until)?;
            if answer["id"] != id {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let reason = error["desc"].as_str().unwrap_or("without a reason").to_owned();
                return Err(QmpError::Refused { command: command.to_owned(), reason });
            }
            return Ok(answer["return"].take());
        }
    }

    /// The next event that is right, also of those that came while a command was answered; what
    /// came before it is dropped.
    ///
    /// # Errors
    /// None comes in time, or QEMU ends.
    pub fn wait_event(
        &mut self,
        what: &str,
        bound: Duration,
        right: impl Fn(&Event) -> bool,
    ) -> Result<Event, QmpError> {
        let until = Instant::now() + bound;
        loop {
            while let Some(event) = self.events.pop_front() {
                if right(&event) {
                    return Ok(event);
                }
            }
            match self.next_message(what, until) {
                Ok(_) => {}
                Err(QmpError::TookTooLong { what, .. }) => {
                    return Err(QmpError::TookTooLong { what, bound });
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// The next event of any name, whenever it comes.
    ///
    /// # Errors
    /// The monitor has ended.
    pub fn next_event(&mut self) -> Result<Event, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.next_message("an event", Instant::now() + ANSWER_MAX) {
                Ok(_) | Err(QmpError::TookTooLong { .. }) => {}
                Err(ended) => return Err(ended),
            }
        }
    }

    /// The next message; an event is kept as well.
    fn next_message(&mut self, what: &str, until: Instant) -> Result<Value, QmpError> {
        let ended = |cause| QmpError::Ended { at: what.to_owned(), cause };
        let line = self.next_line(what, until)?;
        let message: Value =
            serde_json::from_slice(&line).map_err(|cause| ended(io::Error::other(cause)))?;
        if let Some(event) = event_of(&message) {
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
        Ok(message)
    }

    fn next_line(&mut self, what: &str, until: Instant) -> Result<Vec<u8>, QmpError> {
        let ended = |cause| QmpError::Ended { at: what.to_owned(), cause };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QmpError::TookTooLong { what: what.to_owned(), bound: ANSWER_MAX });
            }
            self.stream.get_ref().set_read_timeout(Some(left)).map_err(ended)?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Err(ended(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    return Ok(std::mem::take(&mut self.partial));
                }
                Ok(_) => {}
                Err(cause) if is_time_out(&cause) => {}
                Err(cause) => return Err(ended(cause)),
            }
            if self.partial.len() > LINE_BYTES_MAX {
                return Err(ended(io::Error::other("a line without end")));
            }
        }
    }
}

fn is_time_out(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn event_of(message: &Value) -> Option<Event> {
    let name = message.get("event")?.as_str()?.to_owned();
    let part = |unit: &str| message["timestamp"][unit].as_u64().unwrap_or(0);
    let at = Duration::from_secs(part("seconds")) + Duration::from_micros(part("microseconds"));
    Some(Event { name, data: message["data"].clone(), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that says these lines, whatever it is asked.
    fn saying(lines: &[&str]) -> (Qmp, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut qemu = theirs.try_clone().unwrap();
        for line in lines {
            qemu.write_all(line.as_bytes()).unwrap();
        }
        let stream = BufReader::new(ours);
        (Qmp { stream, partial: Vec::new(), events: VecDeque::new(), last_id: 0 }, theirs)
    }

    const STOP: &str =
        "{\"event\":\"STOP\",\"timestamp\":{\"seconds\":7,\"microseconds\":250000}}\n";

    #[test]
    fn an_answer_is_found_among_events_and_the_events_are_kept() {
        let (mut qmp, _theirs) = saying(&[STOP, "{\"return\":{\"status\":\"paused\"},\"id\":1}\n"]);
        let status = qmp.execute("query-status", Value::Null).unwrap();
        assert_eq!(status["status"], "paused");
        let event = qmp.wait_event("STOP", ANSWER_MAX, |event| event.name == "STOP").unwrap();
        assert_eq!(event.at, Duration::from_millis(7_250));
    }

    #[test]
    fn a_refusal_carries_qemus_words() {
        let refusal =
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such node\"},\"id\":1}\n";
        let (mut qmp, _theirs) = saying(&[refusal]);
        let error = qmp.execute("blockdev-del", Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused blockdev-del: no such node");
    }

    #[test]
    fn a_monitor_that_ends_or_talks_nonsense_is_told() {
        let (mut qmp, theirs) = saying(&[STOP]);
        drop(theirs);
        assert!(matches!(qmp.next_event().map(|event| event.name), Ok(name) if name == "STOP"));
        assert!(matches!(qmp.next_event(), Err(QmpError::Ended { .. })));
        let (mut qmp, _theirs) = saying(&["not json\n"]);
        assert!(matches!(qmp.next_event(), Err(QmpError::Ended { .. })));
    }

    #[test]
    fn what_does_not_come_is_named() {
        let (mut qmp, mut theirs) = saying(&[]);
        theirs.write_all(b"{\"ev").unwrap();
        let bound = Duration::from_millis(30);
        let error = qmp.wait_event("the end", bound, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "the end did not come within 30ms");
        theirs.write_all(&STOP.as_bytes()[4..]).unwrap();
        assert_eq!(qmp.wait_event("STOP", ANSWER_MAX, |_| true).unwrap().name, "STOP");
    }
}
