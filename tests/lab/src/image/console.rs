//! What a VM's console must say, and what it must never say. Pure.

use guest::service::{ALIVE, READY};

use super::parts::INIT_FAILED;

/// Words of a kernel in trouble. With `quiet` a healthy one prints nothing at all.
const TROUBLE: [&str; 11] = [
    "BUG:",
    "Oops",
    "Kernel panic",
    "general protection fault",
    "Call Trace",
    "segfault",
    "Unable to handle",
    "double fault",
    "Out of memory",
    "I/O error",
    "Rebooting",
];

/// How this console's VM came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It booted here.
    Booting,
    /// It arrived from elsewhere, running.
    Moving,
}

/// What is wrong with a console.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleFault {
    /// The kernel, the init script or the guest program is in trouble.
    #[error("line {line} of the console tells of trouble: {text}")]
    Trouble {
        /// Which line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// The guest never said that it serves.
    #[error("the console is silent: no line begins with '{READY}'; its last line: {last}")]
    NeverReady {
        /// The last line there is.
        last: String,
    },
    /// The guest started more often than its VM did: it was reset.
    #[error("the guest started {starts} times here where {expected} was due: the VM was reset")]
    Restarted {
        /// How often.
        starts: usize,
        /// How often it should have.
        expected: usize,
    },
    /// The guest's event loop has not turned here.
    #[error("the console is silent: no whole line '{ALIVE}'")]
    NeverAlive,
    /// Signs of life that do not follow one another: another state of the VM has run.
    #[error("sign of life {found} follows {before} on the console")]
    Repeated {
        /// The one before.
        before: u64,
        /// The one that does not follow.
        found: u64,
    },
}

/// Judges the console of a VM that runs, or ran, for a few seconds at least; its `heartbeat` was set.
///
/// # Errors
/// The first fault.
pub fn check(console: &str, came: Came) -> Result<(), ConsoleFault> {
    for (number, line) in console.lines().enumerate() {
        let failed = line.contains(INIT_FAILED);
        if failed || TROUBLE.iter().any(|word| line.contains(word)) {
            return Err(ConsoleFault::Trouble { line: number + 1, text: line.trim().into() });
        }
    }
    let starts = console.lines().filter(|line| line.contains(READY)).count();
    let expected = usize::from(came == Came::Booting);
    if starts > expected {
        return Err(ConsoleFault::Restarted { starts, expected });
    }
    if starts < expected {
        let last = console.lines().last().unwrap_or_default().trim().into();
        return Err(ConsoleFault::NeverReady { last });
    }
    check_life(console)
}

/// A line that the move cut in two is passed over; the rest count up.
fn check_life(console: &str) -> Result<(), ConsoleFault> {
    let whole = console.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let beats = whole.filter_map(|line| line.trim().strip_prefix(ALIVE)?.trim().parse().ok());
    let mut before = None;
    for found in beats {
        if let Some(before) = before
            && found <= before
        {
            return Err(ConsoleFault::Repeated { before, found });
        }
        before = Some(found);
    }
    before.map(drop).ok_or(ConsoleFault::NeverAlive)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "causeway-init: up\r\n\
        causeway-guest: ready port=7000 control=7001 boot=00\r\n\
        causeway-guest: alive 0\r\ncausewa\r\ncauseway-guest: alive 2\r\ncauseway-guest: al";

    #[test]
    fn a_good_console_passes_for_how_its_vm_came() {
        assert_eq!(check(GOOD, Came::Booting), Ok(()));
        let arrived = "-guest: alive 7\r\ncauseway-guest: alive 8\r\n";
        assert_eq!(check(arrived, Came::Moving), Ok(()));
    }

    #[test]
    fn trouble_is_named_with_its_line() {
        for trouble in ["[ 3.1] BUG: kernel NULL pointer", "Oops: 0000 [#1]", "Kernel panic - not"]
        {
            let fault = check(&format!("{GOOD}\n{trouble}\n"), Came::Booting).unwrap_err();
            assert_eq!(fault, ConsoleFault::Trouble { line: 7, text: trouble.into() });
        }
        let ended = format!("{GOOD}\n{INIT_FAILED}: the guest program ended with status 1\n");
        assert!(matches!(check(&ended, Came::Booting), Err(ConsoleFault::Trouble { .. })));
    }

    #[test]
    fn silence_is_a_fault() {
        assert!(matches!(check("", Came::Booting), Err(ConsoleFault::NeverReady { .. })));
        let stuck = "causeway-init: up\n";
        assert!(matches!(check(stuck, Came::Booting), Err(ConsoleFault::NeverReady { .. })));
        assert_eq!(check("causeway-guest: alive 9", Came::Moving), Err(ConsoleFault::NeverAlive));
    }

    #[test]
    fn a_reset_and_an_old_state_are_told() {
        let reset = format!("{GOOD}\n{GOOD}\n");
        let fault = check(&reset, Came::Booting).unwrap_err();
        assert_eq!(fault, ConsoleFault::Restarted { starts: 2, expected: 1 });
        let fault = check(GOOD, Came::Moving).unwrap_err();
        assert_eq!(fault, ConsoleFault::Restarted { starts: 1, expected: 0 });
        let old = "causeway-guest: alive 5\ncauseway-guest: alive 4\n";
        let fault = check(old, Came::Moving).unwrap_err();
        assert_eq!(fault, ConsoleFault::Repeated { before: 5, found: 4 });
    }
}
