//! Everything stays as it is, to play with, until somebody ends it.

use std::io::{self, IsTerminal, Read};
use std::thread;
use std::time::Duration;

use lab::sandbox::Place;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use scenarios::installation::ON_HOST;

use super::Story;
use crate::desk::{CONFIG_VARIABLE, HOME};
use crate::error::DemoError;

/// Between two looks at whether somebody wants it to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Story<'_> {
    /// Says how to enter each host and what to type there; returns when Enter is pressed.
    pub(super) fn keep(&mut self) -> Result<(), DemoError> {
        self.telling.chapter("It is yours");
        self.telling.says("To enter a host, from another terminal, as root:");
        let places: Vec<Place> = self.stage.world.places().cloned().collect();
        for place in &places {
            for host in place.netns_names()? {
                let pid = place.init_pid();
                self.telling.says(&format!(
                    "  {:<22} nsenter -t {pid} -m -u -i -p --net=/proc/{pid}/root/run/netns/{host}",
                    format!("{} {host}", place.name())
                ));
            }
        }
        let programs = lab::programs::folder()?;
        self.telling.says("At the desk:");
        for line in [
            format!("cd {HOME}; export PATH={}:$PATH", programs.display()),
            format!("export {CONFIG_VARIABLE}={ON_HOST}/operator-ada/operator.toml"),
        ] {
            self.telling.says(&format!("  {line}"));
        }
        let (there, _) = if self.asked.back { ("b", "a") } else { ("a", "b") };
        for line in [
            "causeway status".to_owned(),
            "causeway flows web".to_owned(),
            format!("causeway move web --to {there}"),
            "causeway report web".to_owned(),
            "causeway reclaim web".to_owned(),
        ] {
            self.telling.typed(&line);
        }
        self.telling.says("Enter or Ctrl-C takes everything away.");
        self.wait()
    }

    fn wait(&self) -> Result<(), DemoError> {
        let mut stdin = io::stdin();
        // Without a terminal nobody can press Enter: only a signal ends it.
        let has_enter = stdin.is_terminal();
        loop {
            if self.ending.is_asked() {
                return Ok(());
            }
            if !has_enter {
                thread::sleep(LOOK_INTERVAL);
                continue;
            }
            let look = Timespec { tv_sec: 0, tv_nsec: LOOK_INTERVAL.subsec_nanos().into() };
            let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
            if matches!(poll(&mut waiting, Some(&look)), Ok(1..)) {
                let mut pressed = [0];
                // The end of the terminal is an end as well.
                let _ = stdin.read(&mut pressed);
                return Ok(());
            }
        }
    }
}
