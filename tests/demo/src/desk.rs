//! Ada's desk: what an operator types is shown before it runs, and so is what comes of it.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::host::Host;
use lab::programs;
use lab::sandbox::{Launch, Process};
use orchestrator_api::operator::FlowView;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use scenarios::installation::ON_HOST;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ending::Ending;
use crate::error::DemoError;
use crate::telling::Telling;

/// Where Ada's files are, in the lab.
pub(crate) const HOME: &str = "/tmp/ada";
/// Says where the service is, and who Ada is.
pub(crate) const CONFIG_VARIABLE: &str = "CAUSEWAY_CONFIG";
/// Longest command: a move over the slowest link that the demo makes.
const COMMAND_MAX: Duration = Duration::from_secs(600);
/// How long a command that has said all may take to end.
const END_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a command that is silent, for somebody may want the demo to end.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How much of what a failed command said is told.
const SAID_LINES_MAX: usize = 12;

/// What of a command's words is shown, as they come.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// Every line.
    All,
    /// Each step as it is done; what is under way, on a terminal alone.
    Steps,
    /// The lines of which this is true.
    If(fn(&str) -> bool),
    /// None: they are told in other words.
    Nothing,
}

/// The operator's place.
pub(crate) struct Desk<'e> {
    host: Host,
    ending: &'e Ending,
    /// Commands so far: each has a log of its own for its complaints.
    commands: u32,
}

impl<'e> Desk<'e> {
    pub(crate) fn new(host: Host, ending: &'e Ending) -> Result<Desk<'e>, DemoError> {
        let home = host.place().path(Path::new(HOME));
        std::fs::create_dir_all(&home).map_err(|cause| DemoError::File {
            what: "make",
            path: home,
            cause,
        })?;
        Ok(Desk { host, ending, commands: 0 })
    }

    /// Types a command, and gives what it said.
    pub(crate) fn types(
        &mut self,
        telling: &mut Telling,
        words: &[&str],
        shown: Shown,
    ) -> Result<String, DemoError> {
        telling.typed(&in_words(words));
        self.run(words, |line| match shown {
            Shown::All => telling.heard(line),
            Shown::Steps if is_passing(line) => telling.passing(line),
            Shown::Steps => telling.heard(line),
            Shown::If(is_shown) if is_shown(line) => telling.heard(line),
            Shown::If(_) | Shown::Nothing => {}
        })
    }

    /// Asks for something that is not worth showing: it was shown once, or is part of a wait.
    pub(crate) fn asks(&mut self, words: &[&str]) -> Result<String, DemoError> {
        self.run(words, |_| {})
    }

    /// The same, answered as JSON.
    pub(crate) fn answers<T: DeserializeOwned>(&mut self, words: &[&str]) -> Result<T, DemoError> {
        let told = self.asks(words)?;
        let command = in_words(words);
        serde_json::from_str(&told).map_err(|cause| DemoError::Answer { command, cause })
    }

    /// The flows of a VM, wherever they are carried.
    pub(crate) fn flows_of(&mut self, vm: &str) -> Result<Vec<FlowView>, DemoError> {
        /// What of the command's answer matters here.
        #[derive(Deserialize)]
        struct Flows {
            flows: Vec<FlowView>,
        }
        Ok(self.answers::<Flows>(&["flows", vm, "--json"])?.flows)
    }

    /// A file of Ada's, as the demo reaches it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.host.place().path(&Path::new(HOME).join(name))
    }

    /// Gives Ada a file.
    pub(crate) fn gives(&self, name: &str, bytes: &[u8]) -> Result<(), DemoError> {
        Ok(self.host.place().write_file(&Path::new(HOME).join(name), bytes)?)
    }

    fn run(&mut self, words: &[&str], heard: impl FnMut(&str)) -> Result<String, DemoError> {
        self.ending.check()?;
        self.commands += 1;
        let program = programs::path("causeway")?.display().to_string();
        let launch = Launch::new("env").args(["-C", HOME, &program]).args(words.iter().copied());
        let launch = launch.env(CONFIG_VARIABLE, format!("{ON_HOST}/operator-ada/operator.toml"));
        let launch = launch.log(format!("typed-{}", self.commands)).with_stdout();
        let mut process = self.host.spawn(&launch)?;
        let said = self.listen(words, &mut process, heard)?;
        let status = process.wait(END_MAX)?;
        if status.success() {
            return Ok(said);
        }
        let complaints = self.host.place().read_file(&launch.log_path())?;
        let complaints = String::from_utf8_lossy(&complaints).into_owned();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Err(DemoError::Refused { command: in_words(words), code, said: last_lines(&complaints) })
    }

    /// Reads a command's words to their end, line by line.
    fn listen(
        &self,
        words: &[&str],
        process: &mut Process,
        mut heard: impl FnMut(&str),
    ) -> Result<String, DemoError> {
        let mut stdout = process.stdout.take().expect("it was asked for");
        let deadline = Instant::now() + COMMAND_MAX;
        let (mut said, mut told) = (Vec::new(), 0);
        loop {
            let failed = |cause| DemoError::Unheard { command: in_words(words), cause };
            let mut waiting = [PollFd::new(&stdout, PollFlags::IN)];
            match poll(&mut waiting, Some(&LOOK_INTERVAL)) {
                Ok(0) | Err(Errno::INTR) => {
                    self.ending.check()?;
                    if Instant::now() > deadline {
                        let (what, bound) = ("the end of a command", COMMAND_MAX);
                        let so_far = String::from_utf8_lossy(&said).into_owned();
                        return Err(DemoError::NotInTime { what, bound, so_far });
                    }
                    continue;
                }
                Ok(_) => {}
                Err(cause) => return Err(failed(cause.into())),
            }
            let mut buffer = [0; 4096];
            let read = stdout.read(&mut buffer).map_err(failed)?;
            said.extend_from_slice(&buffer[..read]);
            while let Some(length) = said[told..].iter().position(|byte| *byte == b'\n') {
                heard(&String::from_utf8_lossy(&said[told..told + length]));
                told += length + 1;
            }
            if read == 0 {
                return Ok(String::from_utf8_lossy(&said).into_owned());
            }
        }
    }
}

/// Of `causeway move`: figures on their way, and steps that are not done yet.
fn is_passing(line: &str) -> bool {
    line.starts_with("    ") || line.ends_with("under way")
}

fn in_words(words: &[&str]) -> String {
    format!("causeway {}", words.join(" "))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(SAID_LINES_MAX)..].join("\n")
}
