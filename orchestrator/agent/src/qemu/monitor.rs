//! A client of QEMU's monitor (QMP).
//!
//! A socket takes one client; a second one waits for ever. Answers and events come over one stream
//! and keep their order here: each answer says how many events came before it, which is the proof of
//! what happened first.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long QEMU may take to answer a command.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a starting QEMU may take to open its sockets.
pub(crate) const OPEN_MAX: Duration = Duration::from_secs(20);
/// Between two tries to connect.
const TRY_INTERVAL: Duration = Duration::from_millis(5);
/// Events kept for whoever waits; a move has a few dozen.
const EVENTS_MAX: usize = 1024;
/// Longest line of a monitor.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Why a monitor did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Nobody listens there.
    #[error("{}: no QEMU answers there within {OPEN_MAX:?}; see qemu.log beside the VM's disks", path.display())]
    NotOpen {
        /// The socket.
        path: PathBuf,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// In its words.
        reason: String,
    },
    /// The monitor has ended: QEMU is gone, or another program talks there.
    #[error("the monitor ended before {at} was answered; see whether QEMU still runs")]
    Ended {
        /// What was under way.
        at: String,
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
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Event {
    /// Whether it tells of a migration in one of these states.
    pub(crate) fn is_migration(&self, states: &[&str]) -> bool {
        self.name == "MIGRATION"
            && self.data["status"].as_str().is_some_and(|s| states.contains(&s))
    }
}

/// A place in the stream of events: so many came before it.
pub(crate) type Position = u64;

type Answered = Result<Value, String>;

#[derive(Debug, Default)]
struct Heard {
    events: VecDeque<Event>,
    /// How many were dropped from the front.
    dropped: Position,
    waiting: HashMap<u64, oneshot::Sender<Answered>>,
    has_ended: bool,
}

impl Heard {
    fn position(&self) -> Position {
        self.dropped + u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    fn since(&self, from: Position) -> impl Iterator<Item = (Position, &Event)> {
        (self.dropped..).zip(&self.events).filter(move |(position, _)| *position >= from)
    }
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Notify,
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection to a monitor. Commands may be given by several tasks at a time.
#[derive(Debug)]
pub(crate) struct Monitor {
    writer: tokio::sync::Mutex<(OwnedWriteHalf, u64)>,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    peer: Option<u32>,
}

impl Monitor {
    /// Connects once QEMU has opened the socket; `out_of_band` for one that must work while the
    /// other is stuck.
    pub(crate) async fn connect(path: &Path, out_of_band: bool) -> Result<Monitor, MonitorError> {
        let not_open = || MonitorError::NotOpen { path: path.to_owned() };
        let until = Instant::now() + OPEN_MAX;
        let stream = loop {
            match UnixStream::connect(path).await {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < until => sleep(TRY_INTERVAL).await,
                Err(_) => return Err(not_open()),
            }
        };
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (read, write) = stream.into_split();
        let mut lines = BufReader::new(read);
        // The greeting comes at once, or never: then another client has the socket.
        let greeting = timeout_at(until, next_line(&mut lines)).await;
        if !matches!(greeting, Ok(Ok(Some(_)))) {
            return Err(not_open());
        }
        let shared = Arc::new(Shared::default());
        let reader = tokio::spawn(listen(lines, Arc::clone(&shared)));
        let writer = tokio::sync::Mutex::new((write, 0));
        let peer = pid.and_then(|pid| u32::try_from(pid).ok());
        let monitor = Monitor { writer, shared, reader, peer };
        let enable = if out_of_band { json!({ "enable": ["oob"] }) } else { json!({}) };
        monitor.execute("qmp_capabilities", enable).await?;
        Ok(monitor)
    }

    /// Who listens at the other end.
    pub(crate) fn peer(&self) -> Option<u32> {
        self.peer
    }

    /// Whether the other end is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.with(|heard| heard.has_ended)
    }

    /// Gives a command and waits for its answer.
    pub(crate) async fn execute(
        &self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, MonitorError> {
        self.say("execute", command, arguments).await
    }

    /// Past whatever QEMU is busy with.
    pub(crate) async fn execute_out_of_band(
        &self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, MonitorError> {
        self.say("exec-oob", command, arguments).await
    }

    async fn say(&self, how: &str, command: &str, arguments: Value) -> Result<Value, MonitorError> {
        let ended = || MonitorError::Ended { at: command.to_owned() };
        let (sender, answer) = oneshot::channel();
        let asking = async {
            let mut writer = self.writer.lock().await;
            writer.1 += 1;
            let id = writer.1;
            let is_heard = self.shared.with(|heard| {
                heard.waiting.insert(id, sender);
                !heard.has_ended
            });
            let line = format!("{}\n", json!({ how: command, "arguments": arguments, "id": id }));
            if !is_heard || writer.0.write_all(line.as_bytes()).await.is_err() {
                self.shared.with(|heard| heard.waiting.remove(&id));
                return Err(ended());
            }
            drop(writer);
            answer.await.map_err(|_| ended())
        };
        let answered = timeout(ANSWER_MAX, asking).await.map_err(|_| {
            let what = format!("the answer to {command}");
            MonitorError::TookTooLong { what, bound: ANSWER_MAX }
        })??;
        let refused = |reason| MonitorError::Refused { command: command.to_owned(), reason };
        answered.map_err(refused)
    }

    /// The place of the next event.
    pub(crate) fn position(&self) -> Position {
        self.shared.with(|heard| heard.position())
    }

    /// The first such event from `from` on, which may have come already.
    pub(crate) async fn wait_event(
        &self,
        from: Position,
        what: &str,
        bound: Duration,
        right: impl Fn(&Event) -> bool,
    ) -> Result<Event, MonitorError> {
        let waiting = async {
            loop {
                let news = self.shared.news.notified();
                tokio::pin!(news);
                // Enabled first: what comes between the look and the wait must not be missed.
                news.as_mut().enable();
                let (found, ended) = self.shared.with(|heard| {
                    let found = heard.since(from).find(|(_, event)| right(event));
                    (found.map(|(_, event)| event.clone()), heard.has_ended)
                });
                match found {
                    Some(event) => return Ok(event),
                    None if ended => return Err(MonitorError::Ended { at: what.to_owned() }),
                    None => news.await,
                }
            }
        };
        let late = |_| MonitorError::TookTooLong { what: what.to_owned(), bound };
        timeout(bound, waiting).await.map_err(late)?
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn listen(mut lines: BufReader<OwnedReadHalf>, shared: Arc<Shared>) {
    while let Ok(Some(line)) = next_line(&mut lines).await {
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { break };
        shared.with(|heard| take(heard, message));
        shared.news.notify_waiters();
    }
    shared.with(|heard| {
        heard.has_ended = true;
        heard.waiting.clear();
    });
    shared.news.notify_waiters();
}

fn take(heard: &mut Heard, mut message: Value) {
    if let Some(name) = message["event"].as_str() {
        let event = Event { name: name.to_owned(), data: message["data"].take() };
        if heard.events.len() == EVENTS_MAX {
            heard.events.pop_front();
            heard.dropped += 1;
        }
        heard.events.push_back(event);
        return;
    }
    let Some(waiting) = message["id"].as_u64().and_then(|id| heard.waiting.remove(&id)) else {
        return;
    };
    let answer = match message.get("error") {
        Some(error) => Err(error["desc"].as_str().unwrap_or("without a reason").to_owned()),
        None => Ok(message["return"].take()),
    };
    // Nobody waits for it any more where the time ran out.
    let _ = waiting.send(answer);
}

async fn next_line(lines: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let piece = lines.fill_buf().await?;
        if piece.is_empty() {
            return Ok(None);
        }
        let end = piece.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let length = end.unwrap_or(piece.len());
        line.extend(piece.iter().take(length));
        lines.consume(length);
        if end.is_some() {
            return Ok(Some(line));
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::other("a line without end"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that says these lines once it has been asked something.
    async fn saying(path: &Path, lines: &'static [&'static str]) -> Monitor {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"{\"QMP\":{}}\n").await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut asked = BufReader::new(read);
            next_line(&mut asked).await.unwrap();
            write.write_all(b"{\"return\":{},\"id\":1}\n").await.unwrap();
            next_line(&mut asked).await.unwrap();
            for line in lines {
                write.write_all(line.as_bytes()).await.unwrap();
            }
            next_line(&mut asked).await.unwrap();
        });
        Monitor::connect(path, false).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_found_among_events_and_the_events_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let monitor = saying(
            &folder.path().join("m"),
            &[
                "{\"event\":\"STOP\",\"data\":{}}\n",
                "{\"return\":{},\"id\":2}\n{\"event\":\"RESUME\",\"data\":{}}\n",
            ],
        )
        .await;
        monitor.execute("stop", Value::Null).await.unwrap();
        for name in ["STOP", "RESUME"] {
            monitor.wait_event(0, name, ANSWER_MAX, |event| event.name == name).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_refusal_carries_qemus_words_and_an_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let lines: &[&str] = &["{\"error\":{\"desc\":\"no such node\"},\"id\":2}\n"];
        let monitor = saying(&folder.path().join("m"), lines).await;
        let error = monitor.execute("blockdev-del", Value::Null).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused blockdev-del: no such node");
        let error = monitor.execute("query-status", Value::Null).await.unwrap_err();
        assert!(matches!(error, MonitorError::Ended { .. }), "{error}");
        assert!(monitor.has_ended());
    }
}
