//! What the demo says: numbered chapters, commands as they are typed, and what comes of them.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Of a line that is written over by the next one: a wider one would leave its beginning behind.
const TRANSIENT_COLUMNS_MAX: usize = 76;

/// Without a terminal, what is passing is shown after so long a silence.
const PASSING_INTERVAL: Duration = Duration::from_secs(10);

/// How it is said.
pub(crate) struct Telling {
    is_terminal: bool,
    has_colours: bool,
    chapter: u32,
    /// A line stands there that the next one writes over.
    is_transient: bool,
    said_at: Instant,
}

impl Telling {
    pub(crate) fn new() -> Telling {
        let is_terminal = io::stdout().is_terminal();
        let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Telling {
            is_terminal,
            has_colours,
            chapter: 0,
            is_transient: false,
            said_at: Instant::now(),
        }
    }

    /// Before all chapters.
    pub(crate) fn title(&mut self, text: &str) {
        let text = self.styled("1", text);
        self.line(&text);
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let heading = format!("{}. {title}", self.chapter);
        let heading = self.styled("1", &heading);
        self.line("");
        self.line(&heading);
    }

    /// A line of a chapter.
    pub(crate) fn says(&mut self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// What an operator types.
    pub(crate) fn typed(&mut self, command: &str) {
        let command = self.styled("36", &format!("$ {command}"));
        self.line(&format!("   {command}"));
    }

    /// What a command says.
    pub(crate) fn heard(&mut self, line: &str) {
        self.line(format!("   {line}").trim_end());
    }

    /// What matters only until the next line: written over by it on a terminal, and elsewhere shown so
    /// seldom that a reader sees what takes so long.
    pub(crate) fn passing(&mut self, line: &str) {
        if !self.is_terminal {
            if self.said_at.elapsed() >= PASSING_INTERVAL {
                self.says(line);
            }
            return;
        }
        let cut: String = line.chars().take(TRANSIENT_COLUMNS_MAX).collect();
        print(&format!("\r\x1b[K   {}", self.styled("2", &cut)));
        self.is_transient = true;
    }

    /// A verdict.
    pub(crate) fn judged(&mut self, text: &str, is_good: bool) {
        let colour = if is_good { "1;32" } else { "1;31" };
        let text = self.styled(colour, text);
        self.line(&format!("   {text}"));
    }

    fn line(&mut self, text: &str) {
        let over = if self.is_transient { "\r\x1b[K" } else { "" };
        self.is_transient = false;
        self.said_at = Instant::now();
        print(&format!("{over}{text}\n"));
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.has_colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A reader that has gone away is no reason to leave a VM half moved.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
