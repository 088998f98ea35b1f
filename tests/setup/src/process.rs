//! Other programs: finding them, running them, with root's rights where needed, and ending a whole
//! family of them when its time is up.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::Failure;

/// How often a running step is looked at.
const POLL_MS: u64 = 100;

/// Where a program stands, in the operator's path or where administrators' programs are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(administrators)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    effective == Some("0")
}

/// A command that runs as root: as it is, or through sudo.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Runs a command to its end and takes what it prints.
pub(crate) fn output_of(command: &mut Command) -> Result<String, Failure> {
    let name = display(command);
    let output = command
        .output()
        .map_err(|error| Failure::Step(format!("{name}: could not be started: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Step(format!("{name}: {}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command whose output is the operator's to read.
pub(crate) fn run(command: &mut Command, time_max: Duration) -> Result<(), Failure> {
    let name = display(command);
    let mut child = command
        .spawn()
        .map_err(|error| Failure::Step(format!("{name}: could not be started: {error}")))?;
    let started = Instant::now();
    loop {
        let ended = child.try_wait();
        match ended.map_err(|error| Failure::Step(format!("{name}: {error}")))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Failure::Step(format!("{name}: {status}"))),
            None if started.elapsed() > time_max => {
                end_family(&mut child);
                let minutes = time_max.as_secs() / 60;
                let words = format!("{name}: not done after {minutes} minutes, and ended");
                return Err(Failure::Step(words));
            }
            None => std::thread::sleep(Duration::from_millis(POLL_MS)),
        }
    }
}

fn display(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Ends a process and all that descends from it. A test that hangs is a grandchild, and would hold
/// the machine's one place for a virtual machine for ever.
fn end_family(child: &mut Child) {
    let mut family = vec![child.id()];
    let parents: Vec<(u32, u32)> = processes();
    let mut known = 0;
    while known < family.len() {
        let parent = family[known];
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        known += 1;
    }
    for id in family.iter().rev() {
        // Gone already is as good as ended.
        let _ = as_root("kill").args(["-KILL", &id.to_string()]).output();
    }
    let _ = child.wait();
}

/// Every process with its parent.
fn processes() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, parent_of(id)?)))
        .collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    // The name may hold spaces and parentheses; what follows its last one does not.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_past_its_time_is_ended_with_its_children() {
        let marker = format!("86{:06}", std::process::id());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sh -c 'sleep {marker}; :'; :")]);
        let failure = run(&mut command, Duration::from_millis(300));
        assert!(matches!(failure, Err(Failure::Step(words)) if words.contains("ended")));
        let left = processes().into_iter().filter(|(id, _)| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&marker)
        });
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn programs_of_administrators_are_found_too() {
        assert!(find("sh").is_some());
        assert!(find("there-is-no-such-program").is_none());
    }
}
